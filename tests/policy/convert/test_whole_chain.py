"""From a checkpoint of the original form to a trained one of that form, by the commands that a user types."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from policy.convert.keys import part_of
from policy.convert.tokenizer_files import TOKENIZER_FILES
from tests.rl.run_case import ROOT, environment

RECIPE = "examples/blip3o_next/geneval.yaml"
SMALLER = (
    *("rewards.geneval=null", "rewards.ink.use=tests.rl.run_case:ink", "data.eval=null", "data.prompts_per_step=2"),
    *(
        "rollout.group_size=4",
        "render.steps=2",
        "train.steps=2",
        "train.lr=1e-3",
        "train.micro_batch=4",
        "train.ranks=1",
    ),
    *("checkpoint.every=0", "guards.render_fidelity_share=0.5"),
)
KEPT = ("config.json", "generation_config.json", "model.safetensors.index.json", *TOKENIZER_FILES)
ASK = "an {odd} prompt"


def run(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def blocks(page: str) -> list[str]:
    return [one.partition("```")[0] for one in page.split("```bash\n")[1:]]


def paint(policy: Path, out: Path) -> np.ndarray:
    run("policy.paint", ASK, "--policy", policy, "-n", "2", "--steps", "3", "--guidance", "2", "-o", out)
    return np.asarray(Image.open(out))


def check_goes_back(twin: Path, back: Path) -> None:
    before, after = weights(twin), weights(back)
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert all(part_of(key) == "ar" for key in changed)
    matrices = {key for key, tensor in before.items() if part_of(key) == "ar" and tensor.ndim == 2}
    assert matrices <= changed, sorted(matrices - changed)
    assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])
    assert all(tensor.dtype == before[key].dtype and tensor.isfinite().all() for key, tensor in after.items())
    names = {path.name for path in twin.glob("*.safetensors")} | {name for name in KEPT if (twin / name).is_file()}
    assert {path.name for path in back.iterdir() if path.is_file()} == names
    for name in names - {path.name for path in twin.glob("*.safetensors")}:
        assert (back / name).read_bytes() == (twin / name).read_bytes(), name


def train(policy: Path, folder: Path, *more: str) -> Sequence[str]:
    return run("rl.launch", RECIPE, f"policy.path={policy}", f"run.folder={folder}", *SMALLER, *more).splitlines()


def test_trained_in_plain_torch_and_back(made_twin: Path, made_policy: Path, tmp_path: Path) -> None:
    train(made_policy, tmp_path / "run", "rollout.engine=torch")
    run("policy.convert", "--back", tmp_path / "run/policy", "--like", made_twin, tmp_path / "back")
    check_goes_back(made_twin, tmp_path / "back")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["examples/blip3o_next/README.md", "README.md"])
def test_the_commands_of_a_page_run_as_they_are_written(page: str, tmp_path: Path) -> None:
    (commands,) = (one for one in blocks((ROOT / page).read_text()) if "policy.convert --back" in one)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=tmp_path,
        env={**environment(), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_goes_back(tmp_path / "twin", tmp_path / "trained-twin")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_command_with_vllm(made_twin: Path, tmp_path: Path) -> None:
    policy, folder = tmp_path / "policy", tmp_path / "run"
    assert f"train it by policy.path={policy}" in run("policy.convert", "blip3o-next", made_twin, policy)
    before = paint(policy, tmp_path / "before.png")
    assert before.shape == (64, 128, 3) and before.std() > 1
    train(policy, folder, "rollout.engine=vllm")
    after = paint(folder / "policy", tmp_path / "after.png")
    assert (before != after).any()
    told = run("policy.convert", "--back", folder / "policy", "--like", made_twin, tmp_path / "back")
    assert "ar 25 of 25, connector 0 of 5, transformer 0 of 39" in told
    check_goes_back(made_twin, tmp_path / "back")
    run("policy.convert", "blip3o-next", tmp_path / "back", tmp_path / "again", "--parts", made_twin)
    assert np.array_equal(paint(tmp_path / "again", tmp_path / "again.png"), after)
