"""All ranks of a run, seen from one of them: rank 0 says what is done next, all do their share of it.

What to do travels through the store, where nobody minds waiting for hours while rank 0 samples and paints; rows and
results travel through the process group, whose calls have a deadline.
"""

from __future__ import annotations

import atexit
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from rl.process.out_of_memory import memory_of_phase
from rl.process.ranks import OtherRanks, Place
from rl.trainer.engine import backend, leave_process_group
from rl.trainer.ranks import Share, shares
from rl.trainer.watch import DEADLINE_S, START_S, Watch
from rl.types import Rows, UserError

if TYPE_CHECKING:
    from torch.distributed import Store

RowsT = TypeVar("RowsT", bound=Rows)
CONFIG = "config"
_OVER = "over"
_MEET_S, _FOR_EVER = timedelta(seconds=START_S), timedelta(days=365)


class Pulse(Protocol):
    """Hears that a rank gets on: a :class:`Watch`, or what somebody outside asks."""

    progress: int
    busy: bool


class Team:
    """``Team(Place())`` is one process alone, which needs nobody: every call is then free of communication."""

    def __init__(self, place: Place, store: Store | None = None, pulse: Pulse | None = None) -> None:
        self.place, self.world = place, place.world
        self._store, self._pulse = store, pulse
        self._orders = 0
        self._objects: dist.ProcessGroup | None = None
        if store is not None:
            self._objects = _join(place)

    @property
    def first(self) -> bool:
        return self.place.first

    def order(self, what: str, argument: str = "") -> None:
        """Of rank 0: what all do next."""
        if self._store is None:
            return
        if self._pulse and what != _OVER:
            self._pulse.busy = True
        self._store.set(f"order/{self._orders}", json.dumps([what, argument]))
        if self._orders > 1:
            self._store.delete_key(f"order/{self._orders - 2}")  # everybody has taken part in the one after it
        self._orders += 1

    def hand_out(self, rows: RowsT) -> Share[RowsT]:
        """Of rank 0: everybody gets a share. Returns its own."""
        parts = shares(rows, self.world)
        if self.world > 1:
            dist.scatter_object_list([None], parts, src=0, group=self._objects)
        return parts[0]

    def receive(self) -> Share[RowsT]:
        """Of the others: what rank 0 has handed out to this one."""
        received: list[Share[RowsT]] = [None]  # type: ignore[list-item]
        dist.scatter_object_list(received, None, src=0, group=self._objects)
        return received[0]

    def collect(self, mine: Tensor, size: int) -> Tensor:
        """To rank 0, all shares in row order without the repeated rows; the others get their own back."""
        if self.world == 1:
            return mine
        slices = [torch.empty_like(mine) for _ in range(self.world)] if self.first else None
        dist.gather(mine.contiguous(), slices, dst=0)
        return mine if slices is None else torch.cat(slices)[:size]

    def bring(self, mine: object) -> list[object]:
        """To rank 0, something of everybody; nothing to the others."""
        if self.world == 1:
            return [mine]
        brought: list[object] | None = [None] * self.world if self.first else None
        dist.gather_object(mine, brought, dst=0, group=self._objects)
        return brought or []

    def follow(self, duties: Mapping[str, Callable[[str], object]]) -> None:
        """The life of a rank other than the first: its part of whatever that one asks for, until the run is over.

        Raises: OutOfMemory naming what was asked for.
        """
        for what, argument in self._orders_of_first():
            with memory_of_phase(what):
                duties[what](argument)

    def did(self) -> None:
        """One more piece of work is done: this rank gets on."""
        if self._pulse:
            self._pulse.progress += 1

    def done(self) -> None:
        """Of rank 0: what was ordered is done."""
        if self._pulse:
            self._pulse.busy = False

    def over(self) -> None:
        """Of rank 0: there will be no more orders."""
        self.order(_OVER)

    def _orders_of_first(self) -> Iterator[tuple[str, str]]:
        assert self._store is not None  # a process alone follows nobody
        while True:
            key = f"order/{self._orders}"
            self._store.wait([key], _FOR_EVER)
            what, argument = json.loads(self._store.get(key))
            self._orders += 1
            if what == _OVER:
                return
            yield what, argument


def meet(place: Place, others: OtherRanks | None = None) -> dist.TCPStore:
    """The store through which the ranks find each other; rank 0 serves it where nobody else does."""
    if not place.first or place.store_is_there:
        return _connection(place)
    listening = os.dup(others.listening.fileno()) if others else None
    try:
        return dist.TCPStore(
            place.address, place.port, None, is_master=True, wait_for_workers=False, master_listen_fd=listening
        )
    except dist.DistNetworkError as error:
        raise UserError(
            f"port {place.port} of {place.address} is in use, where torchrun wants the ranks to meet; give torchrun "
            "another one (--master-port 29501), or --standalone, which finds one."
        ) from error


def _connection(place: Place) -> dist.TCPStore:
    """One for each thread: a thread that waits for an order keeps its own busy."""
    try:
        return dist.TCPStore(place.address, place.port, None, is_master=False, wait_for_workers=False, timeout=_MEET_S)
    except dist.DistNetworkError as error:
        raise UserError(
            f"{place} cannot reach {place.address}:{place.port}, where torchrun wants the ranks to meet; give torchrun "
            "an address and a port that all machines reach (--master-addr, --master-port)."
        ) from error


def wait_for(store: Store, key: str) -> str:
    """Of the others: what rank 0 will put there, be it in an hour; nothing if it ends before."""
    store.wait([key], _FOR_EVER)
    return store.get(key).decode()


def watched(place: Place, end: Callable[[str | None], None], others: OtherRanks | None = None) -> Watch:
    return Watch(_connection(place), place, end, others=others)


def _join(place: Place) -> dist.ProcessGroup | None:
    """The group of all ranks, and the one in which objects travel."""
    if place.address == "127.0.0.1":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # or the machine's name would have to be resolved
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank)
    late = timedelta(seconds=DEADLINE_S + 60)  # the watch speaks first
    dist.init_process_group(
        backend(),
        store=dist.PrefixStore("group", _connection(place)),
        rank=place.rank,
        world_size=place.world,
        timeout=late,
    )
    atexit.register(leave_process_group)
    return None if backend() == "gloo" else dist.new_group(backend="gloo", timeout=late)
