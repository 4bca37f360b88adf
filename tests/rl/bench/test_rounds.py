from __future__ import annotations

from collections.abc import Mapping

from rl.bench.rounds import WARM_UP, measure
from rl.bench.variants import VARIANTS
from tests.rl.bench.fakes import FakeWorker

NAMES = ("ours", "trl", "ours-best")


def run(heard: list[str], workers: Mapping[str, FakeWorker], steps: int, told: list[str] | None = None):
    ticks = iter(range(0, 1000, 2))  # every look at the clock is 2 s later
    said = [] if told is None else told
    return measure(
        [VARIANTS[name] for name in workers], lambda one: workers[one.name], steps, said.append, lambda: next(ticks)
    )


def test_variants_take_their_steps_in_turn_and_floors_come_last() -> None:
    heard: list[str] = []
    run(heard, {name: FakeWorker(name, heard) for name in NAMES}, steps=1)
    assert heard == [
        *(f"{name} ready" for name in NAMES),
        *[f"{name} step" for _ in range(WARM_UP + 1) for name in NAMES],
        *("ours floor", "ours-best floor"),  # TRL has none
        *(f"{name} closed" for name in reversed(NAMES)),
    ]


def test_warm_up_steps_do_not_count_and_the_median_is_told_with_its_range() -> None:
    heard: list[str] = []
    (ours,) = run(heard, {"ours": FakeWorker("ours", heard, seconds=(9.0, 9.0, 1.0, 5.0, 2.0))}, steps=3)
    assert (ours.seconds, ours.range, ours.stage("paint"), ours.reward) == (2.0, (1.0, 5.0), 1.0, 0.5)
    assert (ours.peak_mb, ours.ratio_deviation, ours.floor[0].gflop) == (1024.0, 0.0, 10.0)


def test_one_that_fails_is_told_in_a_line_and_the_others_go_on() -> None:
    heard: list[str] = []
    told: list[str] = []
    workers = {name: FakeWorker(name, heard) for name in ("ours", "trl", "trl-vllm")}
    workers["trl"].fails_at, workers["trl-vllm"].fails_at = "step 2", "ready"
    ours, trl, vllm = run(heard, workers, steps=2, told=told)
    assert ours.measured
    assert not trl.measured
    assert (trl.failure, vllm.failure) == ("no step today", "no ready today")
    assert heard.count("trl step") == 2
    assert heard.count("trl-vllm step") == 0
    assert heard.count("ours step") == 4
    assert {"trl closed", "trl-vllm closed"} <= set(heard)
    assert "TRL, vLLM failed: no ready today" in told


def test_a_floor_that_fails_leaves_the_steps() -> None:
    heard: list[str] = []
    (ours,) = run(heard, {"ours": FakeWorker("ours", heard, fails_at="floor")}, steps=1)
    assert ours.measured
    assert ours.floor_failure == "no floor today"


def test_progress_says_how_long_it_will_take() -> None:
    heard: list[str] = []
    told: list[str] = []
    run(heard, {"ours": FakeWorker("ours", heard, seconds=(1.25,))}, steps=2, told=told)
    assert "round 1 of 4: warming up; about 6 s left" in told
    assert "round 3 of 4: ours 1.25 s; about 2 s left" in told
