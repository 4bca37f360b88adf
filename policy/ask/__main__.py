"""Ask about a picture: ``python -m policy.ask PICTURE "how many red circles?" [--policy FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from policy.ar.decoding import Decoding
from policy.ar.span import ids_of, rows_of
from policy.base import Policy
from policy.folder import CODES, FEATURES
from policy.pictures.given import given_picture, require_task
from policy.words import Words
from rl.data.pictures import Picture
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import Prompt, UserError, WrittenAnswer


@torch.inference_mode()
def ask(policy: Policy, picture: Picture, question: str, *, most: int = 16) -> WrittenAnswer:
    """The likeliest word after word, at most ``most`` of them."""
    words = Words.of(policy.tokenizer, policy.layout, most)
    asked = policy.encode_prompt(Prompt("question", question, {"task": "answer"}, (picture,)))
    owner = torch.zeros(1, dtype=torch.long, device=policy.ar.device)
    decoding = Decoding(policy.ar, [asked.ids], owner, words.span.most, features=[asked.features])
    written = list[int]()
    head_KD, hidden_BD = rows_of(words.span, policy.ar.lm_head.weight), decoding.first_hidden_BD
    while len(written) < words.span.most:
        token_B = ids_of(words.span, (hidden_BD @ head_KD.T).argmax(-1))
        written.append(int(token_B))
        if written[-1] == words.span.end or len(written) == words.span.most:
            break
        hidden_BD = decoding.step(token_B)
    return words.read([written])[0]


@command
def main() -> int:
    parser = CommandParser(prog="python -m policy.ask", description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("question")
    parser.add_argument("--policy", default="shapes", help="policy folder, or an embedded model's name")
    parser.add_argument("--tokens", type=int, default=16, help="longest answer, with its end")
    parser.add_argument("--reads", choices=(CODES, FEATURES), help="the picture by these, if not as the policy says")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.tokens < 1:
        raise UserError(f"--tokens is {options.tokens}; an answer has at least one.")
    picture = given_picture(options.picture, "name the one that you ask about")
    otherwise = "does not answer questions, it makes pictures alone"
    require_task(options.policy, "answer", otherwise, "answer")
    policy = Policy.load(options.policy, device=options.device, reads=options.reads)
    if unknown := policy.encode_prompt.unknown_words(options.question):
        print(f"note: this model does not know the words {', '.join(unknown)}", file=sys.stderr)
    answer = ask(policy, picture, options.question, most=options.tokens)
    if not answer.complete:
        print(f"note: the answer has no end within {options.tokens} tokens; raise --tokens", file=sys.stderr)
    print(answer.text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
