"""Few open files, users without a name."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path

import pytest

from rl import share_cores
from rl.process import host
from rl.types import UserError


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("sse avx512f avx512_bf16", True), ("amx_tile amx_bf16", True), ("avx2 fma", False), ("avx512_bf16_not", False)],
)
def test_bfloat16_is_for_machines_that_multiply_it(flags: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n")
    assert host.multiplies_bfloat16(tmp_path / "cpuinfo", tmp_path / "no driver") is expected
    assert host.multiplies_bfloat16(tmp_path / "no file", tmp_path / "no driver") is False
    (tmp_path / "version").write_text("")
    assert host.multiplies_bfloat16(tmp_path / "cpuinfo", tmp_path / "version") is True


def test_few_open_files_are_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    with pytest.raises(UserError, match=r"this shell allows 64 open files .* \(ulimit -n 4096\)"):
        host.allow_open_files()


def test_a_low_soft_limit_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    host.allow_open_files()
    assert asked == [(1000, 1000)]


def test_a_user_without_an_entry_gets_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 987654)
    environment: dict[str, str] = {}
    host.name_user(environment)
    assert environment == {"LOGNAME": "uid987654", "USER": "uid987654"}


def test_no_folder_for_temporary_files_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(UserError, match=r"no folder for temporary files can be written .*: set TMPDIR to one that can"):
        host.check_temporary_folder()


def test_waiting_threads_leave_the_cores_to_others_unless_the_user_says_otherwise() -> None:
    environment = {"GOMP_SPINCOUNT": "7"}
    share_cores(environment)
    assert environment == {"GOMP_SPINCOUNT": "7", "OMP_WAIT_POLICY": "PASSIVE"}
    share_cores(environment := {})
    assert environment == {"GOMP_SPINCOUNT": "2000", "OMP_WAIT_POLICY": "PASSIVE"}
