"""Paint a prompt: ``python -m policy.paint "two red circles" -o out.png [--policy FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from policy.base import Policy
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.registry import resolve
from rl.types import Prompt, UserError


def paint(policy: Policy, text: str, *, count: int, seed: int, steps: int, guidance: float) -> NDArray[np.uint8]:
    """(count, H, W, 3) uint8 pictures of one prompt; picture ``i`` depends on ``seed + i`` alone."""
    return paint_prompt(policy, Prompt("paint", text), count=count, seed=seed, steps=steps, guidance=guidance)


@torch.no_grad()
def paint_prompt(
    policy: Policy, prompt: Prompt, *, count: int, seed: int, steps: int, guidance: float
) -> NDArray[np.uint8]:
    """The same of any prompt that the policy reads."""
    seeds = [seed + index for index in range(count)]
    room = max(256, policy.prompt_length(prompt))
    sampler = resolve("samplers", "torch")(
        policy.folder, policy.layout, encode=policy.encode_prompt, max_prompt_tokens=room
    )
    rollout = sampler.sample([prompt], count, seeds, hidden=True)
    references = [next(iter(prompt.pictures), None)] * count
    return policy.decoder.paint(rollout.hidden_BSD, seeds, steps=steps, guidance=guidance, references=references)


@command
def main() -> int:
    parser = CommandParser(prog="python -m policy.paint", description=__doc__)
    parser.add_argument("prompt")
    parser.add_argument("-o", "--out", type=Path, default=Path("out.png"))
    parser.add_argument("--policy", default="shapes", help="policy folder, or an embedded model's name")
    parser.add_argument("-n", "--count", type=int, default=4, help="pictures, side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4, help="Euler steps of the decoder")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    check_out(options.out)
    policy = Policy.load(options.policy, device=options.device)
    if unknown := policy.encode_prompt.unknown_words(options.prompt):
        print(f"note: this model does not know the words {', '.join(unknown)}", file=sys.stderr)
    pictures = paint(
        policy,
        options.prompt,
        count=options.count,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
    )
    Image.fromarray(np.concatenate(list(pictures), axis=1)).save(options.out)
    print(f"{options.out}: {options.count} pictures of {options.prompt!r}")
    return 0


def check_out(out: Path) -> None:
    """Before anything is loaded: a folder that is there, and a kind of file that can be written."""
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: there is no folder {out.parent}; make it, or name another")
    if out.suffix.lower() not in Image.registered_extensions():
        raise UserError(f"--out {out}: {out.suffix or 'no ending'} is no kind of picture; write .png")


if __name__ == "__main__":
    sys.exit(main())
