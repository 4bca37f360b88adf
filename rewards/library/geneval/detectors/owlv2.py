"""The ``owlv2`` detector: OWLv2 (arXiv 2306.09683) is told which classes to look for.

Card. Open vocabulary: each class that a picture's prompt names becomes one text query ("a photo of a dog"); a box's
score is the sigmoid similarity to its best query. Boxes only, no masks. Blind to what the prompt does not name, so an
object of another class may be taken for the nearest class asked for; it repeats boxes, so overlapping ones of a class
are suppressed; its scores are not Mask2Former's, set the reward's thresholds by hand (.1 to .3 is usual). Licence of
``google/owlv2-base-patch16-ensemble``: Apache-2.0.
Get it: ``hf download google/owlv2-base-patch16-ensemble --local-dir FOLDER`` and ``checkpoint: FOLDER``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoProcessor, Owlv2ForObjectDetection

from rewards.library.geneval.contract import Detection
from rewards.library.geneval.detectors.open_vocabulary import detections, questions
from rewards.library.models.pretrained import load_model, load_processor
from rewards.library.models.weights import runtime
from rewards.requires import Requires
from rl.types import UserError

OWLV2: Final = "google/owlv2-base-patch16-ensemble"  # Apache-2.0, 0.6 GB


class Owlv2:
    """Open-vocabulary detector. ``max_overlap``: above this IoU the worse of two boxes of a class is dropped (1: none).

    ``checkpoint``: a folder or a hub name. ``template``: the text query, with ``{}`` for the class. ``min_score``:
    detections at or below it are not reported; keep it under the thresholds of the reward. ``device``: as everywhere,
    ``auto`` is the GPU if there is one.
    """

    requires = Requires(weights=(OWLV2,))

    def __init__(
        self,
        checkpoint: str = OWLV2,
        template: str = "a photo of a {}",
        batch_size: int = 8,
        min_score: float = 0.05,
        max_overlap: float = 0.7,
        device: str = "auto",
    ) -> None:
        if "{}" not in template:
            raise UserError(f"option `template` is {template!r}: it must contain {{}}, where the class goes")
        run = runtime("detector_options", device, "float32", batch_size)
        self._template = template
        self._model, self._device = run.place(load_model(Owlv2ForObjectDetection, checkpoint, run)), run.device
        self._processor = load_processor(AutoProcessor, checkpoint, run)
        self._batch_size, self._min_score, self._max_overlap = batch_size, min_score, max_overlap

    @torch.inference_mode()
    def detect_labels(
        self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """N pictures and what to look for in each; per picture its objects, best first."""
        found: list[list[Detection]] = [[] for _ in pictures]
        for batch, size, asked in questions(pictures, labels, self._batch_size):
            queries = [self._template.replace("{}", label) for label in asked]
            inputs = self._processor(
                images=[pictures[i] for i in batch], text=[queries] * len(batch), return_tensors="pt", truncation=True
            ).to(self._device)
            outputs = self._model(**inputs)
            side = max(size)  # the model sees the picture padded to a square, below or to the right
            for i, logits_QL, boxes_Q4 in zip(batch, outputs.logits, outputs.pred_boxes, strict=True):
                found[i] = detections(
                    logits_QL.float().sigmoid(), boxes_Q4, asked, size=size, scale=(side, side),
                    min_score=self._min_score, max_overlap=self._max_overlap,
                )  # fmt: skip
        return found
