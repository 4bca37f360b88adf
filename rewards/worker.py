"""The worker process of one reward: ``python -m rewards.worker FD PARENT_PID``, started by ``rewards.pool`` only.

It talks over the inherited socket ``FD``: first ``Start`` -> ``Ready`` or ``Refused``; then ``Job`` -> ``Answer``
until the socket closes. A fresh interpreter rather than a fork or ``multiprocessing``'s spawn: nothing of the
parent (CUDA contexts, threads, its main module) is inherited, and heavy libraries are imported here only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from rewards.base import describe_exception, failures, normalise
from rl.types import Sample, Score, UserError


@dataclass(frozen=True)
class Start:
    """Load this reward."""

    name: str
    use: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Ready:
    """The reward is loaded."""


@dataclass(frozen=True)
class Refused:
    """The reward cannot be loaded: a sentence for the user."""

    message: str


@dataclass(frozen=True)
class Job:
    """Score these samples."""

    number: int
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Answer:
    """The scores of job ``number``, with the ids they belong to."""

    number: int
    ids: tuple[str, ...]
    scores: Sequence[Score]


def main(fd: int, parent: int) -> None:
    """Serve one reward until the parent closes the socket or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    connection = Connection(fd)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):  # closed by the parent: the normal way to stop
        _serve(connection)


def _serve(connection: Connection) -> None:
    start: Start = connection.recv()
    try:
        from rewards.construct import load_reward

        reward = load_reward(start.name, start.use, start.options)
    except UserError as error:
        connection.send(Refused(str(error)))
        return
    connection.send(Ready())
    while True:
        job: Job = connection.recv()
        connection.send(_score(reward, job))


def _score(reward: Callable[[Sequence[Sample]], object], job: Job) -> Answer:
    ids = tuple(sample.id for sample in job.samples)
    for sample in job.samples:
        sample.picture.setflags(write=False)  # not kept by pickling; one reward must not edit what it judges
    try:
        scores = normalise(reward(job.samples), job.samples)
    except Exception as error:  # a plug-in may raise anything; the reason goes into every score
        scores = failures(len(ids), describe_exception(error))
    return Answer(job.number, ids, scores)


def _die_with(parent: int) -> None:
    """End this process when the parent was killed, even in the middle of a hung call."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    # Run under its importable name, so that pickled messages are the parent's classes and not __main__'s.
    from rewards.worker import main as serve

    serve(int(sys.argv[1]), int(sys.argv[2]))
