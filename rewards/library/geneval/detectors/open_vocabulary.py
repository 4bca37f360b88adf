"""What Grounding DINO and OWLv2 have in common: which pictures go together; (query, label) scores -> detections."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewards.batches import batches_by_key
from rewards.library.geneval.boxes import clipped, suppress
from rewards.library.geneval.contract import Detection


class OpenVocabulary(ABC):
    """Asks a model about pictures of one shape and with the same labels together; each query has its best label."""

    def __init__(self, batch_size: int, min_score: float, max_overlap: float) -> None:
        self._batch_size, self._min_score, self._max_overlap = batch_size, min_score, max_overlap

    @torch.inference_mode()
    def detect_labels(
        self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """N pictures and what to look for in each; per picture its objects, best first."""
        found: list[list[Detection]] = [[] for _ in pictures]
        keys = [(picture.shape, tuple(asked)) for picture, asked in zip(pictures, labels, strict=True)]
        for batch in batches_by_key(keys, self._batch_size):
            (height, width, _), asked = keys[batch[0]]
            scores_BQL, boxes_BQ4 = self._answer([pictures[i] for i in batch], asked)
            scale = self._scale(height, width)
            for i, scores_QL, boxes_Q4 in zip(batch, scores_BQL, boxes_BQ4, strict=True):
                best_Q, label_Q = scores_QL.max(dim=-1)
                rows = zip(best_Q.tolist(), label_Q.tolist(), _corners(boxes_Q4, *scale), strict=True)
                kept = [(asked[label], score, clipped(box, height, width)) for score, label, box in rows]
                seen = [Detection(label, score, box) for label, score, box in kept if box and score > self._min_score]
                found[i] = suppress(seen, self._max_overlap)
        return found

    @abstractmethod
    def _answer(self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(B, Q, L) scores in [0, 1] and (B, Q, 4) boxes: centre x, centre y, width, height in [0, 1] of the scale."""

    def _scale(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of what the model sees, larger than the picture where that was padded: cut off then."""
        return height, width


def _corners(boxes_Q4: Tensor, height: int, width: int) -> list[list[float]]:
    centre_Q2, half_Q2 = boxes_Q4[:, :2].float(), boxes_Q4[:, 2:].float() / 2
    unit = boxes_Q4.new_tensor([width, height]).float()
    corners: list[list[float]] = torch.cat([(centre_Q2 - half_Q2) * unit, (centre_Q2 + half_Q2) * unit], 1).tolist()
    return corners
