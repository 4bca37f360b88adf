"""What the person at the terminal sees: one live view, or one plain line per step when output goes to a file.

Names with a place of their own: ``reward/<name>``, ``score``, ``kl``, ``entropy``, ``mismatch``,
``zero_std_fraction``, ``failed_fraction``, ``loss``, ``grad_norm``, ``lr``, ``guard/<name>``, and ``images`` (pictures
of this step, for images per second). Everything else is logged but not shown.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rl.run_folder.records import Alarm
from rl.tracking.guards import PREFIX as GUARD_PREFIX

REWARD_PREFIX, FAILED_PREFIX = "reward/", "failed/"
_HEALTH = ("kl", "entropy", "mismatch", "zero_std_fraction", "failed_fraction", "loss", "grad_norm", "lr")
_SPARKS, _BAR = "▁▂▃▄▅▆▇█", 24


class Console:
    """Shows nothing at all, not even alarms: those are in metrics.jsonl."""

    def step(
        self, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float], alarms: Sequence[Alarm]
    ) -> None:
        """After each step."""

    def message(self, text: str) -> None:
        """A sentence that stays visible."""

    def close(self) -> None:
        """At the end of the run."""


def make_console(
    mode: Literal["auto", "rich", "plain", "off"], title: str, total_steps: int, first_step: int = 0
) -> Console:
    """``auto``: live view on a terminal, else plain; ``rich``, ``plain``, ``off`` force one.

    ``first_step`` is the step to come first (a resumed run's): the ETA counts only steps of this session.
    """
    if mode == "auto":
        mode = "rich" if sys.stdout.isatty() else "plain"
    if mode == "rich":
        return LiveConsole(title, total_steps, first_step)
    if mode == "plain":
        return PlainConsole(total_steps, first_step)
    return Console()


class Clock:
    """Time per step from the last steps, hence the ETA; what came before the first step's end is no measure of it."""

    def __init__(self, total_steps: int, first_step: int, now: Callable[[], float] = time.monotonic) -> None:
        self._total, self._first, self._now = total_steps, first_step, now
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
        return "--" if pace is None else duration(pace * max(0, self._total - self.done))


def duration(seconds: float) -> str:
    """``5 s``, ``3 min 05 s``, ``2 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def sparkline(values: Sequence[float], width: int = 30) -> str:
    """The last values as a row of blocks, scaled between their own minimum and maximum."""
    shown = list(values)[-width:]
    if not shown:
        return ""
    low, high = min(shown), max(shown)
    span = high - low
    return "".join(_SPARKS[int((value - low) / span * 7.999)] if span > 0 else _SPARKS[3] for value in shown)


def images_per_second(metrics: Mapping[str, float], seconds: Mapping[str, float]) -> float | None:
    total = seconds.get("total", sum(seconds.values()))
    return metrics["images"] / total if "images" in metrics and total > 0 else None


class PlainConsole(Console):
    """One line per step, for logs and pipes."""

    def __init__(self, total_steps: int, first_step: int = 0, write: Callable[[str], None] | None = None) -> None:
        self._total, self._clock = total_steps, Clock(total_steps, first_step)
        self._write = write or partial(print, flush=True)

    def step(
        self, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float], alarms: Sequence[Alarm]
    ) -> None:
        self._clock.tick(step)
        parts = [f"step {step + 1}/{self._total}"]
        if "score" in metrics:
            parts.append(f"score {metrics['score']:.3f}")
        rewards = {name: value for name, value in metrics.items() if name.startswith(REWARD_PREFIX)}
        parts += [f"{name.removeprefix(REWARD_PREFIX)} {value:.3f}" for name, value in rewards.items()]
        failed = {name: value for name, value in metrics.items() if name.startswith(FAILED_PREFIX)}
        parts += [f"{name.removeprefix(FAILED_PREFIX)} FAILED {value:.0f}" for name, value in failed.items()]
        short = {"zero_std_fraction": "zero-std", "failed_fraction": "failed"}
        parts += [f"{short.get(name, name)} {metrics[name]:.3g}" for name in _HEALTH[:5] if name in metrics]
        total = seconds.get("total", sum(seconds.values()))
        parts.append(f"{total:.1f} s")
        rate = images_per_second(metrics, seconds)
        if rate is not None:
            parts.append(f"{rate:.1f} images/s")
        self._write("  ".join([*parts, f"ETA {self._clock.eta()}"]))
        for alarm in alarms:
            self._write(f"ALARM  {alarm.sentence}")

    def message(self, text: str) -> None:
        self._write(text)


class LiveConsole(Console):
    """One view that is redrawn in place; messages and alarms scroll above it and stay."""

    def __init__(self, title: str, total_steps: int, first_step: int = 0, terminal: RichConsole | None = None) -> None:
        self._title, self._total = title, total_steps
        self._clock = Clock(total_steps, first_step)
        self._history: dict[str, deque[float]] = {}
        self._alarms: deque[str] = deque(maxlen=3)
        self._latest: tuple[int, Mapping[str, float], Mapping[str, float]] = (first_step - 1, {}, {})
        self._live = Live(self.view(), console=terminal or RichConsole(), refresh_per_second=4)
        self._live.start()

    def step(
        self, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float], alarms: Sequence[Alarm]
    ) -> None:
        self._clock.tick(step)
        self._latest = (step, metrics, seconds)
        for name, value in metrics.items():
            self._history.setdefault(name, deque(maxlen=200)).append(value)
        for alarm in alarms:
            self._alarms.append(alarm.sentence)
        self._live.update(self.view(), refresh=True)

    def message(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        self._live.stop()

    def view(self) -> RenderableType:
        """The panel as it stands; also what the tests look at."""
        _, metrics, seconds = self._latest
        body = Table.grid(padding=(0, 4))
        body.add_row(self._learning(metrics), self._stages(seconds))
        parts: list[RenderableType] = [self._headline(metrics, seconds), Text(), body]
        parts += [Text(f"! {sentence}", style="bold yellow") for sentence in self._alarms]
        return Panel(
            Group(*parts),
            title=Text(self._title, style="bold"),
            title_align="left",
            border_style="cyan",
            padding=(1, 2),
        )

    def _headline(self, metrics: Mapping[str, float], seconds: Mapping[str, float]) -> RenderableType:
        line = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._total, completed=self._clock.done, width=30)
        rate, pace = images_per_second(metrics, seconds), self._clock.seconds_per_step()
        facts = [f"ETA {self._clock.eta()}"]
        facts += [f"{pace:.1f} s/step"] if pace is not None else ["waiting for the first step"]
        facts += [f"{rate:.1f} images/s"] if rate is not None else []
        line.add_row(Text(f"step {self._clock.done}/{self._total}", style="bold"), bar, Text(" · ".join(facts)))
        return line

    def _learning(self, metrics: Mapping[str, float]) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        rewards = [name for name in metrics if name.startswith(REWARD_PREFIX)]
        for name in ["score", *rewards]:
            if name in metrics:
                style = "bold green" if name == "score" else "green"
                label = name.removeprefix(REWARD_PREFIX) if name == "score" else f"  {name.removeprefix(REWARD_PREFIX)}"
                table.add_row(label, Text(f"{metrics[name]:.3f}", style=style), self._spark(name))
        for name in metrics:
            if name.startswith(FAILED_PREFIX):
                label = f"  {name.removeprefix(FAILED_PREFIX)} failed"
                table.add_row(Text(label, style="red"), Text(f"{metrics[name]:.0f}", style="red"), self._spark(name))
        for name in _HEALTH:
            if name in metrics:
                table.add_row(name.replace("_", " "), f"{metrics[name]:.3g}", self._spark(name))
        for name in metrics:
            if name.startswith(GUARD_PREFIX):
                label = name.removeprefix(GUARD_PREFIX).replace("_", " ")
                table.add_row(Text(label, style="dim"), Text(f"{metrics[name]:.3g}", style="dim"), self._spark(name))
        return table

    def _spark(self, name: str) -> Text:
        return Text(sparkline(self._history.get(name, ())), style="cyan")

    def _stages(self, seconds: Mapping[str, float]) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        stages = {name: value for name, value in seconds.items() if name != "total"}
        longest = max(stages.values(), default=0.0)
        for name, value in stages.items():
            length = round(_BAR * value / longest) if longest > 0 else 0
            table.add_row(name, Text("█" * max(1, length), style="blue"), f"{value:.2f} s")
        return table
