"""Edit a picture: ``python -m policy.edit PICTURE "make the circle blue" -o out.png [--policy FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from policy.base import Policy
from policy.paint import check_out, paint_prompt
from policy.pictures.given import given_picture, require_task
from policy.pictures.view import square_view
from rl.data.pictures import Picture
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import Prompt


def edit(
    policy: Policy, picture: Picture, instruction: str, *, count: int, seed: int, steps: int, guidance: float
) -> NDArray[np.uint8]:
    """(count, H, W, 3) uint8 answers to one instruction; answer ``i`` depends on ``seed + i`` alone."""
    prompt = Prompt("edit", instruction, pictures=(picture,))
    return paint_prompt(policy, prompt, count=count, seed=seed, steps=steps, guidance=guidance)


@command
def main() -> int:
    parser = CommandParser(prog="python -m policy.edit", description=__doc__)
    parser.add_argument("picture", type=Path)
    parser.add_argument("instruction")
    parser.add_argument("-o", "--out", type=Path, default=Path("out.png"))
    parser.add_argument("--policy", default="shapes", help="policy folder, or an embedded model's name")
    parser.add_argument("-n", "--count", type=int, default=1, help="answers, side by side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=4, help="Euler steps of the decoder")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--beside", action="store_true", help="the picture itself, as the policy sees it, on the left")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    check_out(options.out)
    picture = given_picture(options.picture, "name the one to be edited")
    require_task(options.policy, "edit", "does not edit, it draws from text alone", "edit")
    policy = Policy.load(options.policy, device=options.device)
    if unknown := policy.encode_prompt.unknown_words(options.instruction):
        print(f"note: this model does not know the words {', '.join(unknown)}", file=sys.stderr)
    pictures = edit(
        policy,
        picture,
        options.instruction,
        count=options.count,
        seed=options.seed,
        steps=options.steps,
        guidance=options.guidance,
    )
    shown = [square_view(picture.pixels, policy.decoder.picture_side)] * options.beside + list(pictures)
    Image.fromarray(np.concatenate(shown, axis=1)).save(options.out)
    print(f"{options.out}: {options.count} x {options.instruction!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
