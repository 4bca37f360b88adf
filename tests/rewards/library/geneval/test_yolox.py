"""YOLOX: the decoding against hand-made outputs; on real weights and photos where EASEL_TEST_WEIGHTS names them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.library.geneval.classes import GENEVAL_CLASSES
from rewards.library.geneval.detectors.load import load_detector
from rewards.library.geneval.detectors.yolox import Yolox, letterbox
from rewards.library.geneval.reward import GenEval
from rl.types import Prompt, Sample, UserError

WEIGHTS = Path(os.environ.get("EASEL_TEST_WEIGHTS", ""))
needs_weights = pytest.mark.skipif(
    "EASEL_TEST_WEIGHTS" not in os.environ, reason="EASEL_TEST_WEIGHTS names no folder with yolox_nano and images"
)


class Node:
    def __init__(self, name: str, shape: list[Any]) -> None:
        self.name, self.shape = name, shape


class Session:
    """An onnxruntime session over 64 x 64 inputs (64 + 16 + 4 cells) that answers what it is told."""

    def __init__(self, cells: int = 84) -> None:
        self.output = np.zeros((1, cells, 85), np.float32)
        self.seen: np.ndarray | None = None

    def get_inputs(self) -> list[Node]:
        return [Node("images", [1, 3, 64, 64])]

    def get_outputs(self) -> list[Node]:
        return [Node("output", list(self.output.shape))]

    def run(self, _names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.seen = feed["images"]
        return [self.output]


def detector(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Yolox:
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda *_args, **_kwargs: session)
    (tmp_path / "model.onnx").write_bytes(b"not read")
    return Yolox(str(tmp_path / "model.onnx"), **options)


def test_cells_are_decoded_by_stride_and_scaled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    # Stride 8, row 2, column 3: centre (3.5, 2.5) * 8 = (28, 20), size e^0 * 8 and e^ln2 * 8.
    session.output[0, 2 * 8 + 3, :5] = (0.5, 0.5, 0.0, np.log(2), 0.9)
    session.output[0, 2 * 8 + 3, 5 + 16] = 0.5  # a dog, .9 * .5
    # Stride 32, row 1, column 0: centre (16, 48), size 32.
    session.output[0, 64 + 16 + 2, :5] = (0.5, 0.5, 0.0, 0.0, 1.0)
    session.output[0, 64 + 16 + 2, 5 + 2] = 0.8  # a car
    found = detector(session, tmp_path, monkeypatch).detect([np.zeros((128, 96, 3), np.uint8)])[0]
    assert [(d.label, pytest.approx(d.score)) for d in found] == [("car", 0.8), ("dog", 0.45)]
    assert found[0].box == pytest.approx((0, 64, 64, 128))  # scale .5: everything doubles
    assert found[1].box == pytest.approx((48, 24, 64, 56))
    assert found[0].mask_HW is None and found[0].color is None


def test_overlapping_boxes_are_suppressed_within_a_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    for cell, offset, label, score in ((0, 0.5, 16, 0.9), (1, -0.3, 16, 0.7), (2, -1.5, 2, 0.6), (40, 0.5, 16, 0.04)):
        session.output[0, cell, :5] = (offset, 0.5, np.log(2), np.log(2), 1.0)
        session.output[0, cell, 5 + label] = score
    pictures = [np.zeros((64, 64, 3), np.uint8)]
    # Of width 12 in the picture, shifted by .2 * 8 = 1.6: IoU (12 - 1.6) / (12 + 1.6); the car is in the dog's place.
    assert [d.score for d in detector(session, tmp_path, monkeypatch).detect(pictures)[0]] == [
        pytest.approx(0.9), pytest.approx(0.6),
    ]  # fmt: skip
    everything = detector(session, tmp_path, monkeypatch, max_overlap=1.0, min_score=0.0).detect(pictures)[0]
    assert [round(d.score, 2) for d in everything] == [0.9, 0.7, 0.6, 0.04]


def test_the_letterbox_is_bgr_on_grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.full((20, 40, 3), (10, 20, 30), np.uint8)
    pixels, scale = letterbox(picture, 64)
    assert scale == 1.6
    assert pixels.shape == (1, 3, 64, 64) and pixels.dtype == np.float32
    assert pixels[0, :, 31, 63].tolist() == [30, 20, 10]
    assert set(pixels[0, :, 32:].flatten().tolist()) == {114}
    session = Session()
    detector(session, tmp_path, monkeypatch).detect([picture])
    assert session.seen is not None and np.array_equal(session.seen, pixels)


def test_wrong_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        load_detector("yolox", {"file": "/no/such.onnx"})
    assert str(caught.value) == (
        "geneval.options.detector: option `file`: there is no file '/no/such.onnx'; download an ONNX file of the "
        "YOLOX releases, such as yolox_s.onnx, and name it there"
    )
    (tmp_path / "bad.onnx").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"option `file`: .*bad.onnx is not an ONNX model: "):
        load_detector("yolox", {"file": str(tmp_path / "bad.onnx")})
    with pytest.raises(UserError) as caught:
        detector(Session(cells=80), tmp_path, monkeypatch)
    assert "maps [[1, 3, 64, 64]] to [[1, 80, 85]]; a YOLOX export over 80 classes maps" in str(caught.value)
    with pytest.raises(UserError, match="'yolox' needs the option `file`; add `file: ...`"):
        load_detector("yolox")


def photo(name: str) -> np.ndarray:
    return np.asarray(Image.open(WEIGHTS / "images" / name).convert("RGB"))


@needs_weights
def test_real_photos() -> None:
    real = load_detector("yolox", {"file": str(WEIGHTS / "yolox_nano" / "yolox_nano.onnx")})
    assert isinstance(real, Yolox)
    dog, person, horses, giraffe, cat = real.detect(
        [photo(f"{n}.jpg") for n in ("dog", "person", "horses", "giraffe")] + [photo("chelsea.png")]
    )
    best = {d.label: round(d.score, 2) for d in reversed(dog)}
    assert (best["dog"], best["bicycle"], best["car"]) == (0.86, 0.8, 0.8)
    boxes = {d.label: d.box for d in reversed(dog)}
    assert boxes["dog"] == pytest.approx((128, 225, 312, 540), abs=25)  # the dog of the famous picture
    assert boxes["car"][0] > 400 and boxes["car"][3] < 200  # behind, top right
    assert {"person", "dog", "horse"} <= {d.label for d in person if d.score > 0.5}
    assert sum(d.label == "horse" and d.score > 0.3 for d in horses) >= 3
    assert giraffe[0].label == "giraffe" and cat[0].label == "cat"
    assert all(d.label in GENEVAL_CLASSES for row in (dog, person, horses, giraffe, cat) for d in row)


@needs_weights
def test_real_photos_through_the_reward() -> None:
    options = {"file": str(WEIGHTS / "yolox_nano" / "yolox_nano.onnx")}
    reward = GenEval("yolox", detector_options=options, colors="pixels", counting_threshold=0.5)
    include = [{"class": "dog", "count": 1}, {"class": "car", "count": 1, "position": ["right of", 0]}]
    asked = [
        {"tag": "single_object", "include": [{"class": "bicycle", "count": 1}]},
        {"tag": "position", "include": include},
        {"tag": "position", "include": [include[0], {**include[1], "position": ["left of", 0]}]},
        {"tag": "colors", "include": [{"class": "bicycle", "count": 1, "color": "purple"}]},
        {"tag": "counting", "include": [{"class": "dog", "count": 1}], "exclude": [{"class": "dog", "count": 2}]},
        {"tag": "single_object", "include": [{"class": "sofa", "count": 1}]},
    ]
    scores = reward([Sample(str(i), "g", Prompt(str(i), "", m), photo("dog.jpg")) for i, m in enumerate(asked)])
    assert [score.value for score in scores] == [1.0, 1.0, 0.0, 0.0, 1.0, None]
    assert (
        scores[5].failure == "prompt '5': the detector knows no class 'sofa', did you mean 'couch'? (it has 80 classes)"
    )
