"""The runs of a sweep as processes of this machine: some at a time, watched while they run, ended with the sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.process.interrupt import ended_by_signals
from rl.run_folder.lock import hold
from rl.sweep.again import has_begun
from rl.sweep.board import Board
from rl.sweep.member import Member
from rl.sweep.plan import SweepRun
from rl.sweep.slots import RunSlot
from rl.types import UserError

_POLL_S = 0.2
_PATIENCE_S = 300.0
_LET_GO_S = 90.0
# Becomes the run, which gets SIGTERM when the sweep is gone, even by kill -9: it saves, and the sweep can be repeated.
_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit(130)
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass
class _Running:
    member: Member
    process: subprocess.Popen[bytes]
    slot: RunSlot


def run_all(members: Sequence[Member], slots: Sequence[RunSlot], board: Board, changed: Callable[[], None]) -> None:
    """Those that wait, as many at a time as there are slots; a failed run does not stop the others.

    ``changed`` is called whenever one begins or ends.
    Raises: KeyboardInterrupt on Ctrl-C, SIGTERM or SIGHUP, when every process has saved its state and ended.
    """
    waiting, free, running = deque(one for one in members if one.state == "waiting"), list(slots), list[_Running]()
    with ended_by_signals():
        try:
            while waiting or running:
                while waiting and free:
                    running.append(_start(waiting.popleft(), free.pop(0), board))
                    changed()
                time.sleep(_POLL_S)
                for one in list(running):
                    if (code := one.process.poll()) is not None:
                        running.remove(one)
                        free.append(one.slot)
                        one.member.ended(code)
                        tell_end(one.member, board)
                        changed()
                board.look()
        finally:
            _stop([one.process for one in running], board)


def _start(member: Member, slot: RunSlot, board: Board) -> _Running:
    run = member.run
    _wait_until_free(run.folder, board)
    resume = has_begun(run.folder)
    board.say(f"{run.folder}: {'goes on' if resume else 'started'}, log in {run.log}")
    member.state, member.started = "running", time.monotonic()
    return _Running(member, launched(run, os.environ | dict(slot.environment), resume=resume), slot)


def launched(run: SweepRun, environment: dict[str, str], *, resume: bool) -> subprocess.Popen[bytes]:
    """The run as a process that ends, saving, when this one is gone."""
    with run.log.open("ab" if resume else "wb") as log:
        command = [sys.executable, "-S", "-c", _WITH_PARENT, str(os.getpid()), *run.command]
        return subprocess.Popen(
            [*command, *(["--resume"] if resume else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is passed on below, once
        )


def _wait_until_free(folder: Path, board: Board) -> None:
    """A sweep that was killed leaves runs that are just saving. What is held longer than that, the run itself tells."""
    if not folder.exists():
        return
    deadline, told = time.monotonic() + _LET_GO_S, False
    while time.monotonic() < deadline:
        try:
            with hold(folder):
                return
        except UserError:
            if not told:
                board.say(f"{folder}: an earlier process is still saving there; waiting for it")
            told = True
            time.sleep(_POLL_S)


def tell_end(member: Member, board: Board) -> None:
    if member.state == "failed":
        tail = member.tail()
        board.say(f"{member.run.folder}: FAILED, {member.reason}" + (f"; its last lines:\n{tail}" if tail else ""))
    else:
        board.say(f"{member.run.folder}: {member.state}")


def _stop(processes: Sequence[subprocess.Popen[bytes]], board: Board) -> None:
    """Asks each to save and end; kills them when they take too long or on a second Ctrl-C."""
    if not processes:
        return
    board.say(
        f"stopping {len(processes)} run{'s' * (len(processes) > 1)}: each finishes its step and saves; Ctrl-C: at once"
    )
    try:
        for process in processes:
            process.send_signal(signal.SIGTERM)  # a process started in the background may ignore SIGINT
        deadline = time.monotonic() + _PATIENCE_S
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        board.say("ended at once")
    finally:
        for process in processes:
            end_at_once(process)


def end_at_once(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # reward workers have sessions of their own: they see it is gone
        process.wait()
