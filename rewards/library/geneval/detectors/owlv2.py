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
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoProcessor, Owlv2ForObjectDetection

from rewards.library.geneval.detectors.open_vocabulary import OpenVocabulary
from rewards.library.models.pretrained import load_model, load_processor
from rewards.library.models.weights import runtime
from rewards.requires import Requires
from rl.types import UserError

OWLV2: Final = "google/owlv2-base-patch16-ensemble"  # Apache-2.0, 0.6 GB


class Owlv2(OpenVocabulary):
    """Open-vocabulary detector. ``max_overlap``: above this IoU the worse of two boxes of a class is dropped (1: none).

    ``checkpoint``: a folder or a hub name. ``template``: the text query, with ``{}`` for the class. ``min_score``:
    detections at or below it are not reported; keep it under the thresholds of the reward. ``device``: as everywhere,
    ``auto`` is the GPU if there is one. ``revision``: branch, tag or commit of the hub.
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
        revision: str | None = None,
    ) -> None:
        if "{}" not in template:
            raise UserError(f"option `template` is {template!r}: it must contain {{}}, where the class goes")
        super().__init__(batch_size, min_score, max_overlap)
        run = runtime("detector_options", device, "float32", batch_size)
        self._template = template
        self._model, self._device = (
            run.place(load_model(Owlv2ForObjectDetection, checkpoint, run, revision=revision)),
            run.device,
        )
        self._processor = load_processor(AutoProcessor, checkpoint, run, revision=revision)

    def _answer(self, pictures: Sequence[NDArray[np.uint8]], labels: Sequence[str]) -> tuple[Tensor, Tensor]:
        queries = [self._template.replace("{}", label) for label in labels]
        inputs = self._processor(
            images=list(pictures), text=[queries] * len(pictures), return_tensors="pt", truncation=True
        )
        outputs = self._model(**inputs.to(self._device))
        return outputs.logits.float().sigmoid(), outputs.pred_boxes

    def _scale(self, height: int, width: int) -> tuple[int, int]:
        """The model sees the picture padded to a square, below or to the right."""
        return max(height, width), max(height, width)
