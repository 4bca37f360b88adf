"""What Grounding DINO and OWLv2 have in common: which pictures go together; (query, label) scores -> detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rewards.batches import batches_by_key
from rewards.library.geneval.boxes import clipped, suppress
from rewards.library.geneval.contract import Detection


def questions(
    pictures: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[str]], size: int
) -> Iterator[tuple[list[int], tuple[int, int], tuple[str, ...]]]:
    """(indices, (height, width), labels) of at most ``size`` pictures of one shape that are asked for the same."""
    keys = [(picture.shape, tuple(asked)) for picture, asked in zip(pictures, labels, strict=True)]
    for batch in batches_by_key(keys, size):
        (height, width, _), asked = keys[batch[0]]
        yield batch, (height, width), asked


def detections(
    scores_QL: Tensor,
    boxes_Q4: Tensor,
    labels: Sequence[str],
    *,
    size: tuple[int, int],
    scale: tuple[int, int],
    min_score: float,
    max_overlap: float,
) -> list[Detection]:
    """One picture's objects, best first, each query with its best label.

    ``boxes_Q4`` are (centre x, centre y, width, height) in [0, 1] of ``scale`` = (height, width), which is larger
    than the picture's ``size`` where the model saw it padded; what lies outside the picture is cut off.
    """
    best_Q, label_Q = scores_QL.max(dim=-1)
    centre_Q2, half_Q2 = boxes_Q4[:, :2].float(), boxes_Q4[:, 2:].float() / 2
    unit = boxes_Q4.new_tensor([scale[1], scale[0]]).float()
    corners = zip(((centre_Q2 - half_Q2) * unit).tolist(), ((centre_Q2 + half_Q2) * unit).tolist(), strict=True)
    found = []
    for score, label, (low, high) in zip(best_Q.tolist(), label_Q.tolist(), corners, strict=True):
        box = clipped((*low, *high), *size)
        if score > min_score and box is not None:
            found.append(Detection(labels[label], score, box))
    return suppress(found, max_overlap)
