from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl.process.output import shown

ROOT = Path(__file__).parents[3]
PROGRAM = (
    "import sys; from rl.process.output import prepare_output; prepare_output(); print('\\xe9\\u4e2d', *sys.argv[1:]); "
)
PROGRAM += "open(sys.argv[1], 'w').close()"


def test_control_characters_are_spelled_out_and_nothing_else_is() -> None:
    for text in ("a [bold]b[/] \t x\ny", "ü中 👩‍👩‍👧 \u00a0-\u200d", "مرحبا", "a\\b"):
        assert shown(text) == text
    assert shown("a\x1b[31mred\r\x07\x9b1m") == "a\\x1b[31mred\\r\\x07\\x9b1m"
    assert shown("abc\u202edcb\u2066") == "abc\\u202edcb\\u2066"
    assert shown("half\ud800") == "half\\ud800"


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ({"PYTHONIOENCODING": "ascii"}, "\\xe9\\u4e2d l\\xe4ufe"),
        ({"PYTHONIOENCODING": "latin-1"}, "é\\u4e2d läufe"),
        ({"LC_ALL": "C"}, "é中 läufe"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "\\xe9\\u4e2d l\\xe4ufe"),
    ],
)
def test_nothing_that_is_printed_ends_a_command(tmp_path: Path, settings: dict[str, str], printed: str) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    command = [sys.executable, "-c", PROGRAM, "läufe"]
    done = subprocess.run(
        command, cwd=tmp_path, env=plain | {"PYTHONPATH": str(ROOT)} | settings, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    encoding = settings.get("PYTHONIOENCODING", "utf-8")
    assert done.stdout.decode(encoding).strip() == printed
    assert (tmp_path / "läufe").exists()  # the name that was typed, whatever the locale
