"""How far a command with many pictures is: a bar with its rate on a terminal, a line now and then elsewhere; both say
how long it still takes. On stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.progress import ProgressColumn as RichColumn
from rich.text import Text

from rl.tracking.clock import duration

_SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def picture_progress(
    title: str, total: int, console: Console | None = None, now: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[int], None]]:
    """Gives what is called with the number of pictures that were just finished."""
    console = console or Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        yield _Lines(title, total, now).advance
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        *(BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(title, total=total)
        yield lambda count: progress.advance(bar, count)


class _Lines:
    """A line at the end, and each half minute before."""

    def __init__(self, title: str, total: int, now: Callable[[], float]) -> None:
        self._title, self._total, self._now = title, total, now
        self._done, self._started = 0, now()
        self._told = self._started

    def advance(self, count: int) -> None:
        self._done += count
        moment = self._now()
        if self._done < self._total and moment - self._told < _SECONDS_BETWEEN_LINES:
            return
        self._told = moment
        rate = self._done / max(moment - self._started, 1e-9)
        line = f"{self._title}: {self._done} of {self._total} pictures, {rate:.1f} pictures/s"
        if self._done < self._total:
            line += f", {duration((self._total - self._done) / rate)} left"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class _Rate(RichColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f} pictures/s")
