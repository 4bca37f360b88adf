"""An engine that lends its memory: in which order it takes it back, and what it refuses meanwhile."""

from __future__ import annotations

import pytest

from rollout.samplers.contract import EngineError
from rollout.samplers.nap import Nap


class FakeEngine:
    """What is used of vLLM, written down."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def wake_up(self, tags: list[str]) -> None:
        self.calls.append(f"wake {' '.join(tags)}")


def test_new_weights_go_in_before_the_cache_is_back() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.begin(2)
    assert nap.forgotten
    nap.make_room()
    engine.calls.append("weights go in")
    nap.end(weights_came=True)
    assert engine.calls == ["sleep 2", "wake weights", "weights go in", "wake kv_cache"]
    assert not nap.forgotten


def test_a_light_nap_ends_when_the_engine_is_asked() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.end()
    nap.begin(1)
    nap.begin(1)  # an evaluation's next batch: asleep already
    nap.end()
    nap.end()
    assert engine.calls == ["sleep 1", "wake weights kv_cache"]


def test_an_engine_without_weights_is_not_asked() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.begin(2)
    with pytest.raises(EngineError, match=r"dropped its weights \(rollout.sleep is 2\) and none came"):
        nap.end()
    assert engine.calls == ["sleep 2"]
