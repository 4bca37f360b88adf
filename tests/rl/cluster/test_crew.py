"""Workers of one role come, go and are replaced, with deadlines; the actors are invented."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from rl.cluster import crew as crew_module
from rl.cluster.crew import Crew
from rl.cluster.places import WorkerNeeds
from rl.config.sections.cluster import ClusterConfig
from rl.types import RunFailure, UserError
from rollout.weights import SyncError

Fate = object
"""An exception that a call raises, or what it answers; ``SILENCE``: nothing."""
SILENCE = "silence"


class FakeReference:
    def __init__(self, fate: Fate) -> None:
        self.fate = fate

    def future(self) -> Future[Any]:
        future: Future[Any] = Future()
        if isinstance(self.fate, BaseException):
            future.set_exception(self.fate)
        elif self.fate != SILENCE:
            future.set_result(self.fate)
        return future


class _Method:
    def __init__(self, answer: Callable[..., Fate]) -> None:
        self._answer = answer

    def options(self, **_: object) -> _Method:
        return self

    def remote(self, *arguments: object) -> FakeReference:
        return FakeReference(self._answer(*arguments))


class FakeActor:
    """Answers calls with what the world says for its number."""

    def __init__(self, world: World) -> None:
        self.number, self.alive = len(world.actors), True
        world.actors.append(self)
        self.load = _Method(lambda role, start: world.loads.get(self.number))
        self.work = _Method(lambda version, job: world.works.get(self.number, f"done by {self.number}"))
        self.hold = _Method(lambda version, part: world.holds.get(self.number, version / 1000))
        self.sleep = _Method(lambda level: world.naps.get(self.number, world.slept.append((self.number, level))))


class World:
    def __init__(self) -> None:
        self.actors: list[FakeActor] = []
        self.loads: dict[int, Fate] = {}
        self.works: dict[int, Fate] = {}
        self.holds: dict[int, Fate] = {}
        self.naps: dict[int, Fate] = {}
        self.slept: list[tuple[int, int]] = []

    def get(self, reference: FakeReference, timeout: float) -> object:
        if reference.fate == SILENCE:
            time.sleep(min(timeout, 0.05))
            raise GetTimeoutError()
        if isinstance(reference.fate, BaseException):
            raise reference.fate
        return reference.fate

    def kill(self, actor: FakeActor) -> None:
        actor.alive = False


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World()
    monkeypatch.setattr(crew_module, "start_actor", lambda needs: FakeActor(world))
    monkeypatch.setattr(crew_module, "ray", world)
    yield world
    while crews:
        crews.pop().close()


crews: list[Crew] = []


def a_crew(size: int = 2, *, wait: bool = True, **options: float) -> Crew:
    crew = Crew("sample", size, WorkerNeeds(1, 0, 1), ClusterConfig(**{"start_timeout_s": 5.0, **options}))  # type: ignore[arg-type]
    crews.append(crew)
    crew.load("start")  # type: ignore[arg-type]
    if wait:
        crew.wait()
    return crew


def test_all_are_there_and_the_least_busy_is_asked(world: World) -> None:
    crew = a_crew()
    assert crew.names() == ["sampler-0", "sampler-1"]
    assert crew.submit("sampler-0", 1, "job") is not None
    assert crew.ask(1, "question") == "done by 1"
    crew.answered("sampler-0")
    assert crew.hold(5) == [0.005, 0.005]
    crew.close()
    assert not any(actor.alive for actor in world.actors)


def test_a_dead_one_is_replaced_under_a_new_name_and_the_question_put_to_another(world: World) -> None:
    told: list[tuple[str, str]] = []
    crew = a_crew()
    crew.lost = lambda name, reason: told.append((name, reason))
    world.works = {0: ActorDiedError(), 1: ActorDiedError()}
    assert crew.ask(1, "question") == "done by 2"
    assert crew.names() == ["sampler-2", "sampler-3"]
    assert crew.restarts == 2
    assert [name for name, _ in told] == ["sampler-0", "sampler-1"]
    assert told[0][1].startswith("died (ActorDiedError: The actor died")
    assert crew.submit("sampler-0", 1, "job") is None


def test_how_long_workers_have_had_something_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    crew, clock = a_crew(), [100.0]
    monkeypatch.setattr(crew_module.time, "monotonic", lambda: clock[0])
    crew.submit("sampler-0", 1, "job")
    clock[0] = 101.0
    crew.submit("sampler-0", 1, "another")  # two calls at one time are one worker's time
    crew.submit("sampler-1", 1, "job")
    clock[0] = 103.0
    assert crew.worked() == 3.0 + 2.0
    crew.answered("sampler-0")
    crew.dismiss("sampler-1", "died")
    clock[0] = 104.0
    crew.answered("sampler-0")
    clock[0] = 110.0
    assert crew.worked() == 4.0 + 2.0


def test_who_does_not_answer_is_given_up(world: World) -> None:
    crew = a_crew(1, timeout_s=0.1)
    world.works = {0: SILENCE}
    assert crew.ask(1, "question") == "done by 1"
    world.works = dict.fromkeys(range(9), SILENCE)
    with pytest.raises(RunFailure) as caught:
        crew.ask(1, "question")
    assert str(caught.value) == "3 samplers failed on one question; the last, sampler-3: has not answered for 0.1 s"


def test_weights_that_a_worker_does_not_compute_with_stop_the_run(world: World) -> None:
    crew = a_crew()
    world.holds = {1: RayTaskError("hold", "", SyncError("canary of version 5: engine and trainer differ"))}
    with pytest.raises(RunFailure, match="sampler-1: canary of version 5: engine and trainer differ"):
        crew.hold(5)
    world.holds = {0: ActorDiedError()}  # whereas one that has just died is no reason
    assert crew.hold(6) == [0.006]


def test_a_mistake_in_the_configuration_is_the_users(world: World) -> None:
    world.loads = {0: "policy.path: nothing there", 1: "policy.path: nothing there"}
    with pytest.raises(UserError, match="policy.path: nothing there"):
        a_crew()


def test_workers_that_never_come_up_are_not_tried_for_ever(world: World) -> None:
    world.loads = {number: ActorDiedError() for number in range(20)}
    with pytest.raises(RunFailure) as caught:
        a_crew(1)
    assert str(caught.value).startswith("no sampler could be started: sampler-2 died (ActorDiedError: The actor died")
    assert len(world.actors) == 3


@pytest.mark.parametrize("at_start", [False, True])
def test_a_machine_without_our_code_is_told_what_it_lacks(at_start: bool, world: World) -> None:
    words = (
        "The actor with name _Actor failed to import on the worker. This may be because needed library dependencies "
        "are not installed in the worker environment:\n\nTraceback (most recent call last):\n  File ...\n"
        "ModuleNotFoundError: No module named 'rl'\n"
    )
    error = RayTaskError("load", words, RuntimeError(words))
    world.loads = dict.fromkeys(range(9), ActorDiedError(error) if at_start else error)
    with pytest.raises(RunFailure) as caught:
        a_crew(1)
    assert str(caught.value) == (
        "no sampler could be started: sampler-2 can't import easel-rl on its machine (ModuleNotFoundError: No module "
        "named 'rl'): install the same version there"
    )


def test_a_worker_that_does_not_load_in_time_is_named(world: World) -> None:
    world.loads = dict.fromkeys(range(20), SILENCE)
    with pytest.raises(RunFailure) as caught:
        a_crew(1, start_timeout_s=0.2)
    assert str(caught.value).startswith("no sampler could be started: ")
    assert "within 0.2 s" in str(caught.value)


def test_all_lend_their_memory_also_who_is_still_at_work(world: World) -> None:
    crew = a_crew()
    crew.submit("sampler-0", 1, "job")
    crew.sleep(2)
    assert world.slept == [(0, 2), (1, 2)]
    world.naps[1] = ActorDiedError()
    crew.sleep(1)  # who dies on it has lent its memory for good, and another one comes
    assert crew.restarts == 1
    crew.wait()
    assert crew.names() == ["sampler-0", "sampler-2"]


@pytest.mark.parametrize("kind", [UserError, RunFailure])
def test_an_engine_that_keeps_its_memory_is_told(world: World, kind: type[Exception]) -> None:
    crew = a_crew(1)
    world.naps[0] = RayTaskError("sleep", "a traceback", kind("rollout.sleep is 1, and this engine keeps its memory"))
    with pytest.raises(kind, match="sampler-0: rollout.sleep is 1, and this engine keeps its memory"):
        crew.sleep(1)
