"""Who of the ranks still lives: nothing waits for one that is gone, and what ends the run names it.

A thread in each rank says through the common store that it is there, and looks after the others: rank 0 after all, the
others after rank 0. A process of this machine that has ended is noticed within a second, one that a signal has stopped
and another machine by their silence. A rank that lives but gets nowhere is found by how far each has come.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass

import psutil
from torch.distributed import Store

from rl.process.ranks import OtherRanks, Place

LOOK_S = 0.5
SILENT_S = 25.0  # of another machine, or of a stopped process
START_S = 300.0
PATIENCE_S = 5.0
DEADLINE_S = 600.0
_UNWIND_S = 3.0
_CLOSE_S = 15.0


@dataclass(frozen=True)
class Resident:
    """Where a rank's process is."""

    host: str
    namespace: int
    pid: int
    started: float

    @classmethod
    def here(cls) -> Resident:
        return cls(
            socket.gethostname(), os.stat("/proc/self/ns/pid").st_ino, os.getpid(), psutil.Process().create_time()
        )

    def near(self, other: Resident) -> bool:
        return (self.host, self.namespace) == (other.host, other.namespace)

    def runs(self) -> bool:
        """Asked on its own machine."""
        return self._status() not in (None, psutil.STATUS_ZOMBIE)

    def stopped(self) -> bool:
        """By a signal, asked on its own machine."""
        return self._status() == psutil.STATUS_STOPPED

    def _status(self) -> str | None:
        """``None``: it has ended."""
        try:
            process = psutil.Process(self.pid)
            return process.status() if abs(process.create_time() - self.started) < 1.0 else None
        except psutil.Error:
            return None


