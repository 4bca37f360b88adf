"""How fast a run goes, how long it still takes, and what it is busy with at this moment."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

STALLED_S = 600.0  # from then on a stage that has told nothing new is said to stand still


class Clock:
    """Time per step, hence the ETA: the first step's own, then that of the last steps, with all that lies between."""

    def __init__(self, total_steps: int, first_step: int, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self._first, self._now = total_steps, first_step, now
        self._ticks: deque[tuple[int, float]] = deque(maxlen=11)
        self._took: float | None = None

    def tick(self, step: int, took: float | None = None) -> None:
        """``took``: seconds of this step alone, which the start of the run before it are no part of."""
        self._ticks.append((step, self._now()))
        self._took = took

    @property
    def done(self) -> int:
        return self._ticks[-1][0] + 1 if self._ticks else self._first

    def seconds_per_step(self) -> float | None:
        if len(self._ticks) < 2:
            return self._took
        (step0, time0), (step1, time1) = self._ticks[0], self._ticks[-1]
        return (time1 - time0) / (step1 - step0)

    def eta(self) -> str:
        pace = self.seconds_per_step()
        return "--" if pace is None else duration(pace * max(0, self.total - self.done))

    def left_of_step(self) -> float | None:
        """Seconds until the step in progress ends, if it takes as long as those before it."""
        pace = self.seconds_per_step()
        return None if pace is None else self._ticks[-1][1] + pace - self._now()


@dataclass(frozen=True)
class Task:
    """Something long whose size is known: an evaluation, or a stage of a step."""

    name: str
    done: int
    total: int
    unit: str
    since: float

    def rate(self, now: float) -> float | None:
        """Units a second so far."""
        return self.done / (now - self.since) if self.done and now > self.since else None

    def words(self, now: float) -> str:
        """``128/600 pictures, 12.3/s, 38 s left``."""
        facts, rate = [self.far], self.rate(now)
        if rate and self.done < self.total:
            facts += [per_second(rate), f"{duration((self.total - self.done) / rate)} left"]
        return ", ".join(facts)

    @property
    def far(self) -> str:
        return f"{self.done:,}/{self.total:,} {self.unit}"


class Activity:
    """What a run is busy with. Written by the run and read by the thread that draws: whole values are replaced."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.task: Task | None = None
        self.part: Task | None = None
        """Of the stage, how far it is; ``None`` where nobody has told."""
        self._stage = ("starting", now())
        self._moved = now()

    def stage(self, name: str) -> None:
        self._moved = self.now()
        self.part, self._stage = None, (name, self._moved)

    def advance(self, done: int, total: int, unit: str) -> None:
        """``done`` of ``total`` in this stage; another total, or less than before, begins a new count."""
        now, before = self.now(), self.part
        if before is not None and (done, total, unit) == (before.done, before.total, before.unit):
            return
        since = self._stage[1] if before is None else before.since
        if before is not None and ((total, unit) != (before.total, before.unit) or done < before.done):
            since = self._moved
        self._moved = now
        self.part = Task(self._stage[0], done, total, unit, since) if total > 1 else None

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """``done`` of ``total``; the task begins when its name comes for the first time, and ends with the last one."""
        before, self._moved = self.task, self.now()
        since = before.since if before is not None and before.name == task else self.now()
        self.task = Task(task, done, total, unit, since) if done < total else None

    def words(self) -> tuple[str, str]:
        """What goes on, and how far it is: ``("painting", "12 s, 64/256 pictures, 5.3/s, 36 s left")``."""
        now, task, part, (stage, since) = self.now(), self.task, self.part, self._stage
        if task is not None:
            what, facts = task.name, [task.words(now)]
            if since > task.since:
                facts += [f"{stage} {part.far}" if part is not None else stage]
        else:
            what, facts = stage, [duration(now - since)]
            facts += [part.words(now)] if part is not None else []
        if now - self._moved >= STALLED_S:
            facts.append(f"nothing new for {duration(now - self._moved)}")
        return what, ", ".join(facts)


def duration(seconds: float) -> str:
    """``5 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def per_second(rate: float) -> str:
    """``12.3/s``, ``4.5/min``."""
    return f"{rate:,.1f}/s" if rate >= 1 else f"{60 * rate:,.1f}/min"


def total_seconds(seconds: Mapping[str, float]) -> float:
    """Of a step, from those of its stages."""
    return seconds.get("total", sum(seconds.values()))


def images_per_second(metrics: Mapping[str, float], seconds: Mapping[str, float]) -> float | None:
    total = total_seconds(seconds)
    return metrics["images"] / total if "images" in metrics and total > 0 else None
