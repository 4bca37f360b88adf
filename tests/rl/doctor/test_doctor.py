from __future__ import annotations

import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from rich.console import Console

from rl.doctor import __main__ as doctor
from rl.doctor import checks
from rl.doctor.__main__ import show
from rl.doctor.checks import check_cuda_only, check_gpu, check_policy_folder, check_python, check_ranks
from rl.doctor.components import lacks_weights
from rl.doctor.deep import all_parts, run_part
from rl.preflight.requirements import Check


def test_it_answers_within_ten_seconds_without_heavy_imports() -> None:
    code = (
        "import sys, rl.doctor.__main__ as doctor; code = doctor.main([]); "
        "sys.exit(7 if {'torch', 'vllm', 'deepspeed', 'paddle', 'ray'} & set(sys.modules) else code)"
    )
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stderr
    assert time.monotonic() - started < 10
    assert result.returncode == (1 if "\nmissing " in result.stdout else 0)
    for what in (
        "Python:",
        "vLLM (sampler):",
        "DeepSpeed (trainer):",
        "ocr (PaddleOCR):",
        "policy: shapes:",
        "memory:",
    ):
        assert what in result.stdout


@pytest.mark.parametrize(("found", "status"), [((3, 10, 9), "missing"), ((3, 11, 0), "ok"), ((3, 13, 5), "ok")])
def test_python_range(found: tuple[int, int, int], status: str) -> None:
    assert check_python(found).status == status
    assert check_python((3, 14, 0)).fix == "make setup PY=python3.12"


def test_a_gpu_beside_cpu_torch_is_idle() -> None:
    check = check_gpu(["NVIDIA H100"], "2.13.0+cpu")
    assert (check.status, check.fix) == ("limited", "make setup EXTRA=gpu")
    assert check.found == "NVIDIA H100, idle: torch is the CPU build"
    assert check_gpu(["NVIDIA H100"], "2.13.0").status == "ok"


def test_how_many_ranks() -> None:
    assert check_ranks(4, 16).found == "train.ranks up to 4, a GPU each"
    assert check_ranks(0, 2).found == "train.ranks up to 2 without waiting for each other's cores, no GPU"


def test_torchvision_beside_cpu_torch_is_an_error_elsewhere_not() -> None:
    installed = ["torchvision 0.28.0", "torchaudio 2.11.0"]
    check = check_cuda_only("2.13.0+cpu", installed)
    assert check.status == "missing"
    assert check.found.startswith("torchvision 0.28.0, torchaudio 2.11.0 beside torch 2.13.0+cpu: transformers or ")
    assert check.fix.endswith("-m pip uninstall -y torchvision torchaudio torchcodec")
    assert check_cuda_only("2.13.0", installed).status == check_cuda_only("2.13.0+cpu", []).status == "ok"


def test_policy_folder_complete_and_broken(tiny_policy: Path, tmp_path: Path) -> None:
    whole = check_policy_folder("tiny", tiny_policy)
    assert whole.status == "ok"
    assert "16 tokens per picture" in whole.found
    broken = check_policy_folder("tiny", tmp_path)
    assert broken.status == "missing"
    assert "lacks policy.json, ar/config.json" in broken.found
    assert broken.fix


def test_versions_out_of_range_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"trl": "1.15.0", "numpy": "2.3.5", "vllm": "0.31.0"}
    monkeypatch.setattr(checks, "version", installed.get)
    lines = ["trl==1.16.*", "numpy>=2", "absent>=1", "vllm==0.32.0 ; extra == 'gpu'"]
    requirements = [Requirement(line) for line in lines]
    assert checks.out_of_range(requirements, "cpu") == ["trl 1.15.0 is not ==1.16.*"]
    assert checks.out_of_range(requirements, "gpu") == ["trl 1.15.0 is not ==1.16.*", "vllm 0.31.0 is not ==0.32.0"]


CHECKS = [Check("engines", "torch", "ok", "2.13.0"), Check("rewards", "ocr", "missing", "not installed", "make setup")]


def test_plain_lines_and_table() -> None:
    plain, terminal = StringIO(), StringIO()
    show(CHECKS, Console(file=plain, force_terminal=False))
    assert plain.getvalue().splitlines() == [
        "ok       engines: torch: 2.13.0",
        "missing  rewards: ocr: not installed -> make setup",
        "1 of 2 checks failed",
    ]
    show(CHECKS, Console(file=terminal, force_terminal=True, width=100))
    assert "\x1b[" in terminal.getvalue()
    assert "to type if not" in terminal.getvalue()


def test_exit_code_follows_the_checks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "all_checks", lambda: CHECKS)
    assert doctor.main([]) == 1
    monkeypatch.setattr(doctor, "all_checks", lambda: CHECKS[:1])
    assert doctor.main([]) == 0
    assert "all that the examples need is there" in capsys.readouterr().out


def test_a_deep_part_runs_in_its_own_process() -> None:
    check = run_part("torch")
    assert (check.part, check.status) == ("deep", "ok")
    assert "multiplies on" in check.found
    hanging = run_part("torch", timeout_s=0.01)
    assert hanging.status == "missing"
    assert hanging.found == "no answer in 0.01 s"
    assert run_part("nonsense").found.endswith(f"rl.doctor.deep {'|'.join(all_parts())}")


def test_the_parts_are_engines_and_the_rewards_that_need_no_options() -> None:
    parts = set(all_parts())
    assert parts >= {"torch", "policy", "vllm", "deepspeed", "ray", "open_clip", "ocr", "geneval", "aesthetic"}
    assert not parts & {"remote", "trl", "vlm_judge"}


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in all_parts() if part != "policy"])
def test_every_deep_part_is_there(part: str) -> None:
    check = run_part(part)
    if check.status == "limited":  # a reward whose weights are not on this machine says so
        assert lacks_weights("rewards", part)
        assert "is not on this machine" in check.found
    else:
        assert check.status == "ok", check.found
