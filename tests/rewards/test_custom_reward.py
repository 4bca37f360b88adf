"""The examples of a reward of one's own work as their page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

import rewards
from examples.custom_reward.palette import palette
from rewards.check.rules import findings
from rewards.check.samples import trial_samples
from rewards.load import load_reward
from rl.data.shapes.sprites import BACKGROUND, COLORS
from rl.types import Prompt, Sample, Score, UserError

ROOT = Path(rewards.__file__).parent.parent
CLASSIFIER = "examples.custom_reward.classifier:Classifier"


def test_the_function_is_the_readmes() -> None:
    source = (ROOT / "examples" / "custom_reward" / "bright.py").read_text()
    function = source[source.index("def bright") :]
    for page in ("README.md", "rewards/README.md"):
        assert function in (ROOT / page).read_text()


def test_the_function_keeps_every_rule() -> None:
    found = findings("examples.custom_reward.bright:bright", {"target": 0.9}, processes=False)
    assert {one.level for one in found} == {"ok"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16,
                       patch_size=8, id2label={0: "portrait", 1: "landscape"}, initializer_range=1.0)  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def test_the_model_holder_keeps_every_rule(checkpoint: Path) -> None:
    options = {"checkpoint": str(checkpoint), "label": "landscape"}
    found = list(findings(CLASSIFIER, options, processes=False))
    assert [one for one in found if one.level == "error"] == []
    score = load_reward("r", CLASSIFIER, options)(trial_samples()[:1])[0]  # type: ignore[index]
    assert isinstance(score, Score)
    assert 0 < score.value < 1  # type: ignore[operator]
    assert score.passed == (score.details["label"] == "landscape") == (score.value > 0.5)  # type: ignore[operator]


def test_the_model_holder_names_what_is_wrong(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="options.label is 'sea'; the classifier knows portrait, landscape"):
        load_reward("r", CLASSIFIER, {"checkpoint": str(checkpoint), "label": "sea"})
    with pytest.raises(UserError, match="options.checkpoint: .* cannot be loaded"):
        load_reward("r", CLASSIFIER, {"checkpoint": str(tmp_path), "label": "sea"})


def test_the_package_is_known_by_its_name_once_installed(tmp_path: Path) -> None:
    source = tmp_path / "packaged"  # a copy, since building writes beside the source
    subprocess.run(["cp", "-r", str(ROOT / "examples" / "custom_reward" / "packaged"), str(source)], check=True)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(tmp_path / "site"), str(source)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'site'}"}
    command = [sys.executable, "-m", "rewards.check", "tint", "--option", "channel=green"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("tint: fit for a run\n")
    done = subprocess.run(
        [*command[:-1], "channel=mauve"], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "channel is 'mauve'; it must be one of red, green, blue" in done.stderr


def test_palette_falls_with_what_lies_off_the_colours_of_the_world() -> None:
    clean = np.full((8, 8, 3), BACKGROUND, np.uint8)
    clean[:4] = COLORS["red"]
    half, far = clean.copy(), clean.copy()
    half[0] = np.array(COLORS["red"]) - (20, 0, 0)
    far[0] = (0, 255, 255)
    prompt = Prompt("p", "a square")
    values = palette([Sample(str(n), "p", prompt, one) for n, one in enumerate((clean, half, far))])
    assert values == pytest.approx([1.0, 1 - 0.5 / 8, 1 - 1 / 8], abs=1e-6)
