"""The ranks of the trainer as one: started together in a placement group, asked through the first one, and given up
together, for none of them can go on without the others. Every wait has a deadline that names who is waited for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.placement_group import placement_group, remove_placement_group

from rl.cluster.crew import cause_of, failure
from rl.cluster.places import WorkerNeeds
from rl.cluster.training.actor import start_rank
from rl.cluster.training.messages import Residence, TrainerStart
from rl.cluster.training.progress import RankProgress
from rl.config.sections.cluster import ClusterConfig
from rl.types import RunFailure, UserError

_WAKE_S = 0.5  # awake: a signal is handled between two waits
_SETTLE_S = 5.0
"""In which it is known who of the ranks is dead, when the others have noticed that somebody is."""
_GOODBYE_S = 5.0
_LEAST_CPUS = 0.001  # a place in a placement group can't be empty


class RanksLost(Exception):
    """A rank of the trainer is gone or gets nowhere, so all of them are of no use. One sentence names it."""


class TrainerGroup:
    """``size`` ranks, asked for at once; ``meet`` waits until their processes are there, ``join`` until they train."""

    def __init__(self, size: int, needs: WorkerNeeds, config: ClusterConfig) -> None:
        self.size, self._needs, self._config = size, needs, config
        place = {"CPU": needs.cpus, "GPU": needs.gpus}
        place = {name: amount for name, amount in place.items() if amount} or {"CPU": _LEAST_CPUS}
        # all on one machine where one has room, which nobody else of the run has taken before; STRICT_PACK would wait
        # for ever for more ranks than a machine has GPUs
        self._group = placement_group([place] * size, strategy="PACK")
        self._residences: Sequence[Residence] = ()
        self._lives: dict[Any, int] = {}
        self._hire()

    def meet(self) -> Residence:
        """Where the first one is. Raises: RanksLost."""
        room = " (has the cluster the CPUs and GPUs that it asks for?)"
        asked = {actor.where.remote(): rank for rank, actor in enumerate(self._actors)}
        found = self._all(asked, f"has not started within {self._config.start_timeout_s:g} s{room}")
        self._residences = [found[rank] for rank in range(self.size)]
        return self._residences[0]

    def join(self, start: TrainerStart) -> None:
        """All load the policy and become one trainer. Raises: RanksLost, UserError, RunFailure."""
        from rl.cluster.training.meeting import address_for, places

        late = f"has not loaded within {self._config.start_timeout_s:g} s"
        address = address_for(self._residences)
        port = 0
        if self.size > 1:
            port = self._all({self._actors[0].serve.remote(address): 0}, late)[0]
        told = zip(self._actors, places(self._residences, address, port), strict=True)
        self._all({actor.join.remote(start, place): place.rank for actor, place in told}, late)
        self._lives = {actor.follow.remote(): rank for rank, actor in enumerate(self._actors) if rank}
        self._progress = RankProgress(self._actors, self._config.timeout_s)

    def ask(self, what: str, *arguments: object) -> Any:
        """What the first rank answers, with the others if it takes them.

        Raises: RanksLost; what the trainer itself raises of a user's mistake or a failure of the run.
        """
        answer = self._actors[0].do.remote(what, *arguments)
        self._progress.begin()
        while True:
            ready, _ = ray.wait([answer, *self._lives], timeout=_WAKE_S)
            if answer in ready:
                return self._get(answer, 0)
            for life in ready:
                self._give_up(life, answer)
            if stuck := self._progress.stuck():
                raise RanksLost(self._named(*stuck))

    def prune(self, lowest: int) -> None:
        """Of the weight sets; nobody waits for it."""
        self._actors[0].prune.remote(lowest)

    def restart(self, start: TrainerStart) -> None:
        """All anew, in the same places. Raises: as ``join``."""
        self._kill()
        self._hire()
        self.meet()
        self.join(start)

    def close(self) -> None:
        """The weight sets go, if the first rank can still be asked."""
        with suppress(RayError):
            ray.get(self._actors[0].do.remote("discard"), timeout=_GOODBYE_S)
        self._kill()
        remove_placement_group(self._group)

    def _hire(self) -> None:
        self._actors = [start_rank(self._group, rank, self._needs) for rank in range(self.size)]

    def _kill(self) -> None:
        here = ray.get_runtime_context().get_node_id()
        for actor in self._actors:
            ray.kill(actor)
        for one in self._residences:
            if one.node == here and one.pid != os.getpid():
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(one.pid, signal.SIGKILL)  # one that was stopped hears nothing else, and keeps its place
        self._lives, self._residences = {}, ()

    def _all(self, asked: Mapping[Any, int], late: str) -> dict[int, Any]:
        """The answers of ranks, by rank. Raises: RanksLost naming the first that is late or dead."""
        last, waiting, found = time.monotonic() + self._config.start_timeout_s, dict(asked), dict[int, Any]()
        while waiting:
            ready, _ = ray.wait(list(waiting), timeout=_WAKE_S)
            for answer in ready:
                rank = waiting.pop(answer)
                found[rank] = self._get(answer, rank, waiting)
            if waiting and time.monotonic() > last:
                raise RanksLost(self._named(min(waiting.values()), late))
        return found

    def _get(self, answer: Any, rank: int, others: Mapping[Any, int] | None = None) -> Any:
        """Raises: as ``ask``; where the rank has failed because another one is dead, that one is named."""
        try:
            return ray.get(answer)
        except RayError as error:
            if isinstance(error, RayTaskError) and _told(cause_of(error)):
                raise cause_of(error) from None
            self._blame(rank, error, self._lives if others is None else others)

    def _blame(self, rank: int, error: RayError, others: Mapping[Any, int]) -> NoReturn:
        if isinstance(error, RayTaskError):  # it lives, and a call to the others has failed
            ready, _ = ray.wait(list(others), timeout=_SETTLE_S) if others else ([], [])
            for one in ready:
                with suppress(RayTaskError):
                    self._death(one, others[one])
        raise RanksLost(self._named(rank, str(failure(error)))) from error

    def _death(self, life: Any, rank: int) -> None:
        """Raises: RanksLost if that rank is dead, and not only out of work."""
        try:
            ray.get(life)
        except RayTaskError:
            raise
        except RayError as error:
            raise RanksLost(self._named(rank, str(failure(error)))) from error

    def _give_up(self, life: Any, answer: Any) -> NoReturn:
        """A rank follows no more: it is dead, or has failed on what it was asked for, which the first one tells
        better."""
        rank = self._lives[life]
        try:
            ray.get(life)
        except RayTaskError as error:
            if ray.wait([answer], timeout=_SETTLE_S)[0]:
                self._get(answer, 0)
            if _told(cause := cause_of(error)):
                raise cause from None
            raise RanksLost(self._named(rank, str(failure(error)))) from error
        except RayError as error:
            raise RanksLost(self._named(rank, str(failure(error)))) from error
        raise RanksLost(self._named(rank, "has ended"))

    def _named(self, rank: int, what: str) -> str:
        there = self._residences[rank] if rank < len(self._residences) else None
        where = f" (process {there.pid} on {there.host})" if there else ""
        return f"trainer rank {rank} of {self.size}{where} {what}"


def _told(cause: BaseException) -> bool:
    """Whether it would be the same with any rank: a mistake, the end of the run, or what a disk has answered."""
    network = (ConnectionError, TimeoutError)
    return isinstance(cause, (UserError, RunFailure)) or (isinstance(cause, OSError) and not isinstance(cause, network))
