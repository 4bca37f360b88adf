"""The ``similarity`` reward: how much the picture keeps of a reference picture; for editing.

The reference is ``prompt.metadata["reference"]``: a (H, W, 3) uint8 array, or the path of a picture file (relative
paths start at the working directory); with ``reference: picture`` it is the prompt's own first picture. It is first
brought to the picture's size by PIL's bicubic resampling, both sides alike, without cropping. ``measure``:

- ``pixel`` (default): ``1 - mean |a - b| / 255``; [0, 1]. Blind to structure: a blurred or dimmed copy scores high.
- ``ssim``: structural similarity (Wang et al. 2004), Gaussian window of 11 pixels, sigma 1.5, mean over the three
  colours (skimage); [-1, 1]. Falls to near 0 by a shift of few pixels.
- ``clip``, ``dino``: cosine of the two pictures' CLIP embeddings, or of their DINOv2 [CLS] features (Oquab et al. 2023,
  arXiv 2304.07193); [-1, 1]. CLIP sees what is shown and in what style, DINO also which one and how it is laid out;
  both are blind below a few pixels. Unrelated pictures do not get 0: look at the range before setting a weight.
- ``lpips``: ``1 - d``, d the distance of Zhang et al. 2018 (arXiv 1801.03924), AlexNet; at most 1, mostly above 0.
  Needs ``pip install lpips torchvision`` (BSD-2-Clause), its backbone is downloaded on first use.

``outside: mask`` compares what an edit had to leave alone: the key of the metadata that says where something may
change, a picture that is white there (path or array), boxes in shares of the picture, or ``edit`` with its ``editable``
boxes. There the answer gets the reference's pixels before the two are compared; ``pixel`` is the mean over the rest. A
prompt without the key, or of which everything may change, is not applicable.

**Blind to** the instruction: an unedited copy is perfect. Combine it with a reward that reads the prompt.

**Weights** CLIP ``openai/clip-vit-large-patch14`` (MIT) or any that ``rewards.library.models.clip`` reads; DINOv2
``facebook/dinov2-base`` (Apache-2.0): ``hf download facebook/dinov2-base``.

A prompt without a reference is not applicable; a reference that can't be read fails its sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.metrics import structural_similarity

from rewards.golden import Golden
from rewards.library.golden_pictures import itself_and_another
from rewards.library.models.downloads import CLIP_L
from rewards.reference import REFERENCE, read_mask, read_reference
from rewards.requires import Requires
from rl.data.pictures import Picture
from rl.types import Prompt, Sample, Score, UserError

Reference = Literal["metadata", "picture"]
Measure = Literal["pixel", "ssim", "clip", "dino", "lpips"]
Pixels = NDArray[np.uint8]
# N pairs of pictures of one size each -> N similarities
Compare = Callable[[Sequence[Pixels], Sequence[Pixels]], list[float]]
SSIM_WINDOW: Final = 11  # pixels
DINOV2: Final = "facebook/dinov2-base"  # Apache-2.0, 0.3 GB
_CHECKPOINTS: Final = {"clip": CLIP_L, "dino": DINOV2, "lpips": ""}  # lpips brings its own


class _Compared(NamedTuple):
    """``rest``: the share of the picture that counts."""

    pixels: Pixels
    rest: float


class Similarity:
    """Scores pictures by likeness to a reference. ``checkpoint``, ``model``, ``revision``: of ``clip`` and ``dino``."""

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    requires = (
        Requires(packages=("scikit-image",)),
        Requires(part="clip", weights=(CLIP_L,), optional=True),
        Requires(part="dino", weights=(DINOV2,), optional=True),
        Requires(part="lpips", packages=("lpips", "torchvision"), optional=True),
    )

    def __init__(
        self,
        measure: Measure = "pixel",
        reference: Reference = "metadata",
        outside: str | None = None,
        checkpoint: str | None = None,
        model: str | None = None,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        if measure in ("pixel", "ssim"):
            self._compare: Compare = _pixel if measure == "pixel" else _ssim
        elif measure in ("clip", "dino", "lpips"):
            from rewards.library.models.features import feature_comparison

            checkpoint = checkpoint or _CHECKPOINTS[measure]
            self._compare = feature_comparison(measure, checkpoint, model, revision, device, dtype, batch_size)
        else:
            raise UserError(
                f"similarity.options.measure is {measure!r}: it must be 'pixel', 'ssim', 'clip', 'dino' or 'lpips'"
            )
        if reference not in ("metadata", "picture"):
            raise UserError(f"similarity.options.reference is {reference!r}: it must be 'metadata' or 'picture'")
        if outside is not None and not (isinstance(outside, str) and outside):
            raise UserError(
                f"similarity.options.outside is {outside!r}: it must be the key of the metadata that says where a "
                f"picture may change, such as mask"
            )
        self.measure, self.reference, self.outside = measure, reference, outside

    def golden(self) -> list[Golden]:
        """Two photographs; for ``outside``, of which nothing may change."""
        found = itself_and_another()
        if self.outside is None:
            return found
        prompts = [
            replace(one.sample.prompt, metadata={**one.sample.prompt.metadata, self.outside: []}) for one in found
        ]
        return [
            replace(one, sample=replace(one.sample, prompt=prompt)) for one, prompt in zip(found, prompts, strict=True)
        ]

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        made: dict[object, Pixels] = {}  # a group shares its reference
        references = [self._reference(sample, made) for sample in samples]
        compared = [
            one if isinstance(one, Score) else self._compared(sample, one)
            for sample, one in zip(samples, references, strict=True)
        ]
        asked = {i: (one, references[i]) for i, one in enumerate(compared) if not isinstance(one, Score)}
        pairs = [(one.pixels, reference) for one, reference in asked.values() if not isinstance(reference, Score)]
        values = self._compare([picture for picture, _ in pairs], [reference for _, reference in pairs])
        scored = dict(zip(asked, values, strict=True))
        return [
            one if isinstance(one, Score) else Score(self._of_rest(scored[i], one)) for i, one in enumerate(compared)
        ]

    def _compared(self, sample: Sample, reference: Pixels) -> _Compared | Score:
        """The picture, with the reference's pixels where it may differ."""
        if self.outside is None:
            return _Compared(sample.picture, 1.0)
        given = sample.prompt.metadata.get(self.outside)
        if given is None:
            return Score(None)
        height, width = sample.picture.shape[:2]
        try:
            free = read_mask(given, height, width)
        except ValueError as error:
            return Score(None, failure=f"prompt {sample.prompt.id!r}: {self.outside}: {error}")
        rest = 1.0 - float(free.mean())
        return _Compared(np.where(free[..., None], reference, sample.picture), rest) if rest else Score(None)

    def _of_rest(self, value: float, compared: _Compared) -> float:
        """A mean over all pixels as the mean over those that count."""
        return 1.0 - (1.0 - value) / compared.rest if self.measure == "pixel" else value

    def _given(self, prompt: Prompt) -> object:
        if self.reference == "picture":
            return prompt.pictures[0] if prompt.pictures else None
        return prompt.metadata.get(REFERENCE)

    def _reference(self, sample: Sample, made: dict[object, Pixels]) -> Pixels | Score:
        """The reference at the picture's size, or why there is no comparison."""
        reference = self._given(sample.prompt)
        if reference is None:
            return Score(None)
        height, width = sample.picture.shape[:2]
        if self.measure == "ssim" and min(height, width) < SSIM_WINDOW:
            return Score(None, failure=f"the picture is {width} x {height} pixels; ssim needs {SSIM_WINDOW} a side")
        key = (height, width, id(reference) if isinstance(reference, np.ndarray | Picture) else str(reference))
        if key not in made:
            try:
                picture = reference.pixels if isinstance(reference, Picture) else read_reference(reference)
            except (ValueError, UserError) as error:
                return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
            if picture.shape[:2] != (height, width):
                picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
            made[key] = picture
        return made[key]


def _pixel(pictures: Sequence[Pixels], references: Sequence[Pixels]) -> list[float]:
    pairs = zip(pictures, references, strict=True)
    return [1 - float(np.abs(a.astype(np.int16) - b).mean()) / 255 for a, b in pairs]


def _ssim(pictures: Sequence[Pixels], references: Sequence[Pixels]) -> list[float]:
    return [
        float(
            structural_similarity(
                a, b, channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
            )
        )
        for a, b in zip(pictures, references, strict=True)
    ]
