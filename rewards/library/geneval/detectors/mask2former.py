"""The ``mask2former`` detector: Mask2Former (arXiv 2112.01527), the official GenEval's detector in other weights.

Card. Instance masks, boxes and scores over COCO's 80 classes, Swin-S, by default
``facebook/mask2former-swin-small-coco-instance`` from the hub or a folder with the same files. An object is a (query,
class) pair; its score is the class probability times the mean mask probability inside its mask, the best 100 pairs
of a picture are kept and nothing is suppressed, as in the paper's instance evaluation. Blind to everything outside
the 80 classes, to drawings and to text; two labels for one object are common below .5. Licence of the weights: the
repository says "other" (Mask2Former's code is MIT); check before commercial use. The official evaluation uses the
checkpoint that mmdetection trained, which transformers cannot read: its scores near a threshold differ.
Get it: ``hf download facebook/mask2former-swin-small-coco-instance --local-dir FOLDER`` and ``checkpoint: FOLDER``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

from rewards.batches import batches_by_key
from rewards.library.geneval.classes import geneval_name
from rewards.library.geneval.contract import Detection
from rewards.library.models.pretrained import load_model, load_processor
from rewards.library.models.weights import runtime
from rewards.requires import Requires

_PER_PICTURE = 100  # best (query, class) pairs kept
_LONG_SIDE = 1333 / 800  # of the shorter one, at most
MASK2FORMER: Final = "facebook/mask2former-swin-small-coco-instance"  # licence "other", 0.3 GB


class Mask2Former:
    """Closed-set detector with masks. ``classes`` are the checkpoint's labels under GenEval's names.

    ``checkpoint``: a folder or a hub name. ``size``: pictures are scaled to that shorter side in pixels (the
    official 800; the longer side at most 1333/800 of it); ``None`` is the checkpoint's own preprocessing, 384 x 384
    on the hub, which finds fewer small objects. ``min_score``: detections at or below it are not reported; keep it
    under the thresholds of the reward. ``device``: ``auto``, ``cpu``, ``cuda``. ``revision``: of the hub.
    """

    requires = Requires(weights=(MASK2FORMER,))

    def __init__(
        self,
        checkpoint: str = MASK2FORMER,
        size: int | None = 800,
        batch_size: int = 8,
        min_score: float = 0.05,
        device: str = "auto",
        revision: str | None = None,
    ) -> None:
        run = runtime("detector_options", device, "float32", batch_size)
        model = load_model(Mask2FormerForUniversalSegmentation, checkpoint, run, revision=revision)
        self._model, self._device = run.place(model), run.device
        self._processor = load_processor(AutoImageProcessor, checkpoint, run, revision=revision)
        self._resize = {} if size is None else {"size": {"shortest_edge": size, "longest_edge": int(size * _LONG_SIDE)}}
        self._batch_size, self._min_score = batch_size, min_score
        names = model.config.id2label
        self._names = [geneval_name(names[index]) for index in range(len(names))]
        self.classes = frozenset(self._names)

    @torch.inference_mode()
    def detect(self, pictures: Sequence[NDArray[np.uint8]]) -> list[list[Detection]]:
        """N (H, W, 3) pictures of any sizes in; per picture its objects, best first, with masks of its size."""
        found: list[list[Detection]] = [[] for _ in pictures]
        for batch in batches_by_key([picture.shape for picture in pictures], self._batch_size):
            inputs = self._processor(images=[pictures[i] for i in batch], return_tensors="pt", **self._resize)
            pixels = inputs["pixel_values"].to(self._device)
            outputs = self._model(pixel_values=pixels)
            height, width = pictures[batch[0]].shape[:2]
            for i, classes_QC, masks_Qhw in zip(
                batch, outputs.class_queries_logits, outputs.masks_queries_logits, strict=True
            ):
                found[i] = self._objects(classes_QC, masks_Qhw, pixels.shape[-2:], (height, width))
        return found

    def _objects(
        self, classes_QC: Tensor, masks_Qhw: Tensor, seen: tuple[int, int], size: tuple[int, int]
    ) -> list[Detection]:
        probs_QC = classes_QC.float().softmax(-1)[:, :-1]  # the last class is "no object"
        classes = probs_QC.shape[1]
        best_K, pairs_K = probs_QC.flatten().topk(min(_PER_PICTURE, probs_QC.numel()))
        pairs_K, best_K = pairs_K[best_K > self._min_score], best_K[best_K > self._min_score]
        if not len(pairs_K):
            return []
        # Up to what the model saw and then to the picture, in two steps like the official evaluation.
        logits_1Khw = masks_Qhw[pairs_K // classes].float()[None]
        for target in (seen, size):
            logits_1Khw = interpolate(logits_1Khw, size=tuple(target), mode="bilinear", align_corners=False)
        masks_KHW = logits_1Khw[0] > 0
        area_K = masks_KHW.flatten(1).sum(1)
        inside_K = (logits_1Khw[0].sigmoid() * masks_KHW).flatten(1).sum(1) / area_K.clamp(min=1)
        scores_K = best_K * inside_K  # an empty mask scores 0
        found = [
            Detection(self._names[pair % classes], score, _box(mask_HW), mask_HW)
            for pair, score, mask_HW in zip(pairs_K.tolist(), scores_K.tolist(), masks_KHW.cpu().numpy(), strict=True)
            if score > self._min_score
        ]
        return sorted(found, key=lambda detection: -detection.score)


def _box(mask_HW: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
