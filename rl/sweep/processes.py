"""The runs of a sweep as processes: some at a time, told about while they run, ended with the sweep."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rl.evaluation.results import load_all
from rl.process.interrupt import ended_by_signals
from rl.sweep.again import has_begun, is_done
from rl.sweep.plan import FinishedRun, SweepRun
from rl.sweep.progress import progress

Tell = Callable[[str], None]
_POLL_S = 0.2
_TELL_EVERY_S = 30.0
_PATIENCE_S = 300.0
_TAIL_LINES = 15


@dataclass
class _Running:
    run: SweepRun
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    stepped: bool = False

    def tell(self, tell: Tell) -> None:
        """Its first step, and then every half minute."""
        now = time.monotonic()
        first = not self.stepped and has_begun(self.run.folder)
        if first or now - self.told > _TELL_EVERY_S:
            self.told, self.stepped = now, self.stepped or first
            tell(f"{self.run.folder}: {progress(self.run, now - self.started)}")


def run_all(runs: Sequence[SweepRun], parallel: int, tell: Tell) -> list[FinishedRun]:
    """``parallel`` at a time; a failed run does not stop the others, one that is done is not run again.

    Raises: KeyboardInterrupt on Ctrl-C, SIGTERM or SIGHUP, when every process has saved its state and ended.
    """
    waiting, running = deque(runs), list[_Running]()
    finished: dict[str, FinishedRun] = {}
    with ended_by_signals():
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    run = waiting.popleft()
                    if is_done(run):
                        tell(f"{run.folder}: done before, kept")
                        finished[str(run.folder)] = FinishedRun(run, 0, "")
                    else:
                        running.append(_start(run, tell))
                time.sleep(_POLL_S if running else 0)
                for one in list(running):
                    if (code := one.process.poll()) is None:
                        one.tell(tell)
                        continue
                    running.remove(one)
                    finished[str(one.run.folder)] = _told(_finished(one.run, code), tell)
        finally:
            _stop([one.process for one in running], tell)
    return [finished[str(run.folder)] for run in runs]


def _start(run: SweepRun, tell: Tell) -> _Running:
    resume = has_begun(run.folder)
    tell(f"{run.folder}: {'goes on' if resume else 'started'}, log in {run.log}")
    with run.log.open("ab" if resume else "wb") as log:
        process = subprocess.Popen(
            [*run.command, *(["--resume"] if resume else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is passed on below, once
        )
    return _Running(run, process, stepped=resume)


def _finished(run: SweepRun, code: int) -> FinishedRun:
    with run.log.open(encoding="utf-8", errors="replace") as lines:
        tail = "".join(deque(lines, maxlen=_TAIL_LINES))
    if code == 0 and len(load_all(run.folder)) < 2:
        return FinishedRun(
            run, 1, tail + "\nit ended without an evaluation before and one after: see eval.at_start, at_end"
        )
    return FinishedRun(run, code, "" if code == 0 else tail)


def _told(finished: FinishedRun, tell: Tell) -> FinishedRun:
    if finished.code == 0:
        tell(f"{finished.run.folder}: done")
    else:
        tell(f"{finished.run.folder}: FAILED with exit code {finished.code}:\n{finished.tail.rstrip()}")
    return finished


def _stop(processes: Sequence[subprocess.Popen[bytes]], tell: Tell) -> None:
    """Asks each to save and end; kills them when they take too long or on a second Ctrl-C."""
    if not processes:
        return
    tell(
        f"stopping {len(processes)} run{'s' * (len(processes) > 1)}: each finishes its step and saves; Ctrl-C: at once"
    )
    try:
        for process in processes:
            process.send_signal(signal.SIGTERM)  # a process started in the background may ignore SIGINT
        deadline = time.monotonic() + _PATIENCE_S
        for process in processes:
            process.wait(max(0.0, deadline - time.monotonic()))
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        tell("ended at once")
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # reward workers have sessions of their own: they see it is gone
                process.wait()
