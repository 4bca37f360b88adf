"""One view that is redrawn in place, as large as the terminal allows; messages and alarms scroll above it and stay."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rl.process.output import shown
from rl.run_folder.records import Alarm
from rl.tracking.clock import Activity, Clock, images_per_second, total_seconds
from rl.tracking.contract import (
    FAILED_PREFIX,
    GUARD_PREFIX,
    HEALTH,
    REWARD_PREFIX,
    Console,
    groups_kept,
    who_learnt,
    workers_told,
)
from rl.tracking.terminal import Terminal

_SPARKS, _ASCII_SPARKS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
_LABELS, _STAGES, _MOST_SPARK, _MOST_BAR = 38, 22, 30, 24  # columns beside the sparklines and beside the stages' bars
_OTHER_LINES = 11  # of the panel, beside its metrics


class LiveConsole(Console):
    """Drawn four times a second by a thread of its own, so that a long step is seen to go on."""

    def __init__(self, title: str, total_steps: int, first_step: int = 0, terminal: Terminal | None = None) -> None:
        self._title = shown(title)
        self._clock, self._activity = Clock(total_steps, first_step), Activity()
        self._history: dict[str, deque[float]] = {}
        self._alarms: deque[str] = deque(maxlen=3)
        self._latest: tuple[Mapping[str, float], Mapping[str, float]] = ({}, {})
        self._workers: Mapping[str, float] = {}
        self._lock = threading.Lock()  # held for moments only, and never while drawing
        self._terminal = terminal or Terminal()
        self._live = Live(
            get_renderable=self.view,
            console=self._terminal,
            refresh_per_second=4,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def step(
        self, step: int, metrics: Mapping[str, float], seconds: Mapping[str, float], alarms: Sequence[Alarm]
    ) -> None:
        with self._lock:
            self._clock.tick(step, total_seconds(seconds))
            self._latest = (dict(metrics), dict(seconds))
            for name, value in metrics.items():
                self._history.setdefault(name, deque(maxlen=200)).append(value)
            self._alarms.extend(shown(alarm.sentence) for alarm in alarms)
        self._live.refresh()

    def workers(self, numbers: Mapping[str, float]) -> None:
        with self._lock:
            self._workers = dict(numbers)

    def message(self, text: str) -> None:
        self._terminal.print(shown(text), highlight=False, markup=False, emoji=False)

    def starting(self, what: str) -> None:
        self._activity.stage(f"starting: {what}")

    def stage(self, name: str) -> None:
        self._activity.stage(name)

    def advance(self, done: int, total: int, unit: str) -> None:
        self._activity.advance(done, total, unit)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        self._activity.progress(task, done, total, unit)

    def close(self) -> None:
        self._activity.stage("done" if self._clock.done >= self._clock.total else "stopped")
        self._live.stop()

    def view(self) -> RenderableType:
        """The panel as it stands; also what the tests look at."""
        with self._lock:
            metrics, seconds = self._latest
            history = {name: list(values) for name, values in self._history.items()}
            alarms = list(self._alarms)
            picture = _Picture(self._terminal, metrics, seconds, history)
            parts: list[RenderableType] = [picture.headline(self._clock), picture.activity(self._activity)]
            parts += [picture.workers(self._workers)] if self._workers else []
        if metrics:
            parts += [Text(), picture.body()]
        parts += [Text(f"! {sentence}", style="bold yellow") for sentence in alarms]
        return Panel(
            Group(*parts),
            title=Text(self._title, style="bold"),
            title_align="left",
            border_style="cyan",
            padding=(0, 2),
        )


class _Picture:
    """One drawing of the last step, fitted into the terminal."""

    def __init__(
        self,
        terminal: Terminal,
        metrics: Mapping[str, float],
        seconds: Mapping[str, float],
        history: Mapping[str, Sequence[float]],
    ) -> None:
        self._metrics, self._seconds, self._history = metrics, seconds, history
        size = terminal.size
        self._width, self._rows = size.width - 6, size.height - _OTHER_LINES
        self._ascii = terminal.options.ascii_only
        self._dot = " | " if self._ascii else " · "

    def headline(self, clock: Clock) -> RenderableType:
        rate, pace = images_per_second(self._metrics, self._seconds), clock.seconds_per_step()
        facts = [f"ETA {clock.eta()}"]
        facts += [f"{pace:.1f} s/step"] if pace is not None else []
        facts += [f"{rate:.1f} images/s"] if rate is not None else []
        facts += [learnt] if (learnt := who_learnt(self._metrics)) else []
        facts += [kept] if (kept := groups_kept(self._metrics)) else []
        return self._line(f"step {clock.done}/{clock.total}", clock.done, clock.total, self._dot.join(facts), "bold")

    def activity(self, activity: Activity) -> RenderableType:
        """What goes on, with a bar where it is known how far it is."""
        known, (what, far) = activity.task or activity.part, activity.words()
        if known is not None:
            return self._line(shown(what), known.done, known.total, far, "cyan")
        return self._text(f"{shown(what)}{self._dot}{far}", "cyan")

    def workers(self, numbers: Mapping[str, float]) -> RenderableType:
        return self._text(self._dot.join(workers_told(numbers)), "cyan")

    def _line(self, what: str, done: int, total: int, facts: str, style: str) -> RenderableType:
        line = Table.grid(padding=(0, 2))
        room = self._width - len(what) - len(facts) - 4
        cells: list[RenderableType] = [self._text(what, style)]
        if room >= 5:
            cells.append(ProgressBar(total=max(1, total), completed=done, width=min(30, room)))
        line.add_row(*cells, self._text(facts))
        return line

    def body(self) -> RenderableType:
        """Metrics on the left, where the time went on the right if there is room."""
        body, free = Table.grid(padding=(0, 4)), self._width - _LABELS
        with_stages = free >= _STAGES + 8
        spark = min(_MOST_SPARK, (free - _STAGES) * 2 // 3 if with_stages else free)
        left = self._learning(max(0, spark))
        if with_stages:
            body.add_row(left, self._stages(min(_MOST_BAR, free - _STAGES - spark)))
        else:
            body.add_row(left)
        return body

    def _learning(self, spark: int) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        for name, label, shown_value, style in self._metric_rows()[: max(3, self._rows)]:
            line = sparkline(self._history.get(name, ()), spark, _ASCII_SPARKS if self._ascii else _SPARKS)
            table.add_row(self._text(label, style), self._text(shown_value, style), self._text(line, "cyan"))
        return table

    def _metric_rows(self) -> list[tuple[str, str, str, str]]:
        """(name, label, value, style), the most important first: a low terminal shows no more than fit."""
        found: list[tuple[str, str, str, str]] = []
        for name, value in self._metrics.items():
            if name == "score":
                found.insert(0, (name, name, f"{value:.3f}", "bold green"))
            elif name.startswith(REWARD_PREFIX):
                found.append((name, f"  {shown(name.removeprefix(REWARD_PREFIX))}", f"{value:.3f}", "green"))
        for name, value in self._metrics.items():
            if name.startswith(FAILED_PREFIX):
                found.append((name, f"  {shown(name.removeprefix(FAILED_PREFIX))} failed", f"{value:.0f}", "red"))
        found += [
            (name, name.replace("_", " "), f"{self._metrics[name]:.3g}", "") for name in HEALTH if name in self._metrics
        ]
        for name, value in self._metrics.items():
            if name.startswith(GUARD_PREFIX):
                found.append((name, name.removeprefix(GUARD_PREFIX).replace("_", " "), f"{value:.3g}", "dim"))
        return found

    def _stages(self, bar: int) -> RenderableType:
        table = Table.grid(padding=(0, 1))
        stages = {name: value for name, value in self._seconds.items() if name != "total"}
        longest = max(stages.values(), default=0.0)
        for name, value in stages.items():
            length = max(1, round(bar * value / longest) if longest > 0 else 0)
            table.add_row(
                self._text(name),
                self._text(("#" if self._ascii else "█") * length, "blue"),
                self._text(f"{value:.2f} s"),
            )
        return table

    def _text(self, words: str, style: str = "") -> Text:
        return Text(words, style=style, no_wrap=True, overflow="crop" if self._ascii else "ellipsis")


def sparkline(values: Sequence[float], width: int = _MOST_SPARK, marks: str = _SPARKS) -> str:
    """The last values as a row of blocks, scaled between their own minimum and maximum."""
    last = list(values)[-width:] if width > 0 else []
    if not last:
        return ""
    low, high = min(last), max(last)
    span, top = high - low, len(marks) - 0.001
    return "".join(marks[int((value - low) / span * top)] if span > 0 else marks[3] for value in last)
