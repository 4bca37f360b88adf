"""The ``clip_score`` reward: does the picture show what the prompt says, by CLIP.

**Formula** (Hessel et al. 2021, arXiv 2104.08718, section 3): ``2.5 * max(cos(E_picture, E_text), 0)``, the text being
"A photo depicts" and the prompt. The raw cosine is in the details.

**Range** [0, 2.5]; others report cosines of .1 to .4 from ViT-B/32, so scores of about .25 to 1.

**Blind to** counts, positions, which object has which colour, negation, spelling; quality hardly matters; prompts
beyond 77 tokens are cut. Text painted into the picture raises it.

**Weights** ``openai/clip-vit-base-patch32`` as in the paper (MIT): ``hf download openai/clip-vit-base-patch32``. Any
other CLIP by ``checkpoint`` and ``model``, see ``rewards.library.models.clip``; scores of different CLIPs do not
compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from rewards.library.golden_pictures import likelier_cat
from rewards.library.models.clip import load_clip
from rewards.library.models.downloads import CLIP_B
from rewards.library.models.weights import runtime
from rewards.requires import Requires
from rl.types import Sample, Score


class ClipScore:
    """Scores pictures by CLIPScore. ``prefix`` is put before each prompt, ``""`` for none; ``revision`` of the hub."""

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    requires = Requires(weights=(CLIP_B,))
    golden = staticmethod(likelier_cat)

    def __init__(
        self,
        checkpoint: str = CLIP_B,
        model: str | None = None,
        revision: str | None = None,
        prefix: str = "A photo depicts",
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        self.prefix = prefix
        run = runtime("clip_score.options", device, dtype, batch_size)
        self.clip = load_clip(checkpoint, run, model=model, revision=revision)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        texts = [f"{self.prefix} {sample.prompt.text}".strip() for sample in samples]
        cosines = self.clip.cosines([sample.picture for sample in samples], texts)
        return [Score(2.5 * max(cosine, 0.0), details={"cosine": cosine}) for cosine in cosines]
