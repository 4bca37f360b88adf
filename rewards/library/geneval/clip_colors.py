"""The ``clip`` colour classifier: the official GenEval's, CLIP ViT-L/14 zero-shot over the ten colours.

Card. An object is cut out by its mask onto grey #999, cropped to its box and compared with "a photo of a red dog",
"a photo of a red-colored dog" and "a photo of a red object", the three unit embeddings averaged and made unit again;
the nearest colour is the answer, there is no "none of these". Without a mask the box's pixels are used as they are.
Blind to the difference between an object and what lies before it in its box, and biased towards an object's usual
colour. Licence of OpenAI's weights: MIT. Get them: ``hf download openai/clip-vit-large-patch14``, which the reward
``aesthetic`` uses as well.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from rewards.library.geneval.colors import COLORS, pixel_box
from rewards.library.geneval.contract import Detection
from rewards.library.models.clip import load_clip
from rewards.library.models.downloads import CLIP_L
from rewards.library.models.weights import runtime
from rewards.requires import Requires

_GROUND = (0x99, 0x99, 0x99)
_TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")


class ClipColors:
    """``checkpoint``, ``model``, ``revision``: any CLIP that ``rewards.library.models.clip`` reads. ``mask``, ``crop``:
    cut the object out by its mask, and crop to its box (both as official)."""

    colors = COLORS
    requires = Requires(weights=(CLIP_L,))

    def __init__(
        self,
        checkpoint: str = CLIP_L,
        model: str | None = None,
        revision: str | None = None,
        mask: bool = True,
        crop: bool = True,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        run = runtime("colors_options", device, dtype, batch_size)
        self._clip = load_clip(checkpoint, run, model=model, revision=revision)
        self._mask, self._crop = mask, crop
        self._colors_of: dict[str, Tensor] = {}

    def classify(self, pictures: Sequence[NDArray[np.uint8]], detections: Sequence[Detection]) -> list[str]:
        """N objects in, N of the ten colours out."""
        if not detections:
            return []
        views = [cut_out(p, d, mask=self._mask, crop=self._crop) for p, d in zip(pictures, detections, strict=True)]
        features_ND = self._clip.embed_pictures([np.asarray(view) for view in views])
        return [
            COLORS[int((self._colors(detection.label) @ feature_D).argmax())]
            for feature_D, detection in zip(features_ND, detections, strict=True)
        ]

    def _colors(self, label: str) -> Tensor:
        """(10, D): the unit text embedding of each colour of a ``label``."""
        if label not in self._colors_of:
            texts = [template.format(color=color, label=label) for color in COLORS for template in _TEMPLATES]
            mean_10D = self._clip.embed_texts(texts).view(len(COLORS), len(_TEMPLATES), -1).mean(dim=1)
            self._colors_of[label] = normalize(mean_10D, dim=-1)
        return self._colors_of[label]


def cut_out(picture: NDArray[np.uint8], detection: Detection, *, mask: bool, crop: bool) -> Image.Image:
    """The object as CLIP sees it: everything outside its mask grey (if it has one), cropped to its box."""
    if mask and detection.mask_HW is not None:
        picture = np.where(detection.mask_HW[..., None], picture, np.array(_GROUND, np.uint8))
    image = Image.fromarray(picture)
    return image.crop(pixel_box(detection, *picture.shape[:2])) if crop else image
