from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from rl.tracking.terminal import Terminal, can_draw, own_terminal, terminal_size

ROOT = Path(__file__).parents[3]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[TextIO]:
    """One end of a pseudo terminal of 80 x 24."""
    for name in ("COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    keeper, number = pty.openpty()
    stream = os.fdopen(number, "w")
    resize(stream, 80, 24)
    yield stream
    stream.close()
    os.close(keeper)


def resize(stream: TextIO, columns: int, lines: int) -> None:
    fcntl.ioctl(stream, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


def test_a_usual_terminal_can_draw(screen: TextIO) -> None:
    assert can_draw(screen)
    assert not can_draw(io.StringIO())


@pytest.mark.parametrize("kind", ["dumb", "unknown", "", "DUMB", None])
def test_a_terminal_of_no_known_kind_gets_lines(
    screen: TextIO, monkeypatch: pytest.MonkeyPatch, kind: str | None
) -> None:
    if kind is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", kind)
    assert not can_draw(screen)


@pytest.mark.parametrize(("size", "can"), [((0, 0), False), ((39, 24), False), ((80, 9), False), ((40, 10), True)])
def test_a_small_terminal_gets_lines(screen: TextIO, size: tuple[int, int], can: bool) -> None:
    resize(screen, *size)
    assert can_draw(screen) == can


@pytest.mark.parametrize("columns", ["0", "abc", "", "-5", "²"])
def test_odd_sizes_in_the_environment_are_no_sizes(
    screen: TextIO, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_size(screen) == (80, 24)
    assert Terminal(screen).width == 80


def test_the_size_follows_the_terminal(screen: TextIO) -> None:
    terminal = Terminal(screen)
    resize(screen, 133, 50)
    assert terminal.size == (133, 50)
    assert Terminal(io.StringIO(), narrowest=120).size == (120, 24)


PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from rl.tracking.terminal import own_terminal
print("before")
with own_terminal(Path("log.txt")) as screen:
    screen.write("the run\\n")
    print("a library")
    os.write(2, b"a library in C\\n")
    subprocess.run([sys.executable, "-c", "print('a child')"])
    if "crash" in sys.argv:
        import ctypes
        ctypes.string_at(0)
    if "bug" in sys.argv:
        raise RuntimeError("a bug")
print("after")
"""


def talk(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_only_the_run_writes_on_the_terminal(tmp_path: Path) -> None:
    done = talk(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "before\nthe run\nafter\n", "")
    assert sorted((tmp_path / "log.txt").read_text().splitlines()) == ["a child", "a library", "a library in C"]


def test_a_bug_and_a_crash_are_told_on_the_terminal(tmp_path: Path) -> None:
    bug, crash = talk(tmp_path, "bug"), talk(tmp_path, "crash")
    assert bug.stdout == "before\nthe run\n"
    assert bug.stderr.endswith("RuntimeError: a bug\n")
    assert crash.returncode < 0
    assert "Segmentation fault" in crash.stderr


def test_a_replaced_output_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    with own_terminal(tmp_path / "log.txt") as stream:
        assert stream is out
    assert not (tmp_path / "log.txt").exists()
