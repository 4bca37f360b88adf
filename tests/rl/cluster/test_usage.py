"""How busy workers were, in a file beside the metrics and in a sentence at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rl.cluster.board import FinishedStep
from rl.cluster.usage import ClusterUsage
from rl.run_folder.usage import CallSpan, UsageRow, read_usage
from rl.scheduler.events import Learn
from rl.types import Renders
from tests.rl.rollouts import a_rollout


class Hand:
    """A clock, and what workers have done until then."""

    def __init__(self) -> None:
        self.time, self.worked = 100.0, {"sample": 7.0, "paint": 0.0}

    def moves(self, to: float, sample: float, paint: float) -> None:
        self.time, self.worked = to, {"sample": 7.0 + sample, "paint": paint}


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def usage(tmp_path: Path, hand: Hand) -> ClusterUsage:
    return ClusterUsage(tmp_path, {"sample": 1, "paint": 2}, lambda: hand.worked, now=lambda: hand.time)


def learn(usage: ClusterUsage, step: int, *calls: CallSpan, waited: float = 1.0) -> UsageRow:
    done = FinishedStep(a_rollout(1, 2), Renders(np.zeros((2, 1, 1, 3), np.uint8), (1, 2), 1), [], None, 0.0, calls)
    counts, queued = {"leases": 3, "deaths": 1}, {"sample": 0, "paint": 4, "score": 2}
    return usage.ordered(Learn(step, step, step - 2, ()), done, waited=waited, queued=queued, counts=counts)


def test_shares_of_the_time_that_went_by(usage: ClusterUsage, hand: Hand) -> None:
    hand.moves(104.0, sample=1.0, paint=4.0)
    first = learn(usage, 5)
    usage.published()
    hand.moves(110.0, sample=3.0, paint=12.0)
    second = learn(usage, 6, waited=1.5)
    assert first.shares == {"sample": 0.25, "paint": 0.5, "trainer": 0.75}
    assert second.busy == {"sample": 2.0, "paint": 8.0} and second.seconds == 6.0
    assert second.shares == {"sample": pytest.approx(1 / 3), "paint": pytest.approx(2 / 3), "trainer": 0.75}
    assert (second.staleness, second.queued, second.counts["deaths"]) == (2, {"sample": 0, "paint": 4, "score": 2}, 1)
    assert usage.told({"deaths": 1, "second leases": 2}) == (
        "cluster: busy samplers 30%, painters 60%, trainer 75% of 10 s and 2 steps; 1 worker lost, 2 calls given to a "
        "second one"
    )


def test_a_line_holds_who_made_the_step_and_who_learnt_it(usage: ClusterUsage, hand: Hand, tmp_path: Path) -> None:
    hand.moves(104.0, sample=1.0, paint=4.0)
    learn(usage, 5, CallSpan("sampler-0", 5, 100.5, 101.0), CallSpan("painter-1", 5, 101.0, 103.5))
    assert not (tmp_path / "cluster.jsonl").exists()  # nobody has learnt from it yet
    hand.time = 105.5
    usage.published()
    usage.published()  # what is published without an order is nobody's step
    (row,) = read_usage(tmp_path)
    begin = row.calls[0].start
    assert [(call.worker, round(call.start - begin, 2), round(call.end - begin, 2)) for call in row.calls] == [
        ("sampler-0", 0.0, 0.5),
        ("painter-1", 0.5, 3.0),
        ("trainer", 3.5, 5.0),
    ]


def test_the_lag_is_from_publication_to_the_first_call(usage: ClusterUsage, hand: Hand) -> None:
    assert learn(usage, 2, CallSpan("sampler-0", 2, 100.0, 101.0)).publish_lag is None  # weights of the start
    hand.time = 110.0
    usage.published()  # what 3 steps have learnt
    hand.time = 120.0
    late = learn(usage, 5, CallSpan("sampler-0", 5, 112.5, 113.0), CallSpan("painter-0", 5, 113.0, 114.0))
    assert late.publish_lag == 2.5
