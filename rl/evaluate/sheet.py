"""The same prompts painted by every policy, side by side on one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rl.evaluate.store import first_picture
from rl.evaluation.evaluate import grid_prompts
from rl.evaluation.results import Evaluation, mark
from rl.tracking.grid import make_grid
from rl.types import Prompt

_LARGEST = 512  # pixels of a side


def write_sheet(path: Path, out: Path, found: Mapping[str, Evaluation], prompts: Sequence[Prompt], count: int) -> bool:
    """The first ``count`` prompts, the tasks in turn, a picture of each policy. False if nothing is to be shown."""
    places = {prompt.id: index for index, prompt in enumerate(prompts)}
    shown = grid_prompts(prompts, count)
    if not shown:
        return False
    pairs = [(prompt, name) for prompt in shown for name in found]
    pictures = [first_picture(out / name, places[prompt.id]) for prompt, name in pairs]
    side = min(_LARGEST, max(max(picture.shape[:2]) for picture in pictures))
    captions = [_caption(found[name], prompt, name if len(found) > 1 else "") for prompt, name in pairs]
    columns = len(found) * math.ceil(math.sqrt(len(shown) / len(found)))  # about as wide as high
    make_grid(np.stack([_square(picture, side) for picture in pictures]), captions, columns).save(path)
    return True


def _caption(evaluation: Evaluation, prompt: Prompt, name: str) -> str:
    """``base [pass] two red circles``"""
    first = next((one.seed for one in evaluation.outcomes if one.prompt_id == prompt.id), None)
    marks = [mark(one.value) for one in evaluation.outcomes if (one.prompt_id, one.seed) == (prompt.id, first)]
    return " ".join([*([name] if name else []), *(f"[{one}]" for one in marks), prompt.text])


def _square(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Fitted into a white square; pixels stay sharp where they are enlarged."""
    image = Image.fromarray(picture)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    fitted = image.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), "white")
    square.paste(fitted, ((side - fitted.width) // 2, (side - fitted.height) // 2))
    return np.asarray(square)
