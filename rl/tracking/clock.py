"""How fast a run goes, how long it still takes, and what it is busy with at this moment."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass


class Clock:
    """Time per step from the last steps, hence the ETA; what came before the first step's end is no measure of it."""

    def __init__(self, total_steps: int, first_step: int, now: Callable[[], float] = time.monotonic) -> None:
        self.total, self._first, self._now = total_steps, first_step, now
        self._ticks: deque[tuple[int, float]] = deque(maxlen=11)

    def tick(self, step: int) -> None:
        self._ticks.append((step, self._now()))

    @property
    def done(self) -> int:
        return self._ticks[-1][0] + 1 if self._ticks else self._first

    def seconds_per_step(self) -> float | None:
        if len(self._ticks) < 2:
            return None
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
    """Something long whose size is known, such as an evaluation."""

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
        facts, rate = [f"{self.done}/{self.total} {self.unit}"], self.rate(now)
        if rate:
            facts += [f"{rate:.1f}/s", f"{duration((self.total - self.done) / rate)} left"]
        return ", ".join(facts)


class Activity:
    """What a run is busy with. Written by the run and read by the thread that draws: whole values are replaced."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.task: Task | None = None
        self._stage = ("starting", now())

    def stage(self, name: str) -> None:
        self._stage = (name, self.now())

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """``done`` of ``total``; the task begins when its name comes for the first time, and ends with the last one."""
        before = self.task
        since = before.since if before is not None and before.name == task else self.now()
        self.task = Task(task, done, total, unit, since) if done < total else None

    def words(self) -> tuple[str, str]:
        """What goes on, and how far it is: ``("painting", "12 s")``."""
        task, (stage, since) = self.task, self._stage
        if task is not None:
            return task.name, task.words(self.now()) + (f", {stage}" if since > task.since else "")
        return stage, duration(self.now() - since)


def duration(seconds: float) -> str:
    """``5 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def images_per_second(metrics: Mapping[str, float], seconds: Mapping[str, float]) -> float | None:
    total = seconds.get("total", sum(seconds.values()))
    return metrics["images"] / total if "images" in metrics and total > 0 else None
