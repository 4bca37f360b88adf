"""Reward files as people have them: any coding that Python takes, and one sentence for what it does not take."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rewards.load import load_reward
from rewards.needs import declared_needs
from rl.config.declared import read_source
from rl.types import UserError

BODY = b"def f(samples):\n    return [1.0 for _ in samples]\n"
BRIGHT = (
    b"class f:\n    needs = {'batch_size': 4}\n    def __call__(self, samples):\n        return [1.0] * len(samples)\n"
)
PACKAGES = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("src_cyrillic", b"# vim: set fileencoding=koi8-r :\nWORD = '\xd0\xd2'\n" + BRIGHT),
        ("src_western", b"#!/usr/bin/python3\n# -*- coding: cp1252 -*-\nPRICE = '5 \x80'\n" + BRIGHT),
        ("src_marked", b"\xef\xbb\xbf" + BRIGHT),
        ("src_page", b"\x0c\n" + BRIGHT + b"\x0c"),
        ("src_old_mac", BRIGHT.replace(b"\n", b"\r")),
        ("src_windows", BRIGHT.replace(b"\n", b"\r\n")),
        ("src_half_pair", b"HALF = '\\udc80'\n" + BRIGHT),
    ],
)
def test_what_python_imports_is_read_and_loaded(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.py").write_bytes(content)
    assert declared_needs(f"{name}:f").batch_size == 4
    assert load_reward("mine", f"{name}:f", {})([]) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "src_utf16",
            "\ufeffx = 1\n".encode("utf-16-le") + BODY,
            "not valid Python (source code string cannot",
        ),
        ("src_undeclared", BODY + b"# gr\xfc\xdfe\n", "load"),  # a comment: Python takes it or not, and so do we
        ("src_unknown", b"# coding: klingon\n" + BODY, "not valid Python (unknown encoding: klingon)"),
        ("src_contrary", b"\xef\xbb\xbf# coding: latin-1\n" + BODY, "not valid Python (encoding problem: iso-8859-1"),
        ("src_deep", b"x = " + b"-" * 100_000 + b"1\n" + BODY, "not valid Python (nested too deeply)"),
        ("src_mixed", b"def f(samples):\n\tif samples:\n        return 1\n", "inconsistent use of tabs and spaces"),
    ],
)
def test_what_python_does_not_import_is_one_sentence(folder: Path, name: str, content: bytes, said: str) -> None:
    (folder / f"{name}.py").write_bytes(content)
    try:
        compile(content, name, "exec")
    except (SyntaxError, ValueError, MemoryError):
        with pytest.raises(UserError) as caught:
            load_reward("mine", f"{name}:f", {})
        text = str(caught.value)
        assert text.startswith(f"rewards.mine.use: {folder / name}.py") and text.endswith("; repair the file")
        assert said in text and "\n" not in text
    else:
        assert said == "load"
        assert load_reward("mine", f"{name}:f", {})([]) == []


def test_a_file_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "src_locked.py").write_bytes(BODY)

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"src_locked.py: can't be read \(Permission denied\)"):
        read_source("rewards", "src_locked:f")


def test_a_broken_import_of_a_sound_file_is_placed_where_it_broke(folder: Path) -> None:
    (folder / "src_part.py").write_text("x = 1\nx = = 2\n")
    (folder / "src_whole.py").write_bytes(b"import src_part\n" + BODY)
    with pytest.raises(
        UserError, match=r"importing 'src_whole:f' raised SyntaxError: invalid syntax \(src_part.py:2\)"
    ):
        load_reward("mine", "src_whole:f", {})


def test_no_command_needs_its_docstring() -> None:
    """``python -OO`` takes them away."""
    files = [file for package in ("rl", "rewards", "policy", "rollout") for file in (PACKAGES / package).rglob("*.py")]
    assert [str(file) for file in files if re.search(r"__doc__[.\[]", file.read_text(encoding="utf-8"))] == []
    run = subprocess.run(
        [sys.executable, "-m", "rewards.score", "--help"],
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0 and "--retry-failed" in run.stdout, run.stderr
