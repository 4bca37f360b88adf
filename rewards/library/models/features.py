"""``similarity`` by networks: CLIP, DINOv2 and LPIPS. See ``rewards.library.similarity`` for the formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rewards.library.models.clip import load_clip, transformers_preprocess
from rewards.library.models.pretrained import load_model
from rewards.library.models.weights import Runtime, batches, runtime
from rl.types import UserError

Pixels = NDArray[np.uint8]
Embed = Callable[[Sequence[Pixels]], Tensor]


def feature_comparison(
    measure: str,
    checkpoint: str,
    model: str | None,
    revision: str | None,
    device: str,
    dtype: str,
    batch_size: int,
) -> Callable[[Sequence[Pixels], Sequence[Pixels]], list[float]]:
    """The comparison of N pictures with N references by ``measure``: ``clip``, ``dino`` or ``lpips``."""
    run = runtime("similarity.options", device, dtype, batch_size)
    if measure == "lpips":
        return _Lpips(run)
    if measure == "clip":
        return _Cosine(load_clip(checkpoint, run, model=model, revision=revision).embed_pictures)
    return _Cosine(_dino(checkpoint, run, revision))


class _Cosine:
    def __init__(self, embed: Embed) -> None:
        self._embed = embed

    def __call__(self, pictures: Sequence[Pixels], references: Sequence[Pixels]) -> list[float]:
        if not pictures:
            return []
        distinct = {id(reference): reference for reference in references}  # a group shares its reference
        rows = {key: row for row, key in enumerate(distinct)}
        embedded = self._embed(list(distinct.values()))[[rows[id(reference)] for reference in references]]
        return [float(cosine) for cosine in (self._embed(pictures) * embedded).sum(dim=1)]


def _dino(checkpoint: str, run: Runtime, revision: str | None) -> Embed:
    """Pictures -> unit [CLS] features, after the final layer norm."""
    from transformers import Dinov2Model

    module = run.place(load_model(Dinov2Model, checkpoint, run, revision=revision))
    preprocess = transformers_preprocess(checkpoint, module.config.image_size, revision)
    if preprocess is None:
        raise UserError(
            f"similarity.options.checkpoint: {checkpoint} has no preprocessor_config.json, which says how DINOv2 wants "
            f"its pictures; download the whole of it"
        )

    @torch.inference_mode()
    def embed(pictures: Sequence[Pixels]) -> Tensor:
        rows = [
            module(pixel_values=torch.from_numpy(preprocess(pictures[part])).to(run.device, run.dtype)).pooler_output
            for part in batches(len(pictures), run.batch_size)
        ]
        return nn.functional.normalize(torch.cat(rows).float().cpu(), dim=1)

    return embed


class _Lpips:
    """One pair at a time: pictures of a batch may differ in size, and LPIPS does not resize."""

    def __init__(self, run: Runtime) -> None:
        try:
            lpips = import_module("lpips")
        except ImportError as error:
            raise UserError(
                f"similarity.options.measure is 'lpips', and {error.name or 'lpips'} is not installed; "
                f"`pip install lpips torchvision`, or choose 'dino' or 'ssim'"
            ) from error
        self._run, self._distance = run, run.place(lpips.LPIPS(net="alex", verbose=False))

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Pixels], references: Sequence[Pixels]) -> list[float]:
        pairs = zip(pictures, references, strict=True)
        return [1 - float(self._distance(self._pixels(a), self._pixels(b))) for a, b in pairs]

    def _pixels(self, picture: Pixels) -> Tensor:
        """(1, 3, H, W) in [-1, 1], as LPIPS wants it."""
        scaled_HWC = torch.tensor(picture).to(self._run.device, self._run.dtype) / 127.5 - 1
        return scaled_HWC.permute(2, 0, 1).unsqueeze(0)
