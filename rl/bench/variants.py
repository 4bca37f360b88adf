"""What is compared: our step and TRL's, both at equal and at best settings, each as a whole configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.bench.contract import MOST_STEPS, Assignment, Side
from rl.config import shipped
from rl.config.load import dump, load
from rl.config.schema import Config
from rl.config.yaml12 import to_yaml
from rl.registry import did_you_mean
from rl.types import UserError

CONFIG = "examples/geneval.yaml"
BASE = "trl"
"""The variant that all ratios are to."""
BEST = ("configs/hardware/cpu.yaml", "render.steps=1", "policy.compile=on")
"""Our best settings: ``key=value`` or YAML files, each on top of the one before."""
EQUAL = ("configs/hardware/cpu_float32.yaml", "render.steps=3")
"""What both sides do alike: full precision and Euler steps that leave no doubt."""

_ALIKE = (  # TRL has no anchor; neither side evaluates, saves or shows anything
    *("anchor=null", "data.eval=null", "tracking.console=off", "tracking.to=[]", "tracking.profile=[]"),
    *(f"train.steps={2 * MOST_STEPS}", "train.schedule=constant"),
    *("train.micro_batch=256", "render.micro_batch=128"),  # the fastest, in about 1 GB
    *("rollout.top_p=1.0", "rollout.top_k=0", "render.renders=1", "train.updates_per_rollout=1"),
)


@dataclass(frozen=True)
class Variant:
    name: str
    title: str
    side: Side
    settings: tuple[str, ...]
    vllm: bool = False


VARIANTS = {
    one.name: one
    for one in (
        Variant("ours", "ours, equal settings", "ours", EQUAL),
        Variant("trl", "TRL, own generate", "trl", EQUAL),
        Variant("trl-vllm", "TRL, vLLM", "trl", EQUAL, vllm=True),
        Variant("ours-best", "ours, best settings", "ours", BEST),
        Variant("trl-best", "TRL, own generate, best settings", "trl", BEST),
    )
}


def chosen(names: str | None) -> list[Variant]:
    """``"ours,trl"`` or all. Raises: UserError naming one that is none."""
    if names is None:
        return list(VARIANTS.values())
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in wanted:
        if name not in VARIANTS:
            near = did_you_mean(name, VARIANTS)
            raise UserError(f"--variants: there is no variant {name!r}{near or ';'} they are {', '.join(VARIANTS)}")
    if not wanted:
        raise UserError(f"--variants names none; write some of {','.join(VARIANTS)}")
    return [VARIANTS[name] for name in wanted]


def configured(variant: Variant, path: str, overrides: Sequence[str]) -> Config:
    """The run at ``path`` with what is typed, what both sides share, and the variant's settings on top.

    Raises: UserError as loading a configuration does.
    """
    config = load(path, [*overrides, *_ALIKE])
    if config.kl is not None:
        config = load(path, [*overrides, *_ALIKE, "kl.use=k3"])  # the only one that TRL has
    with tempfile.TemporaryDirectory() as folder:
        for setting in variant.settings:
            if "=" in setting:
                config = _with(config, Path(folder), [], [setting])
            else:
                config = _with(config, Path(folder), [str(shipped.find(Path(setting)).resolve())], [])
    return config


def assignment(variant: Variant, config: Config) -> Assignment:
    return Assignment(variant.side, dump(config), variant.vllm)


def words(config: Config, side: Side) -> str:
    """``fp32, 3 Euler steps``, ``bf16, 1 Euler step, compiled``. TRL trains bfloat16 itself and not a rounded copy of
    fp32 weights, and only the decoder that is lent to it is compiled.
    """
    names = {"float32": "fp32", "bfloat16": "bf16"}
    dtypes = (config.policy.dtype, config.train.dtype, config.render.dtype or config.policy.dtype)
    precisions = dict.fromkeys(names.get(one, one) for one in dtypes)
    count, trl = config.render.steps, side == "trl"
    master = " without fp32 master" if trl and config.train.dtype == "bfloat16" else ""
    compiled = f", {'decoder ' if trl else ''}compiled" if config.policy.compile else ""
    return f"{'/'.join(precisions)}{master}, {count} Euler step{'s' * (count != 1)}{compiled}"


def _with(config: Config, folder: Path, files: list[str], overrides: list[str]) -> Config:
    below, on_top = folder / "below.yaml", folder / "on-top.yaml"
    below.write_text(dump(config), encoding="utf-8")
    on_top.write_text(to_yaml({"extends": [str(below), *files]}), encoding="utf-8")
    return load(on_top, overrides)
