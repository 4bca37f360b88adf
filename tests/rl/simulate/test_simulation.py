"""The closed form against the event queue, and what faults do."""

from __future__ import annotations

import pytest

from rl.simulate.bounds import WorkerSplit, best_split, bounds
from rl.simulate.costs import H100, read_costs
from rl.simulate.faults import Faults
from rl.simulate.simulation import Simulation
from rl.simulate.workload import Workload
from rl.types import RunFailure

COSTS = read_costs(H100)


def work(groups: int, passes: int = 30, **costs: float) -> Workload:
    return Workload(groups, 16, 1, passes, COSTS.model_copy(update=costs))


CASES = [
    (32, 30, WorkerSplit(1, 6, 1, 2)),
    (32, 10, WorkerSplit(1, 5, 2, 2)),
    (32, 30, WorkerSplit(2, 27, 3, 8)),
    (128, 30, WorkerSplit(3, 26, 3, 8)),
    (256, 30, WorkerSplit(6, 52, 6, 16)),
    (32, 30, WorkerSplit(1, 1, 1, 1)),
    (8, 10, WorkerSplit(1, 2, 6, 1)),
]


@pytest.mark.parametrize("staleness", [0, 1, 2, 3])
@pytest.mark.parametrize(("groups", "passes", "split"), CASES, ids=[f"{groups}-{split}" for groups, _, split in CASES])
def test_a_step_takes_what_the_closed_form_says(groups: int, passes: int, split: WorkerSplit, staleness: int) -> None:
    """T(eta) = max(T_bottleneck, L / (eta + 1)), within 10 %."""
    step = work(groups, passes)
    seen = Simulation(step, split, 16, staleness).run().step_seconds(staleness)
    assert seen == pytest.approx(bounds(step, split).seconds(staleness), rel=0.1)


def test_the_closed_form_by_hand() -> None:
    """32 groups of 16 pictures at 10 steps: two waves of 256, 5 painters, 2 ranks."""
    found = bounds(work(32, 10, load=0.0), WorkerSplit(1, 5, 2, 100))
    wave, group = 3.86 + 0.0152 * 256, (0.0395 + 10 * 0.00814) * 16
    assert found.busy["samplers"] == pytest.approx(2 * wave)
    assert found.busy["painters"] == pytest.approx(32 * group / 5)
    assert found.busy["trainers"] == pytest.approx(2.0 + 0.0297 * 512 / 2)
    alone = 2 * wave + 4 * group + 0.05 * 16 + found.busy["trainers"]  # 4 rounds of painting after the second wave
    assert found.alone == pytest.approx(alone)
    assert found.bottleneck == "samplers" and found.bound(0) == "staleness" and found.bound(2) == "samplers"
    assert found.enough_staleness == 2


def test_staleness_is_as_asked_and_a_run_repeats_itself() -> None:
    one, other = (Simulation(work(8), WorkerSplit(1, 3, 1, 1), 12, 2, seed=4).run() for _ in range(2))
    assert one.staleness == {0: 1, 1: 1, 2: 10}
    assert one.published == other.published
    assert one.published != Simulation(work(8), WorkerSplit(1, 3, 1, 1), 12, 2, seed=5).run().published


def test_workers_that_bring_nothing_are_left_out() -> None:
    assert str(best_split(work(32), 8, 2, staleness=2)) == "1:6:1"
    few = best_split(work(1), 64, 16, staleness=2)  # one group a step: nobody can share it
    assert few.samplers == 1 and few.workers < 16


def test_failures_cost_time_and_no_step() -> None:
    calm = Simulation(work(32), WorkerSplit(2, 12, 2, 4), 24, 2).run()
    faults = Faults(hours_between=0.1, restart=60.0, checkpoint_every=4)
    struck = Simulation(work(32), WorkerSplit(2, 12, 2, 4), 24, 2, faults=faults).run()
    assert struck.counts["deaths"] > 0 and struck.counts["trainer deaths"] > 0
    assert struck.learnt + struck.failed == 24 * 32 and calm.learnt == 24 * 32
    assert len(struck.published) == 24 and struck.staleness == calm.staleness
    assert struck.published[-1] > calm.published[-1] + 60.0


def test_a_run_that_cannot_go_on_says_why() -> None:
    with pytest.raises(RunFailure) as caught:
        Simulation(work(8), WorkerSplit(1, 3, 40, 1), 12, 2, faults=Faults(hours_between=0.002)).run()
    assert "the simulated run on 1:3:40 stopped at " in str(caught.value)
    assert "simulated failure" in str(caught.value)
