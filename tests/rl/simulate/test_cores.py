"""Workers that share the cores of a machine slow each other down."""

from __future__ import annotations

import pytest
import simpy

from rl.simulate.bounds import WorkerSplit, bounds
from rl.simulate.cores import SharedCores
from rl.simulate.simulation import Simulation
from tests.rl.simulate.test_simulation import work

SPLIT = WorkerSplit(1, 1, 1, 1)


@pytest.mark.parametrize(
    ("count", "ends"),
    [
        (3.0, {"a": 4.0, "b": 6.0, "c": 3.0}),
        # two share it until 2, three until 5, two until 9
        (1.0, {"a": 9.0, "b": 11.0, "c": 5.0}),
        (2.0, {"a": 4.5, "b": 6.5, "c": 3.5}),
    ],
)
def test_who_is_at_work_gets_an_equal_share(count: float, ends: dict[str, float]) -> None:
    env, seen = simpy.Environment(), dict[str, float]()
    cores = SharedCores(env, count)

    def call(name: str, begin: float, seconds: float):  # type: ignore[no-untyped-def]
        yield env.timeout(begin)
        yield from cores.work(seconds)
        seen[name] = env.now

    for name, begin, seconds in (("a", 0.0, 4.0), ("b", 0.0, 6.0), ("c", 2.0, 1.0)):
        env.process(call(name, begin, seconds))
    env.run()
    assert seen == pytest.approx(ends)


@pytest.mark.parametrize("staleness", [0, 2, 3])
def test_a_step_takes_all_of_its_work_where_one_core_does_it(staleness: int) -> None:
    step = work(8, load=0.0, jitter=0.0)
    alone = bounds(step, SPLIT).busy
    seen = {
        cores: Simulation(step, SPLIT, 40, staleness, cores=cores).run().step_seconds(staleness)
        for cores in (1.0, 100.0, None)
    }
    assert seen[1.0] == pytest.approx(sum(alone.values()), rel=0.05)
    assert seen[100.0] == pytest.approx(seen[None])
    assert seen[1.0] > 1.05 * seen[None] or staleness == 0
