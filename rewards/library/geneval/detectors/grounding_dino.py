"""The ``grounding_dino`` detector: Grounding DINO (arXiv 2303.05499) is told which classes to look for.

Card. Open vocabulary: the classes that a picture's prompt names are the query "dog. car."; a box's score for a class
is the mean over the class's text tokens of the sigmoid similarity (as in its COCO evaluation), and its label is the
best class. Boxes only, no masks. Blind to what the prompt does not name, so an object of another class may be taken
for the nearest class asked for; its scores are not Mask2Former's, set the reward's thresholds by hand (.25 to .35 is
usual, and none is right for counting). Licence of ``IDEA-Research/grounding-dino-tiny``: Apache-2.0.
Get it: ``hf download IDEA-Research/grounding-dino-tiny --local-dir FOLDER`` and ``checkpoint: FOLDER``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, GroundingDinoForObjectDetection

from rewards.library.geneval.contract import Detection
from rewards.library.geneval.detectors.open_vocabulary import detections, questions
from rewards.library.models.pretrained import load_model, load_processor
from rewards.library.models.weights import runtime
from rewards.requires import Requires

GROUNDING_DINO: Final = "IDEA-Research/grounding-dino-tiny"  # Apache-2.0, 0.7 GB


class GroundingDino:
    """Open-vocabulary detector. ``max_overlap``: above this IoU the worse of two boxes of a class is dropped (1: none).

    ``checkpoint``: a folder or a hub name. ``min_score``: detections at or below it are not reported; keep it under
    the thresholds of the reward. ``device``: ``auto``, ``cpu``, ``cuda``.
    """

    requires = Requires(weights=(GROUNDING_DINO,))

    def __init__(
        self,
        checkpoint: str = GROUNDING_DINO,
        batch_size: int = 8,
        min_score: float = 0.05,
        max_overlap: float = 1.0,
        device: str = "auto",
    ) -> None:
        run = runtime("detector_options", device, "float32", batch_size)
        self._model, self._device = run.place(load_model(GroundingDinoForObjectDetection, checkpoint, run)), run.device
        self._processor = load_processor(AutoProcessor, checkpoint, run)
        self._batch_size, self._min_score, self._max_overlap = batch_size, min_score, max_overlap

    @torch.inference_mode()
    def detect_labels(
        self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[Sequence[str]]
    ) -> list[list[Detection]]:
        """N pictures and what to look for in each; per picture its objects, best first."""
        found: list[list[Detection]] = [[] for _ in pictures]
        for batch, size, asked in questions(pictures, labels, self._batch_size):
            text = "".join(f"{label.lower()}. " for label in asked).strip()
            inputs = self._processor(
                images=[pictures[i] for i in batch], text=[text] * len(batch), return_tensors="pt"
            ).to(self._device)
            outputs = self._model(**inputs)
            scores_BQL = self._class_scores(outputs.logits.float().sigmoid(), asked)
            for i, scores_QL, boxes_Q4 in zip(batch, scores_BQL, outputs.pred_boxes, strict=True):
                found[i] = detections(
                    scores_QL, boxes_Q4, asked, size=size, scale=size,
                    min_score=self._min_score, max_overlap=self._max_overlap,
                )  # fmt: skip
        return found

    def _class_scores(self, tokens_BQT: Tensor, labels: Sequence[str]) -> Tensor:
        """(B, Q, L): mean over each label's tokens; the text is [CLS] tokens of a label, ".", and so on."""
        scores, start = [], 1
        for label in labels:
            count = len(self._processor.tokenizer(label.lower(), add_special_tokens=False)["input_ids"])
            scores.append(tokens_BQT[..., start : start + count].mean(-1))
            start += count + 1
        return torch.stack(scores, dim=-1)
