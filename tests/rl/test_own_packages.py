"""A user's own rl.py, rewards.py, policy.py or rollout.py is not taken for ours, nor ours for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rewards.pool.worker_handle import import_paths
from rl import OWN_PACKAGES
from rl.registry import locate
from rl.types import UserError

ROOT = Path(__file__).resolve().parents[2]

# What Python does for `python -m rl.launch`: the start-up file, then the current folder in front, then the module.
START = """
import runpy, sys
sys.path[:] = [path for path in sys.path if path]
sys.path.append({packaging!r})
sys.orig_argv, sys.argv = ["python", "-m", "rl.launch", "--help"], ["-m", "--help"]
exec(open({packaging!r} + "/easel-rl.pth").read())
sys.path.insert(0, "")
runpy.run_module("rl.launch", run_name="__main__", alter_sys=True)
"""


def start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START.format(packaging=str(ROOT / ".packaging"))],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def in_the_way(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / f"{name}.py").write_text("def mine(samples):\n    return [0.0 for _ in samples]\n")
    return folder


def test_a_command_starts_beside_files_of_those_names(tmp_path: Path) -> None:
    done = start(in_the_way(tmp_path, *OWN_PACKAGES))
    assert done.returncode == 0, done.stderr
    assert "usage: python -m rl.launch" in done.stdout


def test_a_path_that_leads_to_another_rl_is_one_sentence(tmp_path: Path) -> None:
    done = start(in_the_way(tmp_path, "rl"), PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    assert done.returncode == 2
    expected = f"error: {tmp_path}/rl.py has the name of a package of easel-rl, so `python -m rl.launch` cannot start: "
    assert done.stderr == expected + "rename it, or take its folder out of PYTHONPATH.\n"


def test_a_script_that_has_imported_its_own_gets_one_sentence(tmp_path: Path) -> None:
    in_the_way(tmp_path, "rewards")
    done = subprocess.run(
        [sys.executable, "-c", "import rewards, rl.types"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"{tmp_path}/rewards.py has the name of a package of easel-rl: rename it, for example my_rewards.py" in (
        done.stderr
    )


def test_outside_the_environment_it_is_one_sentence() -> None:
    bare = [sys.executable, "-S", "-m", "rewards.check"]
    done = subprocess.run(bare, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: numpy, pydantic, yaml, rich, PIL not installed for {sys.executable}: type `")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", OWN_PACKAGES)
def test_a_reward_in_such_a_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(in_the_way(tmp_path, name))
    sentence = (
        f"./{name}.py has the name of a package of easel-rl, so '{name}:mine' does not lead to it: "
        f"rename it, for example my_{name}.py, and write my_{name}:mine"
    )
    with pytest.raises(UserError) as refused:
        locate("rewards", f"{name}:mine")
    assert str(refused.value) == sentence
    assert locate("rewards", "rewards.library.quality:Quality") == "rewards.library.quality:Quality"


def test_a_file_with_another_module_s_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(in_the_way(tmp_path, "json"))
    with pytest.raises(UserError, match=r"\./json\.py has the name of another module \(.*json/__init__\.py\)"):
        locate("rewards", "json:mine")


def test_workers_find_ours_first_only_where_something_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT)])
    assert import_paths() == [str(tmp_path), str(ROOT)]
    in_the_way(tmp_path, "policy")
    assert import_paths() == [str(ROOT), str(tmp_path), str(ROOT)]
