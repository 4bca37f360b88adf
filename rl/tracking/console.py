"""Which console a run gets."""

from __future__ import annotations

from typing import Literal, TextIO

from rl.tracking.contract import Console
from rl.tracking.live import LiveConsole
from rl.tracking.plain import PlainConsole
from rl.tracking.terminal import Terminal, can_draw


def make_console(
    mode: Literal["auto", "rich", "plain", "off"], stream: TextIO, title: str, total_steps: int, first_step: int = 0
) -> Console:
    """``auto``: live view on a terminal that can draw it, else plain; ``rich``, ``plain``, ``off`` force one.

    ``first_step`` is the step to come first (a resumed run's): the ETA counts only steps of this session.
    """
    if mode == "rich" or (mode == "auto" and can_draw(stream)):
        return LiveConsole(title, total_steps, first_step, Terminal(stream))
    if mode in ("auto", "plain"):
        return PlainConsole(stream, total_steps, first_step)
    return Console()
