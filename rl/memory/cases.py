"""What memory is measured on: a policy, and the settings of a short run with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rl.config.load import load
from rl.config.schema import Config

if TYPE_CHECKING:
    from rl.memory.sized import Sized

_STEPS = 2  # in the second one all of the optimizer's states are there from the start
_SETTINGS = (
    "data.train.options.per_task=40",
    "data.eval=null",
    "rollout.engine=torch",
    "rewards.darkness.use=rl.memory.reward:darkness",
    f"train.steps={_STEPS}",
    "train.warmup_steps=0",
    "tracking.console=off",
    "tracking.to=[]",
    "tracking.pictures_every=0",
)
_SMALL = ("data.prompts_per_step=1", "rollout.group_size=4", "train.micro_batch=4", "render.steps=1")
_TAUGHT = ("supervised={rows_per_step: 4}", "train.micro_batch=4", "render.steps=1")
_BFLOAT16 = ("train.dtype=bfloat16", "train.zero_stage=1", "policy.dtype=bfloat16")


@dataclass(frozen=True)
class Case:
    """``embedded``: the policy ``shapes``; otherwise random weights of the size that ``policy`` makes."""

    name: str
    overrides: Sequence[str]
    embedded: bool = False
    large: bool = False

    def sized(self) -> Sized:
        from rl.memory.sized import Sized

        if self.large:  # BLIP3o-NEXT's vocabulary, 169 of its 729 tokens
            return Sized(217_210, 65_536, 13, 1024, 6, 16, 8, 3072, 512, 8, 13, (32, 64, 128, 256, 256))
        return Sized(65_536, 32_768, 9, 768, 8, 12, 4, 2048, 384, 8, 9, (32, 64, 128, 128, 256))

    def policy(self, folder: Path) -> str:
        """Its path, made if need be."""
        if self.embedded:
            return "shapes"
        from rl.memory.sized import write_policy

        return str(write_policy(folder, self.sized()))

    def config(self, policy: str, run: Path, extra: Sequence[str] = ()) -> Config:
        named = (f"policy.path={policy}", f"run.folder={run}")
        return load(None, [*_SETTINGS, *self.overrides, *extra, *named])


CASES = {
    one.name: one
    for one in (
        Case("embedded", ("data.prompts_per_step=32",), embedded=True),
        Case("100M", _SMALL),
        Case("100M-bf16", (*_SMALL, *_BFLOAT16)),
        Case("300M", _SMALL, large=True),
        Case("100M-supervised", _TAUGHT),
        Case("100M-supervised-LoRA", (*_TAUGHT, "train.lora={}", "supervised.decoder_lora={}")),
    )
}