class Watch:
    """``end`` ends this process with a sentence, whatever its main thread is doing."""

    def __init__(
        self,
        store: Store,
        place: Place,
        end: Callable[[str | None], None],
        *,
        others: OtherRanks | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self.place, self.progress = place, 0
        """``progress``: grows with everything that this rank gets done."""
        self.busy = False
        """Whether all ranks are at work together; rank 0 knows."""
        self.way_on: Callable[[], str] = lambda: "--resume goes on from the last checkpoint"
        """Asked when a rank is gone: what the user can do then."""
        self._store, self._end, self._others, self._deadline_s = store, end, others, deadline_s
        self._me, self._began, self._beats = Resident.here(), time.monotonic(), 0
        self._known: dict[int, Resident] = {}
        self._heard: dict[int, tuple[bytes, float]] = {}
        self._seen_stopped: Counter[int] = Counter()
        self._came: dict[int, int] = {}
        self._moved = self._began
        self.found: str | None = None
        """The sentence about a rank that is gone; it is rank 0's main thread's to tell if it has asked."""

        self._finding, self._taken, self._stopped = threading.Event(), threading.Event(), threading.Event()
        store.set(f"here/{place.rank}", json.dumps(asdict(self._me)))
        self._thread = threading.Thread(target=self._look_after, name="watch over ranks", daemon=True)
        self._thread.start()

    def explains(self, patience_s: float = PATIENCE_S) -> bool:
        """Whether a call of the main thread failed because a rank is gone or the run is over; ``found`` says which."""
        if not self._finding.wait(patience_s):
            return False
        self._taken.set()
        return True

    def report(self, words: str) -> None:
        """Of a rank that cannot go on, to be told by rank 0, which then ends the run."""
        with suppress(RuntimeError):
            self._store.set(f"words/{self.place.rank}", words)

    def over(self) -> None:
        """Of rank 0: the others end, at once or within seconds."""
        with suppress(RuntimeError):
            self._store.set("over", "")

    def stop(self) -> None:
        self._stopped.set()

    def wait(self) -> None:
        """Of a rank that has nothing to tell: until the process is ended from here."""
        self._thread.join(_CLOSE_S)

    def _look_after(self) -> None:
        look = self._look_at_others if self.place.first else self._look_at_first
        while not self._stopped.wait(LOOK_S):
            try:
                self._beats += 1
                self._store.set(f"beat/{self.place.rank}", f"{self._beats} {self.progress}")
                found = look()
            except RuntimeError as error:  # the store is gone, and with it who serves it
                found = None if self._stopped.is_set() else self._without_store(error)
            if found:
                self._tell(found)
                return

    def _tell(self, sentence: str) -> None:
        """The main thread may find out by itself, and then it ends in order; if it hangs, it is ended here."""
        self.found = sentence
        self._finding.set()
        if self.place.first and self._taken.wait(_UNWIND_S) and not self._stopped.wait(_CLOSE_S):
            os._exit(3)
        if not self._stopped.is_set():
            self._end(sentence if self.place.first or self._speaks() else None)

    def _look_at_others(self) -> str | None:
        for rank in range(1, self.place.world):
            if what := self._what_happened(rank):
                return self._sentence(rank, what)
        return self._stuck()

    def _what_happened(self, rank: int) -> str:
        there, now = self._resident(rank), time.monotonic()
        if self._store.check([f"words/{rank}"]):
            return "failed"
        if self._others and (code := self._others.exit_code(rank)) is not None:
            return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"
        if there is None:
            return f"has not started within {START_S:g} s" if now - self._began > START_S else ""
        if not there.near(self._me):
            return self._silent(rank, now)
        return self._halted(rank, there) if self._others or there.runs() else "was killed or ended"

    def _halted(self, rank: int, there: Resident) -> str:
        """Counted in looks: while all of a terminal's processes are stopped together, nobody looks."""
        self._seen_stopped[rank] = self._seen_stopped[rank] + 1 if there.stopped() else 0
        seconds = self._seen_stopped[rank] * LOOK_S
        if seconds <= SILENT_S:
            return ""
        with suppress(ProcessLookupError):
            os.kill(there.pid, signal.SIGKILL)  # it hears nothing else, and would be left behind
        return f"was stopped by a signal (SIGSTOP) and did not go on within {seconds:.0f} s"

    def _silent(self, rank: int, now: float) -> str:
        beat = self._store.get(f"beat/{rank}") if self._store.check([f"beat/{rank}"]) else b""
        if beat != self._heard.get(rank, (None, now))[0]:
            self._heard[rank] = (beat, now)
        quiet = now - self._heard[rank][1]
        return f"has not been heard of for {quiet:.0f} s" if quiet > SILENT_S else ""

    def _stuck(self) -> str | None:
        """The ranks work together and none gets on: the one that has done least is waited for."""
        came = {rank: self._progress_of(rank) for rank in range(self.place.world)}
        if came != self._came or not self.busy:
            self._came, self._moved = came, time.monotonic()
        if time.monotonic() - self._moved <= self._deadline_s:
            return None
        return self._sentence(min(came, key=lambda rank: came[rank]), f"got nowhere for {self._deadline_s:g} s")

    def _progress_of(self, rank: int) -> int:
        key = f"beat/{rank}"
        return int(self._store.get(key).split()[1]) if self._store.check([key]) else 0

    def _look_at_first(self) -> str | None:
        if self._store.check(["over"]):
            self._finding.set()
            if not self._stopped.wait(_UNWIND_S):
                os._exit(0)
            return None
        first, *_ = [self._resident(rank) for rank in range(self.place.rank)]
        if first is None:
            return None
        if first.near(self._me):
            return None if first.runs() else self._sentence(0, "was killed or ended")
        what = self._silent(0, time.monotonic())
        return self._sentence(0, what) if what else None

    def _without_store(self, error: RuntimeError) -> str:
        if self.place.first:
            return f"torchrun's store of the ranks is gone ({error})"
        first = self._known.get(0)
        ended = first is not None and first.near(self._me) and not first.runs()
        return self._sentence(0, "was killed or ended" if ended else "cannot be reached any more")

    def _speaks(self) -> bool:
        """Whether this is the lowest rank that is left, which tells of rank 0's end."""
        before = [self._known.get(rank) for rank in range(1, self.place.rank)]
        return not any(there is not None and there.near(self._me) and there.runs() for there in before)

    def _resident(self, rank: int) -> Resident | None:
        if rank not in self._known and self._store.check([f"here/{rank}"]):
            self._known[rank] = Resident(**json.loads(self._store.get(f"here/{rank}")))
        return self._known.get(rank)

    def _sentence(self, rank: int, what: str) -> str:
        there = self._known.get(rank)
        where = f" (process {there.pid} on {there.host})" if there else ""
        said = ""
        if rank and self._store.check([f"words/{rank}"]):
            said = f": {self._store.get(f'words/{rank}').decode().removesuffix('.')}"
        return (
            f"rank {rank} of {self.place.world}{where} {what}{said}; the other ranks end as well, and {self.way_on()}"
        )
