"""An engine that lends its memory: in which order it takes it back, and what it refuses meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rollout.samplers.contract import EngineError
from rollout.samplers.nap import Nap


class FakeEngine:
    """What is used of vLLM, written down. ``lacks``: a tag whose memory others have; ``sleepy``: it never says that it
    is awake; ``keeps``: it does not let go of its cache."""

    def __init__(self, *, lacks: str = "", sleepy: bool = False, keeps: bool = False) -> None:
        self.calls: list[str] = []
        self.lacks, self.sleepy, self.keeps = lacks, sleepy, keeps

    def sleep(self, level: int) -> None:
        self.calls.append(f"sleep {level}")

    def wake_up(self, tags: list[str]) -> bool:
        if self.lacks in tags:
            raise RuntimeError("CUDA Error: out of memory\n at cumem_allocator.cpp:62")
        self.calls.append(f"wake {' '.join(tags)}")
        return "kv_cache" in tags and not self.sleepy

    def reset_prefix_cache(self) -> bool:
        self.calls.append("forget prefixes")
        return not self.keeps


def with_new_weights(nap: Nap, engine: FakeEngine, then: Callable[[], None] = lambda: None) -> None:
    nap.begin(2)
    nap.make_room()
    engine.calls.append("weights go in")
    nap.weights_came()
    then()


def test_new_weights_go_in_before_the_cache_is_back() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.begin(2)
    assert nap.forgotten
    nap.make_room()
    engine.calls.append("weights go in")
    nap.weights_came()
    assert engine.calls == ["sleep 2", "wake weights", "weights go in"]
    assert not nap.forgotten
    nap.end()
    nap.end()
    assert engine.calls[3:] == ["wake kv_cache", "forget prefixes"]


def test_the_cache_of_an_engine_that_never_slept_is_forgotten_too() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.make_room()
    nap.weights_came()
    nap.end()
    assert engine.calls == ["forget prefixes"]


def test_a_light_nap_ends_when_the_engine_is_asked() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.end()
    nap.begin(1)
    nap.begin(1)  # an evaluation's next batch: asleep already
    nap.end()
    nap.end()
    assert engine.calls == ["sleep 1", "wake weights", "wake kv_cache"]


def test_an_engine_without_weights_is_not_asked() -> None:
    engine = FakeEngine()
    nap = Nap(engine)
    nap.begin(2)
    with pytest.raises(EngineError, match=r"dropped its weights \(rollout.sleep is 2\) and none came"):
        nap.end()
    assert engine.calls == ["sleep 2"]


@pytest.mark.parametrize(("tag", "told"), [("weights", "weights"), ("kv_cache", "key-value cache")])
def test_memory_that_others_keep_is_one_sentence(tag: str, told: str) -> None:
    engine = FakeEngine(lacks=tag)
    nap = Nap(engine)
    with pytest.raises(EngineError) as caught:
        with_new_weights(nap, engine, then=nap.end)
    assert str(caught.value) == (
        f"vLLM could not take the memory of its {told} back (CUDA Error: out of memory at cumem_allocator.cpp:62): "
        "others hold too much of the GPU; lower rollout.options.kv_cache_mb, train.micro_batch or render.micro_batch."
    )
    engine.lacks = "nothing"
    nap.make_room()  # it is still away, and comes when there is room
    assert engine.calls.count("wake weights") == 1


@pytest.mark.parametrize(
    ("behaving", "told"),
    [
        ({"sleepy": True}, "vLLM says that a part of it is still asleep after weights and cache were woken"),
        ({"keeps": True}, "vLLM kept its prefix cache because requests are still running"),
    ],
)
def test_an_engine_that_does_not_come_back_whole_is_not_used(behaving: dict[str, bool], told: str) -> None:
    engine = FakeEngine(**behaving)  # type: ignore[arg-type]
    nap = Nap(engine)
    with_new_weights(nap, engine)
    with pytest.raises(EngineError, match=told):
        nap.end()
