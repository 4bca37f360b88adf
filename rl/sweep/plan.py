"""Arms x seeds -> the runs of a sweep, each with its folder, its checked configuration and its command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.config import shipped
from rl.config.load import dump, load
from rl.config.schema import Config
from rl.registry import did_you_mean
from rl.sweep.arms import Arm, crossed, seeds_among, settings
from rl.sweep.sweep_file import SweepFile, read_sweep_file
from rl.types import UserError

LAUNCH = (sys.executable, "-m", "rl.launch")
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class SweepRun:
    """One run of the sweep: an arm and a seed. ``config``: all of it, resolved and checked."""

    arm: str
    seed: int
    folder: Path
    command: tuple[str, ...]
    config: Config

    @property
    def steps(self) -> int:
        return self.config.train.steps

    @property
    def resolved(self) -> str:
        """The whole configuration as YAML."""
        return dump(self.config)

    @property
    def log(self) -> Path:
        return self.folder.with_name(self.folder.name + ".log")

    @property
    def record(self) -> Path:
        """``resolved`` on disk, beside the run's folder: by it the same sweep is known again."""
        return self.folder.with_name(self.folder.name + ".yaml")


@dataclass(frozen=True)
class SweepPlan:
    """All runs, arm by arm; the others are compared with ``baseline``."""

    config: Path
    folder: Path
    arms: tuple[Arm, ...]
    baseline: str
    seeds: tuple[int, ...]
    runs: tuple[SweepRun, ...]


def plan(
    named: Path,
    overrides: Sequence[str],
    folder: Path,
    *,
    seeds: Sequence[int] | None = None,
    baseline: str | None = None,
    launch: Sequence[str] = LAUNCH,
) -> SweepPlan:
    """``named``: the YAML of one run, or of a sweep. ``seeds``, ``baseline``: instead of what is said there.

    Raises UserError for seeds that are repeated or given twice, a file that is not there, and every mistake in every
    arm's configuration.
    """
    path = shipped.find(named)
    if not path.is_file():
        raise UserError(f"{named} is not a file: give the YAML of one run, or of a sweep")
    said = read_sweep_file(path) or SweepFile(named)
    axes, typed_seeds = seeds_among(overrides)
    fixed, varied = settings(axes)
    if seeds and typed_seeds:
        raise UserError("seeds are given twice, by --seeds and by seed=...: leave one of them out")
    chosen = tuple(seeds or typed_seeds or said.seeds or SEEDS)
    if len(set(chosen)) < len(chosen):
        raise UserError(f"seeds {' '.join(map(str, chosen))} name one twice: every run needs its own")
    arms = crossed(said.arms, [*said.varied, *varied], only=named.stem)
    shared = (*said.fixed, *fixed)
    configs = _configurations(said.config, shared, arms, chosen)
    runs = [
        _run(said.config, shared, arm, seed, folder / _name(arm, seed, alone=len(arms) == 1), configs[arm.name], launch)
        for arm in arms
        for seed in chosen
    ]
    return SweepPlan(said.config, folder, tuple(arms), _baseline(baseline or said.baseline, arms), chosen, tuple(runs))


def _configurations(
    config: Path, shared: Sequence[str], arms: Sequence[Arm], seeds: Sequence[int]
) -> dict[str, Config]:
    """Of every arm. Raises UserError with the mistakes of all arms."""
    found, wrong = {}, dict[str, list[str]]()
    for arm in arms:
        try:
            found[arm.name] = load(config, (*shared, *arm.overrides, f"run.seed={seeds[0]}"))
        except UserError as error:
            wrong.setdefault(str(error), []).append(arm.name)
    if len(wrong) == 1 and (found or len(arms) == 1 or len(next(iter(wrong.values()))) == len(arms)):
        message, names = next(iter(wrong.items()))
        raise UserError(message if len(names) == len(arms) else f"arm {', '.join(names)}: {message}")
    if wrong:
        told = [f"  arm {', '.join(names)}: {message}" for message, names in wrong.items()]
        raise UserError(f"{len(wrong)} arms of the sweep are wrong:\n" + "\n".join(told))
    for seed in seeds[1:]:  # beside an arm: what all share may be no whole run
        load(config, (*shared, *arms[0].overrides, f"run.seed={seed}"))
    return found


def _run(
    config: Path, shared: Sequence[str], arm: Arm, seed: int, folder: Path, resolved: Config, launch: Sequence[str]
) -> SweepRun:
    given = (*shared, *arm.overrides, f"run.seed={seed}", f"run.folder={folder}")
    own = resolved.run.model_copy(update={"seed": seed, "folder": str(folder)})
    return SweepRun(arm.name, seed, folder, (*launch, str(config), *given), resolved.model_copy(update={"run": own}))


def _name(arm: Arm, seed: int, *, alone: bool) -> str:
    return f"seed{seed}" if alone else f"{arm.slug}-seed{seed}"


def _baseline(wanted: str | None, arms: Sequence[Arm]) -> str:
    names = [arm.name for arm in arms]
    if wanted is None:
        return names[0]
    if wanted not in names:
        near = did_you_mean(wanted, names)
        raise UserError(f"baseline: there is no arm {wanted!r}{near or f'; the arms are {chr(44).join(names)}'}")
    return wanted
