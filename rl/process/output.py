"""What a command prints, on any terminal: characters that it can't show are replaced, and none of them is obeyed."""

from __future__ import annotations

import io
import os
import re
import sys

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def prepare_output() -> None:
    """First of all in every command: nothing that is printed can end it, whatever the locale can show.

    Where the locale has a narrow encoding for file names too (``LC_ALL=C`` without coercion, Latin-1), the command is
    started once more in Python's UTF-8 mode: paths, files of libraries and child processes then work as everywhere.
    """
    if sys.getfilesystemencoding().lower() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        _start_again_in_utf8()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _start_again_in_utf8() -> None:
    """What is printed keeps the encoding of the terminal."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.environ.setdefault("PYTHONIOENCODING", f"{sys.stdout.encoding}:backslashreplace")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, sys.orig_argv)


def shown(text: str) -> str:
    """The text as it stands, harmless on every terminal: characters that colour, move or turn the rest around are
    spelled out (``\\x1b``); tabs and line ends stay."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
