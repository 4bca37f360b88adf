"""The table on the embedded model's card: ``python -m tests.policy.shapes.figures`` (two minutes)."""

from __future__ import annotations

import numpy as np

from policy.base import Policy
from rewards.library.details.reward import Details
from rl.data.shapes.prompts import prompts
from rl.registry import resolve
from rl.types import Prompt
from tests.policy.shapes.test_shipped_model import _paint, _samples, _strict, _true_tokens

EACH, DETAILS, SEVERAL = 60, ("ground", "look", "details"), (1, 2, 3, 8)


def main() -> None:
    policy = Policy.load("shapes")
    asked = prompts("heldout", EACH)
    true = _true_tokens(policy, asked)
    pictures = _paint(policy, asked, true)
    _say("pictures of true tokens pass the strict checks", np.mean(list(_strict(asked, pictures).values())))
    one = _paint(policy, asked, true, steps=1)
    _say("the same with 1 step", np.mean(list(_strict(asked, one).values())))
    read = policy.image_tokenizer.encode(pictures)
    _say("true tokens that the image tokenizer finds again", (read == true).mean())
    words = prompts("heldout", EACH, tags=("ocr",))
    spelled = _true_tokens(policy, words)
    found = policy.image_tokenizer.encode(_paint(policy, words, spelled))
    _say("words painted from true tokens that it reads back", (found == spelled).all(1).mean())
    detailed = prompts("heldout", EACH, tags=DETAILS)
    sampler = resolve("samplers", "torch")(policy.folder, policy.layout, encode=policy.encode_prompt)
    own = sampler.sample(detailed, 1, range(len(detailed))).tokens_BT
    for name, tokens in (("true", _true_tokens(policy, detailed)), ("own", own)):
        for steps in SEVERAL:
            pictures = _paint(policy, detailed, tokens, steps=steps)
            _say(f"details, {name} tokens, {steps} steps", _details(detailed, pictures))


def _details(asked: list[Prompt], pictures: np.ndarray) -> float:
    return float(np.mean([score.value for score in Details()(_samples(asked, pictures))]))


def _say(what: str, value: float | np.floating) -> None:
    print(f"{what}: {value:.4f}")


if __name__ == "__main__":
    main()
