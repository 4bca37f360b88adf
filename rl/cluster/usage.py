"""How busy everybody was: ``RUN/cluster.jsonl``, one line a step, and a sentence at the end."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

from rl.cluster.board import FinishedStep
from rl.scheduler.events import Learn

USAGE_FILE = "cluster.jsonl"
_WORDS = {"sample": "samplers", "paint": "painters"}


class ClusterUsage:
    """Seconds that workers worked, of those that went by; timing alone, which says nothing about the numbers."""

    def __init__(self, folder: Path, sizes: Mapping[str, int], now: Callable[[], float] = time.monotonic) -> None:
        """``sizes``: workers by role."""
        self._file, self._sizes, self._now = folder / USAGE_FILE, sizes, now
        self._began = self._last = now()
        self._busy: dict[str, float] = defaultdict(float)
        self._waited = 0.0
        self._steps = 0

    def step(self, order: Learn, done: FinishedStep, *, newest: int, waited: float, counts: Mapping[str, int]) -> None:
        """``newest``: steps that the newest published weights have learnt; ``waited``: seconds that the trainer had
        nothing to do before this one."""
        now = self._now()
        wall, self._last = now - self._last, now
        self._steps, self._waited = self._steps + 1, self._waited + waited
        for role, seconds in done.seconds.items():
            self._busy[role] += seconds
        row = {
            "step": order.step,
            "staleness": order.step - order.version,
            "published_ahead": newest - order.version,
            "seconds": round(wall, 3),
            "waited": round(waited, 3),
            "busy": {role: round(seconds, 3) for role, seconds in done.seconds.items()},
            "workers": dict(self._sizes),
            "counts": dict(counts),
        }
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def told(self, counts: Mapping[str, int]) -> str:
        """``samplers busy 31 %, painters 88 %, trainer 52 % of 210 s; 2 workers lost, 1 second lease``"""
        wall = max(self._now() - self._began, 1e-9)
        shares = [
            f"{_WORDS[role]} {self._busy[role] / (count * wall):.0%}" for role, count in self._sizes.items() if count
        ]
        shares.append(f"trainer {max(0.0, 1 - self._waited / wall):.0%}")
        lost, second = counts.get("deaths", 0), counts.get("second leases", 0)
        return (
            f"cluster: busy {', '.join(shares)} of {wall:.0f} s and {self._steps} steps; {lost} workers lost, "
            f"{second} calls given to a second one"
        )
