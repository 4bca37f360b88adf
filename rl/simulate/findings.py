"""The same step on more and more workers: simulated, by the closed form, with faults, and on shared devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table as RichTable

from rl.simulate.arguments import SimulationPlan
from rl.simulate.bounds import StepBounds, WorkerSplit, best_split, bounds
from rl.simulate.faults import NO_FAULTS, Faults
from rl.simulate.simulation import Simulated, Simulation
from rl.simulate.workload import Workload

_SCORERS = 4  # one worker for rewards beside so many others


@dataclass(frozen=True)
class ScalingRow:
    """One number of workers, split as well as can be."""

    workers: int
    split: WorkerSplit
    work: Workload
    bounds: StepBounds
    staleness: int
    seconds: float
    """Of a step, simulated."""
    clean: Simulated
    faulty: Simulated

    @property
    def disturbed(self) -> float:
        """Seconds of a step with failures and slow calls: all the time that they cost, shared by all steps."""
        lost = self.faulty.published[-1] - self.clean.published[-1]
        return self.seconds + lost / len(self.clean.published)

    @property
    def formula(self) -> float:
        return self.bounds.seconds(self.staleness)

    @property
    def pictures_per_second(self) -> float:
        return self.work.pictures / self.seconds

    @property
    def busy(self) -> dict[str, float]:
        """Share of the time that each kind of worker has something to do."""
        split, whole = self.split, self.clean.published[-1]
        counts = {"sample": split.samplers, "paint": split.painters, "update": 1}
        return {stage: self.clean.busy[stage] / count / whole for stage, count in counts.items()}

    @property
    def held_gb(self) -> float | None:
        """Pictures that wait for their rewards, at most."""
        size = self.work.costs.picture_mb
        return None if size is None else self.clean.most_pictures * size / 1000


def scale(plan: SimulationPlan) -> Iterator[ScalingRow]:
    """One row after another. Raises RunFailure if a simulated run cannot go on."""
    for workers in plan.workers:
        work = plan.work_of(workers)
        split = best_split(work, workers, scorers(workers), plan.staleness)
        clean = simulated(plan, work, split, plan.staleness, NO_FAULTS)
        faulty = simulated(plan, work, split, plan.staleness, plan.faults)
        yield ScalingRow(
            workers,
            split,
            work,
            bounds(work, split, plan.cores),
            plan.staleness,
            clean.step_seconds(plan.staleness),
            clean,
            faulty,
        )


def scorers(workers: int) -> int:
    return max(1, workers // _SCORERS)


def simulated(
    plan: SimulationPlan,
    work: Workload,
    split: WorkerSplit,
    staleness: int,
    faults: Faults,
) -> Simulated:
    """The three steps in the middle are kept call by call where there are few workers."""
    middle = plan.steps // 2
    watch = range(middle, middle + 3) if split.workers <= plan.workers[0] else range(0)
    return Simulation(
        work, split, plan.steps, staleness, faults=faults, seed=plan.seed, watch=watch, cores=plan.cores
    ).run()


def console_table(plan: SimulationPlan, rows: Sequence[ScalingRow]) -> RichTable:
    table = RichTable(title=f"staleness {plan.staleness}; costs: {plan.work.costs.source}", title_justify="left")
    for name in ("workers", "sample:paint:learn", "pictures", "bound by", "s a step", "formula", "taking turns"):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    for name in ("pictures/s", "busy, %", "held, GB", "with faults", "lost"):
        table.add_column(name, justify="right")
    for row in rows:
        held = "-" if row.held_gb is None else f"{row.held_gb:.2g}"
        table.add_row(
            f"{row.workers}",
            str(row.split),
            f"{row.work.pictures:,}",
            row.bounds.bound(row.staleness),
            f"{row.seconds:.3g}",
            f"{row.formula:.3g}",
            f"{row.work.time_shared(row.workers):.3g}",
            f"{row.pictures_per_second:.3g}",
            ":".join(f"{share:.0%}".removesuffix("%") for share in row.busy.values()),
            held,
            f"{row.disturbed:.3g}",
            f"{row.faulty.counts['deaths']}+{row.faulty.counts['trainer deaths']}",
        )
    return table


def sentences(plan: SimulationPlan, rows: Sequence[ScalingRow]) -> list[str]:
    """What follows from the table."""
    ages = sorted({age for row in rows for age in row.clean.staleness})
    most = max(abs(row.seconds / row.formula - 1) for row in rows)
    told = [
        f"Versions between the weights that made a step and those that learn from it: {', '.join(map(str, ages))}."
        if plan.staleness
        else "A step's weights are the newest, always.",
        f"The closed form max(busiest, alone / (staleness + 1)) is at most {most:.1%} off.",
    ]
    told += _advice(rows)
    deaths = sum(row.faulty.counts["deaths"] for row in rows)
    trainer, second = (sum(row.faulty.counts[name] for row in rows) for name in ("trainer deaths", "second leases"))
    learnt, failed = (sum(getattr(row.faulty, name) for row in rows) for name in ("learnt", "failed"))
    groups = sum(row.work.groups * plan.steps for row in rows)
    told.append(
        f"Faults of all rows together: {deaths} workers and {trainer} trainers lost, {second} leases given to a second "
        f"worker as well; {learnt:,} of {groups:,} groups were learnt from and {failed} have failed."
    )
    if plan.faults.hours_between:
        told.append(_expected_loss(plan, rows[-1]))
    if not plan.work.costs.measured:
        if plan.decoder_learns:
            told.append("The table has no price for the decoder's own update, which is left out; --run RUN has one.")
        told.append("The costs are derived, not measured: nothing here has run on such machines.")
    return told


def _advice(rows: Sequence[ScalingRow]) -> Iterator[str]:
    short = [row for row in rows if row.bounds.enough_staleness > row.staleness]
    if short:
        row = short[0]
        yield (
            f"With {row.workers} workers a staleness of {row.bounds.enough_staleness} would keep the "
            f"{row.bounds.bottleneck} busy: {row.bounds.busiest:.3g} s a step instead of {row.formula:.3g}."
        )
    slower = [row for row in rows if row.work.time_shared(row.workers) <= row.seconds]
    if slower:
        names = ", ".join(str(row.workers) for row in slower)
        yield f"Taking turns on the same devices is no slower with {names} workers, and its weights are the newest."


def _expected_loss(plan: SimulationPlan, row: ScalingRow) -> str:
    """The column is one draw of a short run; a trainer's deaths are few and each is dear."""
    faults, update = plan.faults, row.work.update(row.split.trainers)
    between = faults.hours_between * 3600 / row.split.trainers
    lost = faults.restart + faults.checkpoint_every / 2 * update
    return (
        f"What a trainer's deaths cost on average with {row.workers} workers: one in {between / 3600:.3g} hours of "
        f"work, each {lost:.0f} s by the restart and the steps since a checkpoint, so {lost * update / between:.2g} s "
        "a step."
    )


def as_json(plan: SimulationPlan, rows: Sequence[ScalingRow]) -> dict[str, object]:
    return {
        "costs": plan.work.costs.model_dump(),
        "faults": asdict(plan.faults),
        "staleness": plan.staleness,
        "steps": plan.steps,
        "rows": [
            {
                "workers": row.workers,
                "split": asdict(row.split),
                "pictures": row.work.pictures,
                "bound_by": row.bounds.bound(row.staleness),
                "busy_seconds": row.bounds.busy,
                "alone_seconds": row.bounds.alone,
                "step_seconds": row.seconds,
                "formula_seconds": row.formula,
                "faulty_step_seconds": row.disturbed,
                "time_shared_seconds": row.work.time_shared(row.workers),
                "pictures_per_second": row.pictures_per_second,
                "busy": row.busy,
                "most_pictures_held": row.clean.most_pictures,
                "staleness": dict(row.clean.staleness),
                "counts": dict(row.faulty.counts),
            }
            for row in rows
        ],
    }
