"""What the runs of a sweep have written, arm by arm, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rl.config.schema import Config
from rl.evaluation.results import GRADED, OVERALL, Evaluation, load_all, with_graded
from rl.run_folder.environment import ENVIRONMENT_FILE, Session
from rl.run_folder.records import Row, read_json, read_metrics
from rl.sweep.member import Member
from rl.sweep.plan import SweepPlan
from rl.tracking.clock import total_seconds

_NOT_TRAINING = ("evaluate", "save")


@dataclass(frozen=True)
class MadeRun:
    """A finished run: what its folder says."""

    arm: str
    seed: int
    folder: Path
    config: Config
    rows: list[Row]
    evaluations: list[Evaluation]
    sessions: list[Session]

    @property
    def before(self) -> Evaluation:
        return self.evaluations[0]

    @property
    def after(self) -> Evaluation:
        return self.evaluations[-1]

    @property
    def pictures(self) -> float:
        """Training pictures."""
        return sum(row.metrics.get("images") or 0.0 for row in self.rows)

    @cached_property
    def seconds(self) -> float:
        """Of training, without evaluations."""
        return sum(map(training_seconds, self.rows))

    @property
    def steps(self) -> int:
        return self.rows[-1].step + 1 if self.rows else 0

    @property
    def alarms(self) -> list[str]:
        return [alarm.sentence for row in self.rows for alarm in row.alarms]


@dataclass(frozen=True)
class MadeArm:
    """The finished runs of an arm, by seed, and the members that are missing."""

    name: str
    runs: tuple[MadeRun, ...]
    missing: tuple[Member, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)

    @property
    def config(self) -> Config | None:
        return self.runs[0].config if self.runs else None

    def mean(self, values: Sequence[float]) -> float:
        return sum(values) / len(values)

    @property
    def pictures(self) -> float:
        return self.mean([run.pictures for run in self.runs])

    @property
    def seconds(self) -> float:
        return self.mean([run.seconds for run in self.runs])

    @property
    def steps(self) -> float:
        return self.mean([run.steps for run in self.runs])


def training_seconds(row: Row) -> float:
    return total_seconds(row.seconds) - sum(row.seconds.get(name, 0.0) for name in _NOT_TRAINING)


def gather(plan: SweepPlan, members: Sequence[Member]) -> list[MadeArm]:
    """Every arm in its order, those without a finished run too."""
    return [
        MadeArm(
            arm.name,
            tuple(read_made(one) for one in members if one.run.arm == arm.name and one.complete),
            tuple(one for one in members if one.run.arm == arm.name and not one.complete),
        )
        for arm in plan.arms
    ]


def read_made(member: Member) -> MadeRun:
    environment = member.source / ENVIRONMENT_FILE
    sessions = read_json(environment)["sessions"] if environment.is_file() else []
    evaluations = with_graded(load_all(member.source))
    rows = read_metrics(member.source)
    return MadeRun(member.run.arm, member.run.seed, member.source, member.run.config, rows, evaluations, sessions)


def rewards_of(arms: Sequence[MadeArm]) -> list[str]:
    """Strict ones first in the order of the configuration: trained before monitors, graded values last."""
    found = dict.fromkeys(reward for arm in arms for run in arm.runs for reward in run.after.results)
    monitors = monitors_of(arms)
    return sorted(found, key=lambda reward: (reward.endswith(GRADED), reward in monitors))


def monitors_of(arms: Sequence[MadeArm]) -> set[str]:
    """Rewards that some arm only looks at, and none trains on."""
    roles: dict[str, set[str]] = {}
    for arm in arms:
        for name, reward in (arm.config.rewards if arm.config else {}).items():
            roles.setdefault(name, set()).add(reward.role)
    return {name for name, found in roles.items() if found == {"monitor"}}


def tasks_of(arms: Sequence[MadeArm], reward: str) -> list[str]:
    """``overall`` last."""
    found = dict.fromkeys(task for arm in arms for run in arm.runs for task in run.after.results.get(reward, {}))
    return [*(task for task in found if task != OVERALL), *(task for task in found if task == OVERALL)]
