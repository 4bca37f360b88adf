"""One plain line per step, for logs, pipes and terminals that can't be redrawn; and a line when a step takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO

from rl.process.output import shown
from rl.run_folder.records import Alarm
from rl.tracking.clock import Activity, Clock, duration, images_per_second, total_seconds
from rl.tracking.contract import FAILED_PREFIX, HEALTH, REWARD_PREFIX, Console, groups_kept, who_learnt, workers_told

_SHORT = {"zero_std_fraction": "zero-std", "failed_fraction": "failed"}


class PlainConsole(Console):
    """Never silent for longer than ``quiet_s``."""

    def __init__(
        self,
        stream: TextIO,
        total_steps: int,
        first_step: int = 0,
        quiet_s: float = 30.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream, self._quiet_s, self._now = stream, quiet_s, now
        self._clock, self._activity = Clock(total_steps, first_step, now), Activity(now)
        self._stepping = False
        self._workers: list[str] = []
        self._last = now()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._beating = threading.Thread(target=self._beat, name="console", daemon=True)
        self._beating.start()

    def step(
        self, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float], alarms: Sequence[Alarm]
    ) -> None:
        total = total_seconds(seconds)
        self._clock.tick(step, total)
        parts = [f"step {step + 1}/{self._clock.total}"]
        if learnt := who_learnt(metrics):
            parts.append(learnt)
        if "score" in metrics:
            parts.append(f"score {metrics['score']:.3f}")
        elif "loss" in metrics:  # learns from pictures, not rewards
            parts.append(f"loss {metrics['loss']:.3g}")
        rewards = {name: value for name, value in metrics.items() if name.startswith(REWARD_PREFIX)}
        parts += [f"{name.removeprefix(REWARD_PREFIX)} {value:.3f}" for name, value in rewards.items()]
        failed = {name: value for name, value in metrics.items() if name.startswith(FAILED_PREFIX)}
        parts += [f"{name.removeprefix(FAILED_PREFIX)} FAILED {value:.0f}" for name, value in failed.items()]
        parts += [f"{_SHORT.get(name, name)} {metrics[name]:.3g}" for name in HEALTH[:5] if name in metrics]
        if kept := groups_kept(metrics):
            parts.append(kept)
        parts.append(f"{total:.1f} s")
        rate = images_per_second(metrics, seconds)
        if rate is not None:
            parts.append(f"{rate:.1f} images/s")
        self.message("  ".join([*parts, *self._workers, f"ETA {self._clock.eta()}"]))
        self._workers = []
        for alarm in alarms:
            self.message(f"ALARM  {alarm.sentence}")

    def workers(self, numbers: Mapping[str, float]) -> None:
        self._workers = workers_told(numbers)

    def message(self, text: str) -> None:
        with self._lock:
            self._last = self._now()
            self._stream.write(shown(text) + "\n")
            self._stream.flush()

    def starting(self, what: str) -> None:
        self._activity.stage(f"starting: {what}")
        self.message(f"starting: {what}")

    def stage(self, name: str) -> None:
        self._stepping = True
        self._activity.stage(name)

    def advance(self, done: int, total: int, unit: str) -> None:
        self._activity.advance(done, total, unit)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        if done == 0:
            self.message(f"{task}: {total} {unit}")
        self._activity.progress(task, done, total, unit)

    def close(self) -> None:
        self._closed.set()
        self._beating.join()

    def tell_if_quiet(self) -> None:
        """The line between the lines."""
        with self._lock:
            if self._now() - self._last >= self._quiet_s:
                self.message(f"... {self._words()}")

    def _words(self) -> str:
        what, far = self._activity.words()
        if self._activity.task is not None or not self._stepping:
            return f"{what}, {far}"
        left = self._clock.left_of_step()
        about = f", about {duration(left)} of the step left" if left is not None and left > 1 else ""
        return f"step {self._clock.done + 1}/{self._clock.total}: {what} for {far}{about}"

    def _beat(self) -> None:
        while not self._closed.wait(1.0):
            self.tell_if_quiet()
