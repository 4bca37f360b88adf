"""The ``aesthetic`` reward: how beautiful people would call the picture, by LAION's heads on CLIP embeddings.

**Formula** ``head(E / |E|)``, E the picture's CLIP embedding. The default head is the "improved aesthetic predictor"
(Schuhmann 2022; LAION-5B, arXiv 2210.08402, section 3.1): 768-1024-128-64-16-1 without activations, on ViT-L/14. The
older linear heads ``sa_0_4_vit_*_linear.pth`` work too, each on the CLIP in its name. The prompt is not looked at.

**Range** ratings meant as 1 to 10, unbounded; on LAION's ten example embeddings the default head gives 1.7 to 5.8, the
linear head for ViT-B/32 -1.5 to 11.

**Blind to** the prompt entirely, and to flaws below 224 pixels: trained on alone, it turns every prompt into the same
pleasing landscape or portrait. Weigh it lightly and keep a reward that reads the prompt.

**Weights** Head: LAION's ``sac+logos+ava1-l14-linearMSE.pth`` (Apache-2.0) from
github.com/christophschuhmann/improved-aesthetic-predictor, by its mirror on the hub: ``hf download
trl-lib/ddpo-aesthetic-predictor aesthetic-model.pth``. Linear heads (MIT): github.com/LAION-AI/aesthetic-predictor.
CLIP: ``hf download openai/clip-vit-large-patch14`` (MIT).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from rewards.library.golden_pictures import two_photographs
from rewards.library.models.clip import load_clip
from rewards.library.models.downloads import CLIP_L
from rewards.library.models.heads import linear_chain
from rewards.library.models.weights import find_file, read_weights, runtime
from rewards.requires import Requires
from rl.types import Sample, Score, UserError

AESTHETIC_HEAD: Final = "trl-lib/ddpo-aesthetic-predictor:aesthetic-model.pth"  # Apache-2.0, LAION's file by its mirror


class Aesthetic:
    """Scores pictures by their looks. ``checkpoint``: the head. ``clip`` and ``model``: the CLIP under it.

    ``revision``, ``clip_revision``: branch, tag or commit of the hub.
    """

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    requires = Requires(weights=(CLIP_L, AESTHETIC_HEAD))
    golden = staticmethod(two_photographs)

    def __init__(
        self,
        checkpoint: str = AESTHETIC_HEAD,
        clip: str = CLIP_L,
        model: str | None = None,
        revision: str | None = None,
        clip_revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        run = runtime("aesthetic.options", device, dtype, batch_size)
        self.head = AestheticHead(checkpoint, revision)
        self.clip = load_clip(clip, run, model=model, option="clip", revision=clip_revision)
        width = self.clip.embed_texts(["a"]).shape[1]
        if width != self.head.width:
            raise UserError(
                f"aesthetic.options.checkpoint: the head {checkpoint} takes embeddings of {self.head.width} numbers, "
                f"and {clip} gives {width}; set aesthetic.options.clip to the CLIP that the head was trained on"
            )

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        if not samples:
            return []
        rated = self.head(self.clip.embed_pictures([sample.picture for sample in samples]))
        return [Score(float(value)) for value in rated]


class AestheticHead:
    """A head by itself: (N, ``width``) unit embeddings -> (N,) ratings, float32 on the CPU."""

    def __init__(self, checkpoint: str, revision: str | None = None) -> None:
        path = find_file(checkpoint, at="aesthetic.options", revision=revision)
        state = read_weights(path, at="aesthetic.options")
        self._layers = linear_chain(state, at="aesthetic.options").float().eval().requires_grad_(False)
        self.width: int = self._layers[0].in_features  # type: ignore[assignment]

    @torch.inference_mode()
    def __call__(self, embeddings_NE: Tensor) -> Tensor:
        return self._layers(embeddings_NE.float()).squeeze(1)
