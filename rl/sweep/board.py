"""What a sweep shows while it goes on: a table that is redrawn in place, or lines where nothing can be redrawn."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Self, TextIO

from rich.live import Live
from rich.table import Table
from rich.text import Text

from rl.process.output import shown
from rl.sweep.again import has_begun
from rl.sweep.member import Member
from rl.sweep.progress import pace, progress, to_go
from rl.tracking.clock import duration
from rl.tracking.terminal import Terminal, can_draw

_TELL_EVERY_S, _DRAW_EVERY_S = 30.0, 1.0
_STYLES = {"running": "bold", "done": "green", "kept": "green", "reused": "green", "failed": "bold red"}


class Board:
    """Lines: a run's first step, every half minute how far it is, and how it ended."""

    def __init__(self, members: Sequence[Member], parallel: int, stream: TextIO) -> None:
        self.members, self.parallel, self._stream = members, parallel, stream
        self._told: dict[int, float] = {}
        self._stepped: set[int] = set()

    def say(self, text: str) -> None:
        print(shown(text), file=self._stream, flush=True)

    def look(self) -> None:
        """Shows what has changed, if it is time."""
        now = time.monotonic()
        for place, one in enumerate(self.members):
            if one.state != "running":
                continue
            first = place not in self._stepped and has_begun(one.run.folder)
            if first or now - self._told.setdefault(place, now) > _TELL_EVERY_S:
                self._told[place] = now
                self._stepped |= {place} if first else set()
                self.say(f"{one.run.folder}: {progress(one, now)}; {summary(self.members, self.parallel)}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.look()


class LiveBoard(Board):
    """The table of all runs; sentences scroll above it and stay."""

    def __init__(self, members: Sequence[Member], parallel: int, stream: TextIO) -> None:
        super().__init__(members, parallel, stream)
        self._terminal = Terminal(stream)
        self._live = Live(console=self._terminal, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)
        self._drawn = 0.0

    def say(self, text: str) -> None:
        self._terminal.print(shown(text), highlight=False, markup=False, emoji=False)

    def look(self) -> None:
        now = time.monotonic()
        if now - self._drawn >= _DRAW_EVERY_S:
            self._drawn = now
            self._live.update(table(self.members, self.parallel, self._terminal.size.height - 6), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._drawn = 0.0
        self.look()
        self._live.stop()


def make_board(members: Sequence[Member], parallel: int, stream: TextIO | None = None) -> Board:
    stream = stream or sys.stderr
    return (LiveBoard if can_draw(stream) else Board)(members, parallel, stream)


def table(members: Sequence[Member], parallel: int, most: int = 1000) -> Table:
    """A line per run: those that are running or failed first to stay where not all fit."""
    found = Table(title=summary(members, parallel), title_justify="left")
    for name in ("arm", "seed", "state", "step", "score", "held out", "left"):
        found.add_column(name, justify="left" if name in ("arm", "state") else "right", no_wrap=name != "arm")
    ranked = sorted(range(len(members)), key=lambda place: members[place].state not in ("running", "failed"))
    for place in sorted(ranked[: max(1, most)]):
        found.add_row(*_cells(members[place]), style=_STYLES.get(members[place].state))
    if len(members) > most:
        found.caption = f"and {len(members) - most} more runs"
    return found


def _cells(one: Member) -> list[Text]:
    if one.state == "waiting":
        cells = [one.run.arm, str(one.run.seed), one.state, "", "", "", ""]
    else:
        found = pace(one.source, one.run.steps)
        starting = one.state == "running" and found.left is None
        left = duration(found.left) if one.state == "running" and found.left is not None else ""
        state = f"starting {duration(time.monotonic() - one.started)}" if starting else one.state
        cells = [one.run.arm, str(one.run.seed), state, f"{found.done}/{one.run.steps}"]
        cells += [_number(found.score), _number(found.held_out), left]
    return [Text(shown(cell)) for cell in cells]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def summary(members: Sequence[Member], parallel: int) -> str:
    """``2 of 6 runs complete, 1 failed, about 12 min 30 s to go``."""
    counts = Counter(one.state for one in members)
    facts = [f"{sum(one.complete for one in members)} of {len(members)} runs complete"]
    facts += [f"{counts[state]} {state}" for state in ("failed", "stopped early") if counts[state]]
    left = to_go(members, parallel)
    if left is not None and (counts["running"] or counts["waiting"]):
        facts.append(f"about {duration(left)} to go")
    return ", ".join(facts)
