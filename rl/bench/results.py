"""What a bench has found, and on which machine, as it is kept in a file."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rl.bench.contract import StageFloor, StepTaken
from rl.bench.variants import BASE
from rl.run_folder.environment import describe_environment
from rl.types import UserError

FIGURES = Path(__file__).with_name("figures.json")
"""The figures of the README, and what the regression guard compares with."""
_BF16 = ("amx_bf16", "avx512_bf16", "bf16")
"""Flags of /proc/cpuinfo: x86 with tiles, x86 with vectors, ARM."""


@dataclass
class VariantOutcome:
    """One variant: its measured steps, or why there are none."""

    name: str
    title: str
    settings: str = ""
    steps: list[StepTaken] = field(default_factory=list)
    peak_mb: float = 0.0
    floor: list[StageFloor] = field(default_factory=list)
    kinds: dict[str, float] = field(default_factory=dict)
    """Kind of work -> seconds of one step, by torch's profiler."""
    failure: str | None = None
    floor_failure: str | None = None

    @property
    def measured(self) -> bool:
        return self.failure is None and bool(self.steps)

    @property
    def seconds(self) -> float:
        return median(one.seconds for one in self.steps)

    @property
    def range(self) -> tuple[float, float]:
        seconds = [one.seconds for one in self.steps]
        return min(seconds), max(seconds)

    @property
    def reward(self) -> float:
        return sum(one.reward for one in self.steps) / len(self.steps)

    @property
    def ratio_deviation(self) -> float | None:
        """The largest of all steps."""
        told = [one.ratio_deviation for one in self.steps if one.ratio_deviation is not None]
        return max(told, default=None)

    def stage(self, name: str) -> float:
        """Median seconds."""
        return median(one.stages.get(name, 0.0) for one in self.steps)

    @property
    def floor_s(self) -> float:
        return sum(one.seconds for one in self.floor)

    @property
    def floor_kinds(self) -> defaultdict[str, float]:
        """Of all stages; empty in figures that are older than this."""
        found = defaultdict[str, float](float)
        for kind, seconds in (pair for one in self.floor for pair in one.kinds.items()):
            found[kind] += seconds
        return found

    @property
    def rest(self) -> float:
        """Seconds of no stage that has a floor."""
        return max(0.0, self.seconds - sum(self.stage(one.stage) for one in self.floor))


@dataclass
class Figures:
    """A whole bench."""

    run: str
    """What was measured: ``examples/geneval.yaml, 32 prompts x 8``."""
    pictures: int
    """A step."""
    machine: str
    outcomes: list[VariantOutcome]

    def outcome(self, name: str) -> VariantOutcome | None:
        """Of a variant that was measured."""
        return next((one for one in self.outcomes if one.name == name and one.measured), None)

    def ratio(self, name: str) -> float | None:
        """Over TRL with its own generate."""
        return self.over(name, BASE)

    def over(self, name: str, base: str) -> float | None:
        """Steps a second of one over those of another; None if one of the two was not measured."""
        one, other = self.outcome(name), self.outcome(base)
        return other.seconds / one.seconds if one and other else None


def write(figures: Figures, path: Path) -> None:
    """Raises: UserError if it cannot be written."""
    short = json.loads(json.dumps(asdict(figures)), parse_float=lambda number: float(f"{float(number):.6g}"))
    try:
        path.write_text(json.dumps(short, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json: {path} cannot be written ({error.strerror}); name another file") from error


def read(path: Path) -> Figures:
    """Raises: UserError if it is no file of a bench."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        outcomes = [_outcome(one) for one in content.pop("outcomes")]
        return Figures(outcomes=outcomes, **content)
    except OSError as error:
        raise UserError(f"--from: {path} cannot be read ({error.strerror}); write one with --json {path}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"--from: {path} holds no figures of this command; write them with --json {path}") from error


def _outcome(content: dict[str, Any]) -> VariantOutcome:
    steps = [StepTaken(**one) for one in content.pop("steps")]
    floor = [StageFloor(**one) for one in content.pop("floor")]
    return VariantOutcome(steps=steps, floor=floor, **content)


def describe_machine() -> str:
    """``AMD EPYC, 2 cores, torch 2.13.0, trl 1.16.0; bf16 instructions: avx512_bf16``."""
    found = describe_environment([])
    versions = [f"{name} {found['versions'].get(name, 'missing')}" for name in ("torch", "trl")]
    bf16 = ", ".join(bf16_instructions(_flags())) or "none"
    return f"{found['cpu']}, {found['cores']} cores, {', '.join(versions)}; bf16 instructions: {bf16}"


def bf16_instructions(flags: str) -> list[str]:
    return [name for name in _BF16 if name in flags.split()]


def _flags() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))), "")
