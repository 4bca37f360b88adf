"""A reader that goes away ends nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
WRITES = """
import sys
from rl.process.streams import keep_streams
keep_streams()
for number in range(20000):
    print("line", number, flush=True)
print("é — ✓", flush=True)
sys.stderr.write(f"went on, {sys.stdout.encoding}, terminal {sys.stdout.isatty()}")
"""


def test_a_closed_pipe_ends_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "line 0\n"
    process.stdout.close()
    assert process.stderr.read() == "went on, utf-8, terminal False"
    assert process.wait() == 0


def test_a_full_disk_behind_it_ends_nothing() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", WRITES], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, "went on, utf-8, terminal False")


def test_what_is_written_is_what_comes_out() -> None:
    done = subprocess.run([sys.executable, "-c", WRITES], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["line 19999", "é — ✓"]


def test_without_standard_output_the_next_file_is_not_taken_for_it(tmp_path: Path) -> None:
    code = (
        f"{WRITES}\nfile = open({str(tmp_path / 'log')!r}, 'w')\nprint('a line', flush=True)\nassert file.fileno() > 2"
    )
    command = f'exec {sys.executable} -c "$CODE" >&-'
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=ROOT,
        env={**os.environ, "CODE": code},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "log").read_text() == ""
