"""What a wheel carries, and the start-up files that setuptools cannot put beside the packages."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_backend() -> ModuleType:
    spec = importlib.util.spec_from_file_location("backend", ROOT / ".packaging" / "backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_start_up_files_are_in_the_wheel_and_in_its_record(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with ZipFile(wheel, "w") as made:
        made.writestr("a.py", "1")
        made.writestr("a-1.dist-info/RECORD", "a.py,sha256=x,1\na-1.dist-info/RECORD,,\n")
    load_backend().add_start_up(wheel)
    with ZipFile(wheel) as found:
        assert found.testzip() is None
        assert found.read("a.py") == b"1"
        start_up = (ROOT / ".packaging" / "easel-rl.pth").read_bytes()
        assert found.read("easel-rl.pth") == start_up
        record = found.read("a-1.dist-info/RECORD").decode().splitlines()
    digest = base64.urlsafe_b64encode(hashlib.sha256(start_up).digest()).decode().rstrip("=")
    assert f"easel-rl.pth,sha256={digest},{len(start_up)}" in record
    assert [line.partition(",")[0] for line in record] == [
        *("easel-rl.pth", "easel_rl_first.py", "a.py", "a-1.dist-info/RECORD")
    ]


def test_a_source_distribution_holds_what_builds_it(tmp_path: Path) -> None:
    (tmp_path / "a-1").mkdir()
    (tmp_path / "a-1" / "a.py").touch()
    with tarfile.open(tmp_path / "a-1.tar.gz", "w:gz") as made:
        made.add(tmp_path / "a-1", "a-1")
    load_backend().add_this_folder(tmp_path / "a-1.tar.gz")
    with tarfile.open(tmp_path / "a-1.tar.gz") as found:
        names = set(found.getnames())
    wanted = {"a-1/a.py", "a-1/.packaging/backend.py", "a-1/.packaging/easel-rl.pth"}
    assert wanted <= names
    assert not [name for name in names if "__pycache__" in name]


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "rl" / "CITATION.cff").read_text()
    assert f"\n## {version}\n" in (ROOT / "rl" / "CHANGELOG.md").read_text()


@pytest.mark.slow  # 10 s, more on a busy machine
def test_a_wheel_carries_what_an_installed_package_needs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    before = {path.name for path in ROOT.iterdir()}
    done = subprocess.run([*command, str(ROOT)], env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in ROOT.iterdir()} == before
    (wheel,) = tmp_path.glob("*.whl")
    names = set(ZipFile(wheel).namelist())
    yaml = {f"rl/shipped/{path.relative_to(ROOT)}" for folder in ("configs", "examples") for path in find(folder)}
    assert yaml <= names
    assert {f"{package}/py.typed" for package in ("rl", "rewards", "policy", "rollout")} <= names
    wanted = ("easel-rl.pth", "easel_rl_first.py", "rl/CHANGELOG.md", "rl/CITATION.cff", "rewards/README.md")
    assert {*wanted, "policy/convert/presets/transformer.json"} <= names
    assert not [name for name in names if name.startswith(("tests", "examples", "configs", "build"))]


def find(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.yaml"))
