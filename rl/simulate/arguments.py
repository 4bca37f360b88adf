"""What stands on the command line of ``python -m rl.simulate``, and the work, prices and faults that it leads to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.config.load import load
from rl.process.parser import CommandParser
from rl.simulate.costs import H100, costs_of_run, read_costs
from rl.simulate.faults import Faults
from rl.simulate.workload import Workload
from rl.types import UserError

_LEAST, _MOST = 3, 4096
_MOST_SCHEDULES = 1_000_000
_MOST_GROUPS = 2_000_000  # of all steps; some minutes


@dataclass(frozen=True)
class SimulationPlan:
    """``staleness`` and the number of simulated ``steps`` of a ``work``, on each number of ``workers``."""

    work: Workload
    workers: tuple[int, ...]
    pictures_per_worker: int | None
    """None: the step is the configuration's, however many share it."""
    staleness: int
    steps: int
    faults: Faults
    seed: int
    out: Path
    decoder_learns: bool = False
    cores: float | None = None
    """That all workers share; ``None``: each has a device of its own."""
    schedules: int | None = None
    """Instead of all that: this many small runs, each with faults of every kind."""

    def work_of(self, workers: int) -> Workload:
        each = self.pictures_per_worker
        return self.work if each is None else self.work.of_pictures(workers * each)


def read_plan(given: Sequence[str] | None) -> SimulationPlan:
    """Ends the program with code 2 and a sentence if they cannot be read. Raises UserError."""
    found = _parser().parse_intermixed_args(given)
    config = load(found.config, found.overrides)
    if found.run is not None:
        costs = costs_of_run(found.run, config.data.prompts_per_step * config.rollout.group_size)
    else:
        costs = read_costs(found.costs or H100)
    if found.steps < 2 * (found.staleness + 2):
        raise UserError(
            f"--steps {found.steps} with --staleness {found.staleness}: the first steps are no measure of those that "
            f"follow; simulate at least {2 * (found.staleness + 2)}"
        )
    work = Workload.of(config, costs)
    faults = Faults(
        found.hours_between_failures, found.restart, found.slow, checkpoint_every=config.checkpoint.every or 50
    )
    plan = SimulationPlan(
        work,
        found.workers,
        found.pictures_per_worker,
        found.staleness,
        found.steps,
        faults,
        found.seed,
        found.out or Path("runs", f"{found.config.stem}-simulated"),
        "decoder" in config.trainers,
        found.cores,
        found.schedules,
    )
    groups = plan.work_of(plan.workers[-1]).groups
    if groups * plan.steps > _MOST_GROUPS:
        raise UserError(
            f"{plan.steps} steps of {groups:,} groups are more than can be simulated ({_MOST_GROUPS:,} groups in all); "
            "take fewer --steps, or fewer pictures a step"
        )
    return plan


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m rl.simulate",
        description="How fast a configuration would be on many workers, some of which sample, paint or learn: the "
        "scheduler of such a run, with invented workers that take as long as a table or a log says.",
    )
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a run's YAML file")
    add("overrides", nargs="*", metavar="key=value", help="of it: data.prompts_per_step=128 render.steps=10")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--schedules",
        type=_whole(1, _MOST_SCHEDULES),
        metavar="N",
        help="instead: N small runs with faults of every kind; says what was lost, doubled, and how long it took",
    )
    either.add_argument(
        "--workers", type=worker_counts, default="8..512", metavar="N..N", help="doubling, or N,N (default 8..512)"
    )
    add("--cores", type=_number(0.1, 1e4), metavar="N", help="that all share (default: each worker has its own device)")
    add("--staleness", type=_whole(0, 64), default=2, metavar="N", help="versions a step's weights are old (default 2)")
    add(
        "--pictures-per-worker",
        type=_whole(1, 10_000),
        metavar="N",
        help="a step grows with the workers (default: not)",
    )
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument("--costs", type=Path, metavar="FILE", help="seconds of calls (default: rl/simulate/h100.yaml)")
    prices.add_argument("--run", type=Path, metavar="DIR", help="a run's folder: seconds are what its steps took")
    add("--steps", type=_whole(2, 1000), default=24, metavar="N", help="simulated steps (default 24)")
    add("--hours-between-failures", type=_number(0, 1e6), default=50.0, metavar="H", help="of a worker (default 50)")
    add("--restart", type=_number(0, 1e5), default=240.0, metavar="S", help="until it is replaced (default 240 s)")
    add("--slow", type=_number(0, 1), default=0.005, metavar="P", help="share of calls 3 times as long (default 0.005)")
    add("--seed", type=_whole(0, 2**32 - 1), default=0, metavar="N", help="of jitter and failures (default 0)")
    add("--out", type=Path, metavar="DIR", help="for simulation.json and simulation.svg (default: runs/NAME-simulated)")
    return parser


def worker_counts(text: str) -> tuple[int, ...]:
    """``8..64`` -> 8, 16, 32, 64; ``8,24`` -> 8, 24."""
    first, dots, last = text.partition("..")
    if dots:
        low, high = _count(first, text), _count(last, text)
        if low > high:
            raise argparse.ArgumentTypeError(f"{text!r} goes down; write the smaller number first")
        return tuple(low * 2**power for power in range(_MOST.bit_length()) if low * 2**power <= high)
    return tuple(sorted({_count(part, text) for part in text.split(",")}))


def _count(part: str, text: str) -> int:
    if not (part.isascii() and part.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range such as 8..512, nor a list such as 8,32")
    if not _LEAST <= (count := int(part[:9])) <= _MOST:
        raise argparse.ArgumentTypeError(
            f"{part} workers can't be simulated: one samples, one paints, one learns, so from {_LEAST} to {_MOST}"
        )
    return count


def _whole(low: int, high: int) -> Callable[[str], int]:
    """For ``type=``: a whole number in a range."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not low <= int(text[:12]) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _number(low: float, high: float) -> Callable[[str], float]:
    """For ``type=``: a number in a range."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return number

    return read
