"""The ``hpsv2`` reward: human preference by a CLIP ViT-H/14 tuned on HPD v2.

**Formula** (Wu et al. 2023, arXiv 2306.09341, section 4): the cosine ``cos(E_picture, E_prompt)``, as the authors'
own ``hpsv2.score`` answers it. Their benchmark tables print 100 times this number.

**Range** [-1, 1]; others report about 0.20 to 0.35, and systems' means apart by hundredths. Beside other rewards
raise its weight, or combine with GDPO.

**Blind to** counts, positions, spelling. Likes bright, saturated, painterly pictures; pushed hard it gives oversmooth
ones. Prompts over 77 tokens are cut.

**Pictures** are brought to 224 pixels by the longer side and padded with black, as the authors do (CLIP's own
way crops); a square picture is the same either way.

**Weights** ``HPS_v2.1_compressed.pt`` of ``xswu/HPSv2`` (Apache-2.0): ``hf download xswu/HPSv2
HPS_v2.1_compressed.pt``. ``HPS_v2_compressed.pt`` is version 2.0; scores of the versions do not compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rewards.library.golden_pictures import likelier_cat
from rewards.library.models.clip import load_clip
from rewards.library.models.weights import runtime
from rewards.requires import Requires
from rl.types import Sample, Score

HPSV2: Final = "xswu/HPSv2:HPS_v2.1_compressed.pt"  # Apache-2.0, 2 GB


class HpsV2:
    """Scores pictures by HPSv2. ``model``: the open_clip architecture of the checkpoint; ``revision``: its own."""

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    requires = (Requires(part="open_clip", packages=("open-clip-torch",), optional=True), Requires(weights=(HPSV2,)))
    golden = staticmethod(likelier_cat)

    def __init__(
        self,
        checkpoint: str = HPSV2,
        model: str = "ViT-H-14",
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        run = runtime("hpsv2.options", device, dtype, batch_size)
        self.clip = load_clip(checkpoint, run, model=model, revision=revision, fit="longest")

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        cosines = self.clip.cosines([s.picture for s in samples], [s.prompt.text for s in samples])
        return [Score(cosine, details={"cosine": cosine}) for cosine in cosines]
