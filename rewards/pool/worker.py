"""The worker process of one reward: ``python -m rewards.pool.worker FD PARENT_PID``, started by the pool only.

It talks over the inherited socket ``FD``: first ``Start`` -> ``Ready`` or ``Refused``; then ``WorkerRequest`` and the
descriptor of its pictures -> ``WorkerReply``, until the socket closes. A fresh interpreter rather than a fork or
``multiprocessing``'s spawn: nothing of the parent (CUDA contexts, threads, its main module) is inherited, and heavy
libraries are imported here only. ``LoadedReward`` is the part that a Ray actor uses as well.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from types import FrameType
from typing import TypeVar

from rewards.base import describe_exception, failures, normalise
from rewards.batches import batches_by_group
from rewards.load import load, load_and_prove
from rewards.needs import check_declared
from rewards.pool.memory import Growth
from rewards.pool.messages import Ready, Refused, Start, WorkerReply, WorkerRequest
from rewards.pool.shared_memory import from_shared
from rewards.pool.version import reward_version
from rl.types import Sample, Score, UserError

T = TypeVar("T")
_end = threading.Event()  # asked to end
_OF_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Ctrl-C, and what a scheduler or a shutdown sends to every process of a job: the parent finishes its step first."""


class LoadedReward:
    """A reward in its own process, however that was started. Raises ``UserError`` if it cannot be loaded."""

    def __init__(self, start: Start) -> None:
        check_declared(load("rewards", f"rewards.{start.name}", start.use), start.declared, start.use)
        self._reward, probed = load_and_prove(start.name, start.use, start.options, probe=start.probe)
        self._needs = start.needs
        self._growth = Growth(start.recycle_growth_mb)
        threads = start.needs.call_threads
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reward") if threads > 1 else None
        self.ready = Ready(os.getpid(), reward_version(start.use, start.options), probed)

    def answer(self, number: int, samples: Sequence[Sample]) -> WorkerReply:
        """Scores for ``samples``; whatever the reward raises is the reason of failed scores."""
        if self._threads is None:
            scores = self._call(samples)
        else:
            most = -(-len(samples) // self._needs.call_threads)
            parts = batches_by_group(samples, most, whole_groups=self._needs.whole_groups)
            calls = [[samples[index] for index in part] for part in parts]
            scores = [score for found in self._threads.map(self._call, calls) for score in found]
        return WorkerReply(number, tuple(sample.id for sample in samples), scores, self._growth.exceeded())

    def _call(self, samples: Sequence[Sample]) -> list[Score]:
        try:
            return normalise(self._reward(samples), samples)
        except Exception as error:  # a plug-in may raise anything; the reason goes into every score
            return failures(len(samples), describe_exception(error))


def main(fd: int, parent: int) -> None:
    """Serve one reward until the parent closes the socket or is gone."""
    for number in _OF_THE_PARENT:
        signal.signal(number, _nothing)
    atexit.register(_end_children, parent)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    _serve(Connection(fd))


def _serve(connection: Connection) -> None:
    start: Start = _or_stop(connection.recv)
    try:
        reward = LoadedReward(start)
    except UserError as error:
        _or_stop(connection.send, Refused(str(error)))
        return
    _or_stop(connection.send, reward.ready)
    while True:
        request: WorkerRequest = _or_stop(connection.recv)
        fd = _or_stop(recv_handle, connection)
        samples, mapped = from_shared(request.samples, fd)
        os.close(fd)
        reply = reward.answer(request.number, samples)
        del samples
        _or_stop(connection.send, replace(reply, kept=not mapped.close()))


def _or_stop(talk: Callable[..., T], *given: object) -> T:
    """``talk(*given)``; the parent closes the connection, or is gone: the normal way to stop."""
    try:
        return talk(*given)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        _end.set()
        sys.exit(0)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, and not SIG_IGN: that would be handed down to the programs that a reward starts."""


def _die_with(parent: int) -> None:
    """End this process when the parent was killed, even in the middle of a hung call."""
    while os.getppid() == parent:
        time.sleep(0.5)
    _end_children(parent)
    os._exit(1)


def _end_children(parent: int) -> None:
    """The programs that the reward has started end with this process, last of all.

    A dying parent closes the connection a moment before it is gone. One that lives looks at the exit code of a worker
    that ends unasked, and kills what that leaves.
    """
    if (_end.is_set() or os.getppid() != parent) and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    # Run under its importable name, so that pickled messages are the parent's classes and not __main__'s.
    from rewards.pool.worker import main as serve

    serve(int(sys.argv[1]), int(sys.argv[2]))
