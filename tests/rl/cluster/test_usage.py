"""How busy workers were, in a file beside the metrics."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rl.cluster.board import FinishedStep
from rl.cluster.usage import ClusterUsage
from rl.scheduler.events import Learn
from rl.types import Renders
from tests.rl.rollouts import a_rollout


def test_shares_of_the_time_that_went_by(tmp_path: Path) -> None:
    clock = iter([100.0, 104.0, 110.0, 110.0])
    usage = ClusterUsage(tmp_path, {"sample": 1, "paint": 2}, now=lambda: next(clock))
    renders = Renders(np.zeros((2, 1, 1, 3), np.uint8), (1, 2), 1)
    for step, busy in enumerate([{"sample": 1.0, "paint": 4.0}, {"sample": 2.0, "paint": 8.0}], 5):
        done = FinishedStep(a_rollout(1, 2), renders, [], None, busy)
        order = Learn(step, step, step - 2, ())
        usage.step(order, done, newest=step - 1, waited=1.0, counts={"leases": 3, "deaths": 1})
    told = usage.told({"deaths": 1, "second leases": 2})
    assert told == (
        "cluster: busy samplers 30%, painters 60%, trainer 80% of 10 s and 2 steps; 1 workers lost, 2 calls given to a "
        "second one"
    )
    first, second = map(json.loads, (tmp_path / "cluster.jsonl").read_text().splitlines())
    assert (first["step"], first["staleness"], first["published_ahead"], first["seconds"]) == (5, 2, 1, 4.0)
    assert (second["seconds"], second["busy"]) == (6.0, {"sample": 2.0, "paint": 8.0})
    assert second["workers"] == {"sample": 1, "paint": 2}
