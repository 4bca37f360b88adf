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

from rewards.library.geneval.detectors.open_vocabulary import OpenVocabulary
from rewards.library.models.pretrained import load_model, load_processor
from rewards.library.models.weights import runtime
from rewards.requires import Requires

GROUNDING_DINO: Final = "IDEA-Research/grounding-dino-tiny"  # Apache-2.0, 0.7 GB


class GroundingDino(OpenVocabulary):
    """Open-vocabulary detector. ``max_overlap``: above this IoU the worse of two boxes of a class is dropped (1: none).

    ``checkpoint``: a folder or a hub name. ``min_score``: detections at or below it are not reported; keep it under
    the thresholds of the reward. ``device``: ``auto``, ``cpu``, ``cuda``. ``revision``: of the hub.
    """

    requires = Requires(weights=(GROUNDING_DINO,))

    def __init__(
        self,
        checkpoint: str = GROUNDING_DINO,
        batch_size: int = 8,
        min_score: float = 0.05,
        max_overlap: float = 1.0,
        device: str = "auto",
        revision: str | None = None,
    ) -> None:
        super().__init__(batch_size, min_score, max_overlap)
        run = runtime("detector_options", device, "float32", batch_size)
        self._model, self._device = (
            run.place(load_model(GroundingDinoForObjectDetection, checkpoint, run, revision=revision)),
            run.device,
        )
        self._processor = load_processor(AutoProcessor, checkpoint, run, revision=revision)

    def _answer(self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> tuple[Tensor, Tensor]:
        text = "".join(f"{label.lower()}. " for label in labels).strip()
        inputs = self._processor(images=list(pictures), text=[text] * len(pictures), return_tensors="pt")
        outputs = self._model(**inputs.to(self._device))
        return self._class_scores(outputs.logits.float().sigmoid(), labels), outputs.pred_boxes

    def _class_scores(self, tokens_BQT: Tensor, labels: Sequence[str]) -> Tensor:
        """(B, Q, L): mean over each label's tokens; the text is [CLS] tokens of a label, ".", and so on."""
        scores, start = [], 1
        for label in labels:
            count = len(self._processor.tokenizer(label.lower(), add_special_tokens=False)["input_ids"])
            scores.append(tokens_BQT[..., start : start + count].mean(-1))
            start += count + 1
        return torch.stack(scores, dim=-1)
