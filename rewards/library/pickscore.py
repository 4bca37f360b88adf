"""The ``pickscore`` reward: which picture people would pick, by a CLIP-H tuned on Pick-a-Pic.

**Formula** (Kirstain et al. 2023, arXiv 2305.01569, section 3): ``s(x, y) = T * cos(E_text(x), E_picture(y))`` with the
checkpoint's learned temperature ``T = exp(logit_scale)``, which is 100. The raw cosine is in the details; a softmax
over a prompt's pictures gives the probability of each to be preferred.

**Range** [-T, T]; others report about 17 to 24. A difference of 1 between two pictures of one prompt is a preference
of 73 % (the softmax). Beside other rewards give it a small weight, or combine with GDPO.

**Blind to** what its annotators did not look at: counts, exact positions, spelling. Likes saturated, glossy,
high-contrast pictures with one centred subject; pushed hard it adds detail everywhere. Prompts over 77 tokens are cut.

**Weights** ``yuvalkirstain/PickScore_v1`` (MIT): ``hf download yuvalkirstain/PickScore_v1``; tokenizer and picture
settings are those of the CLIP it started from: ``hf download laion/CLIP-ViT-H-14-laion2B-s32B-b79K --include "*.json"
--include "*.txt"``. A local ``checkpoint`` folder with a tokenizer in it needs no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rewards.library.golden_pictures import likelier_cat
from rewards.library.models.clip import load_clip
from rewards.library.models.downloads import CLIP_H
from rewards.library.models.weights import runtime
from rewards.requires import Requires
from rl.types import Sample, Score

PICKSCORE: Final = "yuvalkirstain/PickScore_v1"  # MIT, 3.9 GB


class PickScore:
    """Scores pictures by PickScore. ``processor``: hub name or folder of the tokenizer and the picture settings.

    ``revision``, ``processor_revision``: branch, tag or commit of the hub.
    """

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    requires = Requires(weights=(PICKSCORE,), tokenizers=(CLIP_H,))
    golden = staticmethod(likelier_cat)

    def __init__(
        self,
        checkpoint: str = PICKSCORE,
        processor: str | None = None,
        revision: str | None = None,
        processor_revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        own = (Path(checkpoint) / "tokenizer_config.json").is_file()
        self.clip = load_clip(
            checkpoint,
            runtime("pickscore.options", device, dtype, batch_size),
            processor=processor or (checkpoint if own else CLIP_H),
            revision=revision,
            processor_revision=processor_revision,
        )

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        cosines = self.clip.cosines([s.picture for s in samples], [s.prompt.text for s in samples])
        return [Score(self.clip.logit_scale * cosine, details={"cosine": cosine}) for cosine in cosines]
