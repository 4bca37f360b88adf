"""Which rank of a training this process is: one alone, one of ``torchrun``'s, or one of ours. Starts the others.

What says so in the environment is taken out of it: reward workers and engines that are started from here would take
themselves for ranks as well.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rl.types import RunFailure, UserError

TORCHRUN = "TORCHELASTIC_RUN_ID"
OURS = "EASEL_STARTED_RANK"
_AGENT_STORE = "TORCHELASTIC_USE_AGENT_STORE"
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
_RANKS = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "NODE_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
_MPI = ("PMI_", "PMIX_", "OMPI_COMM_WORLD_", "MV2_COMM_WORLD_")
_HERE = "127.0.0.1"
_PATIENCE_S = 10.0


@dataclass(frozen=True)
class Place:
    """A rank among ``world``, of which ``local_world`` are on this machine; rank 0 leads. They meet at ``address``."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    address: str = _HERE
    port: int = 0
    by_torchrun: bool = False
    store_is_there: bool = False
    """Whether somebody else (torchrun) serves the store at ``address``; else rank 0 does."""
    error_file: str = ""
    """Where torchrun looks for the reason of a failure, for the report that it ends with."""

    @property
    def first(self) -> bool:
        return self.rank == 0

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world}"


def take_place(environment: MutableMapping[str, str]) -> tuple[Place, str | None]:
    """This process's place, and a note about what a scheduler or an earlier torchrun has left in the environment."""
    found = {name: environment.pop(name) for name in list(environment) if name in _RANKS or name.startswith(_MPI)}
    started = [environment.pop(name, None) for name in (TORCHRUN, OURS)]
    agent = environment.pop(_AGENT_STORE, "False") == "True"
    error_file = environment.pop(_ERROR_FILE, "")
    if any(started):
        place = _place(found, by_torchrun=started[0] is not None, agent=agent)
        return replace(place, error_file=error_file), None
    told = sorted(set(found) & set(_RANKS))
    if not told:
        return Place(), None
    return (
        Place(),
        f"note: {', '.join(told)} in the environment is ignored, because torchrun did not start this process",
    )


def settle_world(place: Place, ranks: int, *, said: bool) -> int:
    """How many ranks the run has. ``said``: ``train.ranks`` was written for this very start.

    Raises: UserError if torchrun started another number.
    """
    if not place.by_torchrun:
        return ranks
    if said and ranks != place.world:
        raise UserError(
            f"train.ranks: {ranks} is not the {place.world} that torchrun started; leave train.ranks out, or start "
            f"torchrun with --nproc-per-node {ranks}."
        )
    return place.world


def tell_torchrun(place: Place, sentence: str) -> None:
    """For the report that torchrun ends with, which would otherwise say how to enable tracebacks."""
    if place.error_file:
        more = {"py_callstack": sentence, "timestamp": str(int(time.time()))}
        Path(place.error_file).write_text(json.dumps({"message": {"message": sentence, "extraInfo": more}}))


@contextmanager
def failures_told_to_torchrun(place: Place) -> Iterator[None]:
    """Around the whole of a rank's work."""
    try:
        yield
    except (UserError, RunFailure) as error:
        tell_torchrun(place, str(error))
        raise


class OtherRanks:
    """The processes of ranks 1, 2, ... on this machine, started with the command that this one was started with.

    They load torch while this one does, and wait at ``place.port``, a free one that is ours already. A terminal's
    Ctrl-C does not reach them: they end when this process does.
    """

    _program: tuple[str, ...] = ("-m", "rl.launch")

    def __init__(self, world: int, arguments: Sequence[str]) -> None:
        self.listening = socket.create_server((_HERE, 0), backlog=max(64, 4 * world))
        self.place = Place(world=world, local_world=world, port=self.listening.getsockname()[1])
        self._processes = {rank: self._start(rank, arguments) for rank in range(1, world)}

    def exit_code(self, rank: int) -> int | None:
        """Negative: the signal that killed it; ``None`` while it runs."""
        return self._processes[rank].poll()

    def wait(self) -> None:
        """Until they have ended by themselves, which they do when they are told that the run is over."""
        for process in self._processes.values():
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                break
        self.kill()

    def kill(self) -> None:
        for process in self._processes.values():
            process.kill()

    def _start(self, rank: int, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        place = replace(self.place, rank=rank, local_rank=rank)
        threads = str(max(1, (os.cpu_count() or 1) // place.local_world))
        environment = {"OMP_NUM_THREADS": threads, **os.environ, **_written(place), OURS: "1"}
        command = [sys.executable, *self._program, *arguments]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(command, env=environment, stdin=nothing, stdout=nothing, start_new_session=True)


def _place(found: MutableMapping[str, str], *, by_torchrun: bool, agent: bool) -> Place:
    return Place(
        rank=int(found["RANK"]),
        world=int(found["WORLD_SIZE"]),
        local_rank=int(found["LOCAL_RANK"]),
        local_world=int(found["LOCAL_WORLD_SIZE"]),
        address=found["MASTER_ADDR"],
        port=int(found["MASTER_PORT"]),
        by_torchrun=by_torchrun,
        store_is_there=agent,
    )


def _written(place: Place) -> dict[str, str]:
    return {
        "RANK": str(place.rank),
        "WORLD_SIZE": str(place.world),
        "LOCAL_RANK": str(place.local_rank),
        "LOCAL_WORLD_SIZE": str(place.local_world),
        "MASTER_ADDR": place.address,
        "MASTER_PORT": str(place.port),
    }
