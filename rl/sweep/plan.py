"""Settings x seeds -> the runs of a sweep, each with its folder and command."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.config import shipped
from rl.config.load import dump, load
from rl.types import UserError

LAUNCH = (sys.executable, "-m", "rl.launch")


@dataclass(frozen=True)
class SweepRun:
    """One run of the sweep: a setting (the overrides that vary) and a seed.

    ``steps``: how many it trains; ``resolved``: its whole configuration as YAML.
    """

    setting: str
    seed: int
    folder: Path
    command: tuple[str, ...]
    steps: int
    resolved: str

    @property
    def log(self) -> Path:
        return self.folder.with_name(self.folder.name + ".log")

    @property
    def record(self) -> Path:
        """``resolved`` on disk, beside the run's folder: by it the same sweep is known again."""
        return self.folder.with_name(self.folder.name + ".yaml")


@dataclass(frozen=True)
class FinishedRun:
    """``code`` 0: ran to its end with evaluations; else ``tail`` holds its last lines."""

    run: SweepRun
    code: int
    tail: str


def settings(overrides: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """``["a=1", "b=2,3"]`` -> the fixed ones ``["a=1"]`` and the crossed ones ``[("b=2",), ("b=3",)]``.

    A comma inside brackets or quotes does not split: ``train.betas=[0.9,0.95]`` is one value. Raises UserError
    for anything that is not ``key=value``, and for ``run.seed`` and ``run.folder``, which the sweep sets itself.
    """
    fixed, varied = [], []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override: write key=value, or key=a,b,c for one run of each")
        if key in ("run.seed", "run.folder"):
            raise UserError(f"{key} is set by the sweep: use --seeds and --folder instead of {override!r}")
        values = split_values(value)
        if len(values) == 1:
            fixed.append(override)
        else:
            varied.append([f"{key}={one}" for one in values])
    return fixed, list(itertools.product(*varied))


def split_values(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes."""
    values, depth, quote, start = [], 0, "", 0
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            values.append(text[start:index])
            start = index + 1
    return [*values, text[start:]]


def plan(
    config: Path, seeds: Sequence[int], overrides: Sequence[str], folder: Path, launch: Sequence[str] = LAUNCH
) -> list[SweepRun]:
    """All runs, setting by setting.

    Raises UserError for repeated seeds, a config that is not there, and every mistake in it or in an override.
    """
    if not shipped.find(config).is_file():
        raise UserError(f"{config} is not a file: give the YAML of one run")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {' '.join(map(str, seeds))} names a seed twice: every run needs its own")
    fixed, crossed = settings(overrides)
    runs = []
    for number, setting in enumerate(crossed):
        for seed in seeds:
            name = f"seed{seed}" if len(crossed) == 1 else f"setting{number}-seed{seed}"
            target = folder / name
            given = (*fixed, *setting, f"run.seed={seed}", f"run.folder={target}")
            resolved = load(config, given)
            command = (*launch, str(config), *given)
            runs.append(SweepRun(" ".join(setting), seed, target, command, resolved.train.steps, dump(resolved)))
    return runs
