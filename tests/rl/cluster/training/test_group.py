"""All ranks of the trainer live or none, and who is waited for in vain is named; Ray and its actors are invented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from rl.cluster.places import WorkerNeeds
from rl.cluster.training import group as group_module
from rl.cluster.training import progress as progress_module
from rl.cluster.training.group import RanksLost, TrainerGroup
from rl.cluster.training.messages import Residence, TrainerStart
from rl.config.sections.cluster import ClusterConfig
from rl.process.ranks import Place
from rl.types import RunFailure, UserError

SILENCE = "silence"


class Answer:
    def __init__(self, fate: object) -> None:
        self.fate = fate


class _Method:
    def __init__(self, answer: Callable[..., object]) -> None:
        self._answer = answer

    def remote(self, *arguments: object) -> Answer:
        return Answer(self._answer(*arguments))


def _came(world: World, rank: int) -> object:
    """The first one has exported as well."""
    came = world.came.get(rank, 0)
    return came if came is SILENCE else (came, 1000 if rank == 0 else 0)


class FakeRank:
    """Answers with what the world says for its rank; silence is for ever."""

    def __init__(self, world: World, rank: int) -> None:
        self.rank, self.places = rank, list[Place]()
        self.where = _Method(lambda: world.wheres.get(rank, Residence("box", 100 + rank, "10.0.0.7", f"n{rank % 2}")))
        self.serve = _Method(world.serve)
        self.join = _Method(lambda start, place: self._joined(world, place))
        self.follow = _Method(lambda: world.lives.get(rank, SILENCE))
        self.do = _Method(lambda what, *_: world.done(rank, what))
        self.progress = _Method(lambda: _came(world, rank))
        self.prune = _Method(lambda lowest: world.pruned.append(lowest))

    def _joined(self, world: World, place: Place) -> object:
        self.places.append(place)
        return world.joins.get(self.rank)


class World:
    def __init__(self) -> None:
        self.ranks: list[FakeRank] = []
        self.killed: list[FakeRank] = []
        self.removed: list[object] = []
        self.wheres: dict[int, object] = {}
        self.served: list[str] = []
        self.joins: dict[int, object] = {}
        self.lives: dict[int, object] = {}
        self.answers: dict[str, object] = {}
        self.came: dict[int, object] = {}
        self.pruned: list[int] = []
        self.asked: list[str] = []
        self.now = 0.0

    def serve(self, address: str) -> int:
        self.served.append(address)
        return 4711

    def done(self, rank: int, what: str) -> object:
        assert rank == 0
        self.asked.append(what)
        return self.answers.get(what, f"{what} done")

    # what is asked of Ray

    def wait(self, answers: Sequence[Answer], timeout: float) -> tuple[list[Answer], list[Answer]]:
        ready = [one for one in answers if one.fate is not SILENCE]
        if not ready:
            self.now += timeout
        return ready[:1], [one for one in answers if one not in ready[:1]]

    def get(self, answer: Answer, timeout: float | None = None) -> object:
        if isinstance(answer.fate, BaseException):
            raise answer.fate
        return answer.fate

    def kill(self, actor: FakeRank) -> None:
        self.killed.append(actor)

    def get_runtime_context(self) -> SimpleNamespace:
        return SimpleNamespace(get_node_id=lambda: "the driver's")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(group_module, "ray", world)
    monkeypatch.setattr(progress_module, "ray", world)
    monkeypatch.setattr(group_module, "time", SimpleNamespace(monotonic=lambda: world.now))
    monkeypatch.setattr(
        group_module,
        "RankProgress",
        lambda actors, deadline: progress_module.RankProgress(actors, deadline, lambda: world.now),
    )
    monkeypatch.setattr(group_module, "placement_group", lambda places, strategy: (tuple(map(str, places)), strategy))
    monkeypatch.setattr(group_module, "remove_placement_group", world.removed.append)

    def start_rank(group: object, rank: int, needs: WorkerNeeds) -> FakeRank:
        world.ranks.append(FakeRank(world, rank))
        return world.ranks[-1]

    monkeypatch.setattr(group_module, "start_rank", start_rank)
    return world


START = TrainerStart(None, "/", "run", 1)  # type: ignore[arg-type]


def a_group(size: int = 3) -> TrainerGroup:
    config = ClusterConfig(timeout_s=40, start_timeout_s=10)
    return TrainerGroup(size, WorkerNeeds(1.0, 1.0, 2), config)


def joined(size: int = 3) -> TrainerGroup:
    group = a_group(size)
    group.meet()
    group.join(START)
    return group


def died() -> ActorDiedError:
    return ActorDiedError()


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("do", "a traceback", cause).as_instanceof_cause()


def test_ranks_meet_at_a_port_that_is_bound_and_know_their_places(world: World) -> None:
    group = joined()
    assert group.meet().pid == 100
    assert world.served == ["10.0.0.7"]  # they are on two machines
    assert [one.places for one in world.ranks] == [
        [Place(rank, 3, 0, local_world, "10.0.0.7", 4711, store_is_there=True)]
        for rank, local_world in enumerate((2, 1, 2))
    ]
    assert group.ask("learn", "a lesson") == "learn done"


def test_those_of_one_machine_meet_inside_it(world: World) -> None:
    world.wheres = {rank: Residence("box", rank, "10.0.0.7", "n") for rank in range(2)}
    joined(2)
    assert world.served == ["127.0.0.1"]


def test_one_alone_needs_no_store(world: World) -> None:
    joined(1)
    assert world.served == []


def test_a_rank_without_room_is_named(world: World) -> None:
    world.wheres[2] = SILENCE
    with pytest.raises(RanksLost) as caught:
        a_group().meet()
    assert str(caught.value) == (
        "trainer rank 2 of 3 has not started within 10 s (has the cluster the CPUs and GPUs that it asks for?)"
    )


def test_a_rank_that_does_not_load_or_dies_of_it_is_named(world: World) -> None:
    world.joins[1] = SILENCE
    with pytest.raises(RanksLost, match=r"^trainer rank 1 of 3 \(process 101 on box\) has not loaded within 10 s$"):
        joined()
    world.joins[1] = died()
    with pytest.raises(RanksLost, match=r"^trainer rank 1 of 3 \(process 101 on box\) died \(ActorDiedError"):
        joined()


def test_what_a_user_did_is_told_in_the_words_of_the_rank(world: World) -> None:
    world.joins[0] = raised(UserError("train.lr: too high"))
    with pytest.raises(UserError, match="^train.lr: too high$"):
        joined()


def test_the_death_of_a_follower_ends_a_call_at_once(world: World) -> None:
    world.answers["learn"] = SILENCE
    world.lives[2] = died()
    with pytest.raises(RanksLost, match=r"^trainer rank 2 of 3 \(process 102 on box\) died \(ActorDiedError"):
        joined().ask("learn")
    assert world.now == 0.0


def test_the_first_rank_is_not_blamed_for_what_a_dead_one_has_done_to_it(world: World) -> None:
    """Its all-reduce has failed before Ray has told of the other's death."""
    group = joined()
    world.answers["learn"] = raised(RuntimeError("Connection closed by peer"))
    life = next(one for one, rank in group._lives.items() if rank == 1)

    def wait(answers: Sequence[Answer], timeout: float) -> tuple[list[Answer], list[Answer]]:
        if life in answers and len(answers) == 2:
            life.fate = died()
        return World.wait(world, answers, timeout)

    world.wait = wait  # type: ignore[method-assign]
    with pytest.raises(RanksLost, match=r"^trainer rank 1 of 3 .* died"):
        group.ask("learn")


