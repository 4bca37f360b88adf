"""Standard output that outlives its reader: a run goes on when ``| head`` has read enough or the terminal is gone."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO


class LastingOutput(io.FileIO):
    """Drops what nobody can take any more: a closed pipe, a lost terminal, a full disk behind ``> log``.

    What matters of a run is in its folder, whose own errors are reported; a line that cannot be shown ends nothing.
    """

    def write(self, data: object, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def keep_streams() -> None:
    """Puts ``LastingOutput`` under standard output and error; a stream that the caller has replaced is left alone."""
    _open_missing()
    if sys.stdout is sys.__stdout__:
        sys.stdout = _lasting(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _lasting(sys.stderr, 2)


def _open_missing() -> None:
    """``>&-`` leaves a number free, and the next file, the log of the run perhaps, would be standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return io.TextIOWrapper(io.BufferedWriter(LastingOutput(number, "w", closefd=False)), line_buffering=True)
    stream.flush()
    raw = LastingOutput(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
