"""Faults by appointment: which call meets which one. Whoever comes first claims it, in whatever process, once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rl.scheduler.work import GroupKey


class Fault(StrEnum):
    """What becomes of a call."""

    EXIT = "process ends in the middle of a call"
    EXIT_AFTER = "process ends as it answers"
    KILLED = "process killed from outside"
    HANGS = "never answers"
    SLOW = "slow"
    RAISES = "raises"
    OLD = "answers with other weights"
    LIVE = "engine has skipped, partial, old weights"
    ON_THE_WAY = "weights damaged on their way"
    STORE_FULL = "object store full"
    LOST = "pictures lost"
    TWICE = "answers twice"
    LATE = "weights published late"


PAINTERS_ALONE = frozenset({Fault.EXIT_AFTER, Fault.STORE_FULL, Fault.LOST})
ON_THE_RUNS_SIDE = frozenset({Fault.LOST, Fault.TWICE})
"""Claimed where calls are made; the others where they are obeyed."""
Address = tuple[str, int]
"""Stage, and the first seed of a group."""


@dataclass(frozen=True)
class Struck:
    """``at``: on the clock that all processes of a machine share."""

    fault: Fault
    address: Address
    at: float


class FaultBook:
    """A folder with a file for each appointment."""

    def __init__(self, folder: Path) -> None:
        self._open, self._claimed = folder / "open", folder / "claimed"

    def write(self, faults: Mapping[Address, Fault]) -> None:
        for folder in (self._open, self._claimed):
            folder.mkdir(parents=True)
        for (stage, seed), fault in faults.items():
            (self._open / f"{stage}-{seed}").write_text(fault.name)

    def claim(self, stage: str, seeds: Iterable[int]) -> Struck | None:
        """The first that is open for one of these groups."""
        for seed in seeds:
            name, at = f"{stage}-{seed}", time.monotonic()
            claimed = self._claimed / f"{name}-{at}"  # at one blow: who claims may be killed at any moment
            try:
                (self._open / name).rename(claimed)
            except FileNotFoundError:
                continue
            return Struck(Fault[claimed.read_text()], (stage, seed), at)
        return None

    def left(self) -> list[str]:
        return sorted(path.name for path in self._open.glob("*"))

    def struck(self) -> list[Struck]:
        found = []
        for path in sorted(self._claimed.glob("*")):
            stage, seed, at = path.name.split("-")
            found.append(Struck(Fault[path.read_text()], (stage, int(seed)), float(at)))
        return found


@dataclass(frozen=True)
class FaultPlan:
    """``calls``: address -> what happens there; ``late``: step -> seconds that its weights are published late."""

    calls: Mapping[Address, Fault]
    late: Mapping[int, float]
    keys: Mapping[Address, GroupKey]

    @property
    def count(self) -> int:
        return len(self.calls) + len(self.late)

    def side(self, *, runs: bool) -> dict[Address, Fault]:
        return {address: fault for address, fault in self.calls.items() if (fault in ON_THE_RUNS_SIDE) == runs}
