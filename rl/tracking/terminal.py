"""What a terminal can do, and who may write on it while a run shows itself there."""

from __future__ import annotations

import ctypes
import faulthandler
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from rich.console import Console as RichConsole
from rich.console import ConsoleDimensions

_LEAST_WIDTH, _LEAST_HEIGHT = 40, 10
_USUAL = os.terminal_size((80, 24))


class Terminal(RichConsole):
    """rich's console on a stream that may not be standard output, of the size that its own terminal has."""

    def __init__(self, stream: TextIO | None = None, narrowest: int = 1) -> None:
        """``narrowest``: the width where the stream is no terminal."""
        # rich fails on a COLUMNS that is a digit and no number; the size is read below
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        super().__init__(file=stream, highlight=False, _environ=environment)
        self._narrowest = narrowest

    @property  # type: ignore[misc]  # rich's can be set; this one is the terminal's own, always
    def size(self) -> ConsoleDimensions:
        found = terminal_size(self.file)
        if found is None:
            return ConsoleDimensions(max(_USUAL.columns, self._narrowest), _USUAL.lines)
        return ConsoleDimensions(found.columns, found.lines)


def terminal_size(stream: object) -> os.terminal_size | None:
    """Of the terminal behind the stream, or what COLUMNS and LINES say; ``None`` where nobody knows."""
    try:
        found = os.get_terminal_size(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return None
    columns, lines = _variable("COLUMNS") or found.columns, _variable("LINES") or found.lines
    return os.terminal_size((columns, lines)) if columns > 0 and lines > 0 else None


def can_draw(stream: TextIO) -> bool:
    """Whether a view can be redrawn in place: a terminal of a known kind that is large enough."""
    if not stream.isatty() or os.environ.get("TERM", "").lower() in ("", "dumb", "unknown"):
        return False
    found = terminal_size(stream)
    return found is not None and found.columns >= _LEAST_WIDTH and found.lines >= _LEAST_HEIGHT


@contextmanager
def own_terminal(log: Path) -> Iterator[TextIO]:
    """The standard output as it was, for the run alone; what anybody else prints meanwhile goes to the file ``log``.

    This is done with the descriptors 1 and 2, since libraries in C and child processes write there. Nothing is changed
    where standard output has been replaced, in a test or a notebook. A crash is still told on standard error.
    """
    if not _is_descriptor(sys.stdout, 1):
        yield sys.stdout
        return
    _flush()
    out, err = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    traced = faulthandler.is_enabled()
    faulthandler.enable(err)
    stream = _on_descriptor(out, like=sys.stdout)
    try:
        yield stream
    finally:
        with suppress(OSError, ValueError):
            stream.flush()
        _flush()
        os.dup2(out, 1)
        os.dup2(err, 2)
        faulthandler.disable()
        if traced:
            faulthandler.enable()
        stream.close()
        os.close(err)


def _variable(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _is_descriptor(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is not None and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _on_descriptor(number: int, like: TextIO) -> TextIO:
    """A stream that behaves as ``like`` does, also when nobody reads it any more."""
    raw = getattr(getattr(like, "buffer", None), "raw", None)
    kind = type(raw) if isinstance(raw, io.FileIO) else io.FileIO
    return io.TextIOWrapper(
        io.BufferedWriter(kind(number, "w")), encoding=like.encoding, errors=like.errors, line_buffering=True
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)  # what C libraries have printed and not written yet