def test_the_first_rank_is_named_where_nobody_else_is_dead(world: World) -> None:
    world.answers["learn"] = raised(RuntimeError("no way"))
    with pytest.raises(RanksLost, match=r"^trainer rank 0 of 3 \(process 100 on box\) raised RuntimeError: no way$"):
        joined().ask("learn")
    world.answers["learn"] = died()
    with pytest.raises(RanksLost, match=r"^trainer rank 0 of 1 \(process 100 on box\) died"):
        joined(1).ask("learn")


@pytest.mark.parametrize("cause", [UserError("update 3: the loss is nan"), RunFailure("out of memory in 'update'")])
def test_what_all_ranks_raise_is_told_and_nobody_is_started_again(world: World, cause: Exception) -> None:
    world.answers["learn"] = raised(cause)
    world.lives[1] = raised(cause)
    with pytest.raises(type(cause), match=f"^{cause}$"):
        joined().ask("learn")


def test_a_full_disk_is_told_as_the_disk_tells_it_and_a_lost_connection_is_not(world: World) -> None:
    world.answers["save"] = raised(OSError(28, "No space left on device", "/runs/a/model.safetensors"))
    with pytest.raises(OSError) as caught:
        joined().ask("save")
    assert (caught.value.errno, caught.value.filename) == (28, "/runs/a/model.safetensors")
    world.answers["save"] = raised(ConnectionResetError("by peer"))
    with pytest.raises(RanksLost, match=r"raised ConnectionResetError: by peer$"):
        joined().ask("save")


def test_ranks_that_get_nowhere_are_found_by_the_one_that_has_done_least(world: World) -> None:
    world.answers["learn"] = SILENCE
    world.came = {0: 5, 1: 4, 2: 5}
    with pytest.raises(RanksLost, match=r"^trainer rank 1 of 3 \(process 101 on box\) got nowhere for 40 s$"):
        joined().ask("learn")
    assert 40 < world.now < 60


def test_one_that_does_not_even_say_how_far_it_is_is_named_first(world: World) -> None:
    world.answers["learn"] = SILENCE
    world.came = {0: 0, 1: 4, 2: SILENCE}
    with pytest.raises(RanksLost, match=r"^trainer rank 2 of 3 \(process 102 on box\) does not answer for 40 s$"):
        joined().ask("learn")


@pytest.mark.parametrize("deadline", [36.0, 38.0, 40.0, 42.0, 44.0, 46.0])
def test_one_that_falls_silent_is_named_whenever_it_is_looked_for(world: World, deadline: float) -> None:
    """It was as far as the others then, which wait for it."""
    world.came = {0: 4, 1: 4}
    ranks = [FakeRank(world, rank) for rank in range(2)]
    progress = progress_module.RankProgress(ranks, deadline, lambda: world.now)
    found = None
    while found is None:
        if world.now == 12.0:
            world.came[1] = SILENCE
        world.now += 0.5
        found = progress.stuck()
    assert found == (1, f"does not answer for {deadline:g} s")


def test_a_restart_takes_the_same_places(world: World) -> None:
    group = joined()
    group.restart(START)
    assert world.killed == world.ranks[:3]
    assert [one.rank for one in world.ranks] == [0, 1, 2, 0, 1, 2]
    assert group.ask("learn") == "learn done"
    group.prune(4)
    assert world.pruned == [4]
    group.close()
    assert world.asked == ["learn", "discard"]
    assert world.killed == world.ranks
    assert len(world.removed) == 1
