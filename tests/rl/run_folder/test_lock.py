"""One folder, one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rl.run_folder import lock
from rl.run_folder.lock import LOCK_FILE, Owner, hold
from rl.types import UserError

ROOT = Path(__file__).parents[3]
HOLDS = """
import sys, time
from pathlib import Path
from rl.run_folder.lock import hold
from rl.types import UserError
try:
    with hold(Path(sys.argv[1])):
        print("holds", flush=True)
        time.sleep(float(sys.argv[2]))
except UserError as error:
    print(error)
"""


def holder(folder: Path, seconds: float = 60) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder), str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def left_behind(folder: Path, owner: Owner) -> None:
    (folder / LOCK_FILE).write_text(json.dumps(asdict(owner)))


def test_it_is_gone_afterwards_and_the_folder_is_made(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "run"
    with hold(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK_FILE]
    assert list(folder.iterdir()) == []
    with hold(folder) as release:
        release()
        assert list(folder.iterdir()) == []


def test_a_folder_in_use_is_refused_with_who_and_since_when(tmp_path: Path) -> None:
    first = holder(tmp_path)
    try:
        assert said(first) == "holds\n"
        with pytest.raises(UserError) as caught, hold(tmp_path):
            pass
        assert f"{tmp_path} is in use: process {first.pid} of this machine has been running there" in str(caught.value)
        assert f"stop it (kill {first.pid})" in str(caught.value)
        assert (tmp_path / LOCK_FILE).exists()
    finally:
        first.kill()
        first.wait()


def test_what_a_killed_run_leaves_is_taken_over(tmp_path: Path) -> None:
    first = holder(tmp_path)
    assert said(first) == "holds\n"
    first.send_signal(signal.SIGKILL)
    first.wait()
    with hold(tmp_path):
        assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_take_over_at_once_one_wins(tmp_path: Path) -> None:
    left_behind(tmp_path, replace(Owner.here(), pid=2**22 - 1))
    many = [holder(tmp_path, 3) for _ in range(5)]
    answers = [process.communicate()[0] for process in many]
    assert sum(answer == "holds\n" for answer in answers) == 1
    assert sum("is in use: process" in answer for answer in answers) == 4


def test_a_number_that_another_process_has_since_is_no_owner(tmp_path: Path) -> None:
    left_behind(tmp_path, replace(Owner.here(), pid=os.getppid(), started=time.time() - 10_000_000))
    with hold(tmp_path):
        pass


def test_without_locks_of_the_file_system_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_try_flock", lambda _: None)
    left_behind(tmp_path, Owner.here())  # alive: this process
    with pytest.raises(UserError, match="is in use: process"), hold(tmp_path):
        pass
    left_behind(tmp_path, replace(Owner.here(), pid=2**22 - 1))
    with hold(tmp_path):
        pass


def test_before_a_restart_of_this_machine(tmp_path: Path) -> None:
    owner = replace(Owner.here(), boot="another", machine="m")
    left_behind(tmp_path, owner)
    here = replace(Owner.here(), machine="m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Owner, "here", classmethod(lambda cls: here))
        with hold(tmp_path):
            pass


def test_another_machine_is_explained(tmp_path: Path) -> None:
    left_behind(tmp_path, replace(Owner.here(), host="node7", machine="x", boot="y", pid=41))
    with pytest.raises(UserError) as caught, hold(tmp_path):
        pass
    assert "in use by process 41 on node7 since" in str(caught.value)
    assert f"if that run is gone (killed, its machine down), remove {tmp_path / LOCK_FILE} and start" in str(
        caught.value
    )


def test_a_damaged_lock_is_explained(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).write_text("{")
    with (
        pytest.raises(UserError, match=r"or .*run.lock is damaged: if no run is there, remove that file"),
        hold(tmp_path),
    ):
        pass


def test_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with hold(tmp_path), pytest.raises(UserError, match="is in use"), hold(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    folder = tmp_path / "file" / "run"
    folder.parent.write_text("")
    with (
        pytest.raises(UserError, match=r"cannot write to .*file/run \(Not a directory\); choose another"),
        hold(folder),
    ):
        pass
