"""Answers to instructions that are the picture as it was, and answers that have nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from policy.pictures.view import square_view
from policy.tokenizers.contract import ImageTokenizer
from rl.tracking.contract import GUARD_PREFIX
from rl.types import Prompt, Rollout

_SAME = 8.0  # of 255, mean over a block: what an autoencoder makes of a picture; an edit changes some block by more
_BLOCKS = 16  # a side
_SIDE = 32  # pixels, at which pictures are compared with each other
_MOST = 16  # other pictures that an answer is compared with


def edit_metrics(rollout: Rollout, pictures_BHW3: NDArray[np.uint8], tokenizer: ImageTokenizer) -> dict[str, float]:
    """``guard/copied``: share of the answers whose tokens are those of the picture that was to be changed (but where
    details are asked for, which no token holds), or whose pixels are within 8 of 255 in every block.
    ``guard/redrawn``: share that is nearer to the picture of another prompt of the step than to its own (left out where
    there is one picture alone). Nothing where no prompt holds a picture.
    """
    own = {row: prompt.pictures[0] for row in range(rollout.batch_size) if (prompt := rollout.prompt_of(row)).pictures}
    if not own:
        return {}
    side = pictures_BHW3.shape[1]
    distinct = list(dict.fromkeys(own.values()))
    views = np.stack([square_view(one.pixels, side) for one in distinct])
    tokens_NT = tokenizer.encode(views)
    place = {one: index for index, one in enumerate(distinct)}
    rows, of = list(own), [place[one] for one in own.values()]
    answers = pictures_BHW3[rows]
    same_tokens = (rollout.tokens_BT[rows] == tokens_NT[of]).all(1)
    same_tokens &= np.array([not _asks_for_details(rollout.prompt_of(row)) for row in rows])
    same_pixels = _farthest_block(answers, views[of]) < _SAME
    found = {GUARD_PREFIX + "copied": float((same_tokens | same_pixels).mean())}
    if len(distinct) > 1:
        found[GUARD_PREFIX + "redrawn"] = _redrawn(answers, views, of)
    return found


def _asks_for_details(prompt: Prompt) -> bool:
    edit = prompt.metadata.get("edit")
    return isinstance(edit, Mapping) and edit.get("looks") is True


def _farthest_block(answers: NDArray[np.uint8], views: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(B,) mean difference in the block in which it is largest."""
    apart = np.abs(answers.astype(np.int16) - views).mean(-1)
    edge = max(1, apart.shape[1] // _BLOCKS)
    kept = apart.shape[1] // edge * edge
    blocks = apart[:, :kept, :kept].reshape(len(apart), kept // edge, edge, kept // edge, edge).mean((2, 4))
    return np.asarray(blocks.max((1, 2)))


def _redrawn(answers: NDArray[np.uint8], views: NDArray[np.uint8], of: Sequence[int]) -> float:
    small, known = (_thumbnails(one) for one in (answers, views))
    lost = 0
    for answer, own in zip(small, of, strict=True):
        others = [(own + step) % len(known) for step in range(1, min(_MOST, len(known) - 1) + 1)]
        distances = np.abs(known[[own, *others]] - answer).mean((1, 2, 3))
        lost += bool(distances[1:].min() < distances[0])
    return lost / len(small)


def _thumbnails(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    resized = [Image.fromarray(one).resize((_SIDE, _SIDE), Image.Resampling.BOX) for one in pictures]
    return np.stack([np.asarray(one, np.float32) for one in resized])
