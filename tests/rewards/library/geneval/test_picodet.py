"""PicoDet: what surrounds the model by hand; on real weights and photos where EASEL_TEST_WEIGHTS has them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.library.geneval.detectors.load import load_detector
from rewards.library.geneval.detectors.picodet import PicoDet
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.types import UserError

WEIGHTS = Path(os.environ.get("EASEL_TEST_WEIGHTS", ""))
REAL = WEIGHTS / "picodet"
needs_weights = pytest.mark.skipif(
    "EASEL_TEST_WEIGHTS" not in os.environ or not REAL.is_dir(), reason="EASEL_TEST_WEIGHTS has no picodet folder"
)
CONFIG = """
Preprocess:
- {type: Resize, target_size: [32, 32], keep_ratio: false, interp: 2}
- {type: NormalizeImage, is_scale: true, mean: [0.5, 0.5, 0.5], std: [0.25, 0.5, 1.0]}
- {type: Permute}
label_list: [cat, remote]
"""


class Handle:
    def __init__(self, value: np.ndarray | None = None) -> None:
        self.value = value

    def copy_from_cpu(self, value: np.ndarray) -> None:
        self.value = value

    def copy_to_cpu(self) -> np.ndarray | None:
        return self.value


class Predictor:
    """A predictor that answers what it is told."""

    def __init__(self, rows: np.ndarray) -> None:
        self.inputs, self.output = {"image": Handle(), "scale_factor": Handle()}, Handle(rows)

    def get_input_names(self) -> list[str]:
        return list(self.inputs)

    def get_input_handle(self, name: str) -> Handle:
        return self.inputs[name]

    def run(self) -> None:
        assert all(handle.value is not None for handle in self.inputs.values())

    def get_output_names(self) -> list[str]:
        return ["boxes", "count"]

    def get_output_handle(self, name: str) -> Handle:
        assert name == "boxes"
        return self.output


def folder(at: Path, config: str = CONFIG) -> Path:
    for name in ("model.pdmodel", "model.pdiparams"):
        (at / name).write_bytes(b"not read")
    (at / "infer_cfg.yml").write_text(config)
    return at


def detector(at: Path, rows: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[PicoDet, Predictor]:
    predictor = Predictor(np.array(rows, np.float32))
    monkeypatch.setattr("rewards.library.geneval.detectors.picodet._predictor", lambda *_: predictor)
    return PicoDet(str(folder(at))), predictor


def test_rows_become_objects_best_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[0, 0.6, 1, 2, 11, 12], [1, 0.9, -5, 0, 70, 20], [0, 0.04, 0, 0, 9, 9]]
    picodet, predictor = detector(tmp_path, rows, monkeypatch)
    found = picodet.detect([np.full((16, 64, 3), 255, np.uint8)])[0]
    assert [(d.label, round(d.score, 4), d.box) for d in found] == [
        ("tv remote", 0.9, (0, 0, 64, 16)),  # GenEval's name, inside the picture
        ("cat", 0.6, (1, 2, 11, 12)),
    ]
    assert predictor.inputs["scale_factor"].value.tolist() == [[2.0, 0.5]]  # type: ignore[union-attr]
    pixels = predictor.inputs["image"].value
    assert pixels is not None and pixels.shape == (1, 3, 32, 32) and pixels.dtype == np.float32
    assert pixels[0, :, 0, 0].tolist() == [2.0, 1.0, 0.5]  # (1 - .5) / std
    assert picodet.classes == {"cat", "tv remote"}


def test_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picodet, _ = detector(tmp_path, [[-1.0]], monkeypatch)
    assert picodet.detect([np.zeros((8, 8, 3), np.uint8)]) == [[]]
    assert picodet.detect([]) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[1, 2]", "infer_cfg.yml is not PaddleDetection's (TypeError: "),
        ("label_list: [cat]", "infer_cfg.yml is not PaddleDetection's (KeyError: 'Preprocess')"),
        (
            CONFIG.replace("[32, 32]", "[32, 64]"),
            "infer_cfg.yml wants 64 x 32 or letterboxed pictures; only squares are",
        ),
    ],
)
def test_a_wrong_folder_is_named(config: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_detector("picodet", {"folder": str(tmp_path)})
    assert "option `folder`: " in str(caught.value) and "has no model.pdmodel; name a PaddleDetection" in str(
        caught.value
    )
    with pytest.raises(UserError) as caught:
        load_detector("picodet", {"folder": str(folder(tmp_path, config))})
    assert message in str(caught.value)


def test_files_that_are_no_model_end_the_worker_and_not_the_run(tmp_path: Path) -> None:
    """Paddle falls over on such files (SIGSEGV), which is why a detector lives in a process of its own."""
    options = {"detector": "picodet", "detector_options": {"folder": str(folder(tmp_path))}}
    with pytest.raises(UserError, match="rewards.g: the worker process of 'geneval' worker died"):
        RewardPool({"g": RewardComponent(use="geneval", options=options)})


@needs_weights
def test_real_photographs() -> None:
    options = {"detector": "picodet", "detector_options": {"folder": str(REAL)}}
    reward = load_reward("geneval", "geneval", options)  # the golden probe has passed: a cat, and no cat
    found = reward.detector.detect([np.asarray(Image.open(WEIGHTS / "images" / "dog.jpg").convert("RGB"))])[0]  # type: ignore[attr-defined]
    best = {detection.label: detection.score for detection in reversed(found)}
    assert {"dog", "bicycle"} <= {label for label, score in best.items() if score > 0.5}, best
    print({label: round(score, 2) for label, score in best.items() if score > 0.3})
