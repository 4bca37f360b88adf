from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rewards.library.quality import MEASURES, Quality, statistics
from rl.types import Prompt, Sample, UserError

PHOTOS = Path(os.environ.get("EASEL_TEST_WEIGHTS", "")) / "images"
BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0)


def even(colour: tuple[int, int, int], side: int = 32) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)


def halves(left: tuple[int, int, int], right: tuple[int, int, int], side: int = 32) -> np.ndarray:
    picture = even(left, side)
    picture[:, side // 2 :] = right
    return picture


def score(picture: np.ndarray, **options: str) -> object:
    return Quality(**options)([Sample("s", "g", Prompt("p", "x"), picture)])[0]  # type: ignore[arg-type]


def textured(side: int = 128) -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = rng.integers(40, 216, (side // 8, side // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    return blocks.astype(np.uint8)


def degraded(picture: np.ndarray) -> dict[str, np.ndarray]:
    noisy = picture + np.random.default_rng(1).normal(0, 25, picture.shape)
    return {
        "blurred": np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2))),
        "flat": (128 + (picture.astype(float) - 128) / 5).astype(np.uint8),
        "noisy": np.clip(noisy, 0, 255).astype(np.uint8),
    }


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_contrast_and_brightness_by_hand() -> None:
    found = statistics(halves(BLACK, WHITE))
    assert (found["contrast"], found["brightness"]) == pytest.approx((1.0, 0.5))
    found = statistics(halves((100, 100, 100), (200, 200, 200)))
    assert (found["contrast"], found["brightness"]) == pytest.approx((100 / 255, 150 / 255))
    assert statistics(even(GREEN))["brightness"] == pytest.approx(0.587)


def test_saturation_by_hand() -> None:
    assert [statistics(even(c))["saturation"] for c in (RED, (100, 50, 50), WHITE, BLACK)] == [1.0, 0.5, 0.0, 0.0]
    assert statistics(halves(RED, WHITE))["saturation"] == pytest.approx(0.5)


def test_colorfulness_by_hand() -> None:
    # red: rg 255, yb 127.5. Green: rg -255, yb 127.5. Spread 255 and 0, means 0 and 127.5.
    assert statistics(halves(RED, GREEN))["colorfulness"] == pytest.approx(255 + 0.3 * 127.5)
    assert statistics(halves(BLACK, WHITE))["colorfulness"] == 0.0
    # one colour: no spread, means rg 200 and yb 100
    assert statistics(even((200, 0, 0)))["colorfulness"] == pytest.approx(0.3 * np.hypot(200, 100))


def test_laplacian_and_noise_of_one_bright_pixel_by_hand() -> None:
    picture = even(BLACK, 5)
    picture[2, 2] = 36
    found = statistics(picture)
    assert found["laplacian"] == pytest.approx((4**2 + 4 * 1) * 36**2 / 25)  # -4 in the middle, four ones around
    assert found["noise"] == pytest.approx(np.sqrt(np.pi / 2) / 6 * 16 * 36 / 9)  # the mask's absolute sum is 16


def test_noise_is_the_deviation_that_was_added() -> None:
    rng = np.random.default_rng(0)
    for sigma in (5, 10, 20):
        grey = np.clip(128 + rng.normal(0, sigma, (200, 200, 1)), 0, 255).round().astype(np.uint8).repeat(3, axis=2)
        assert statistics(grey)["noise"] == pytest.approx(sigma, rel=0.03)


def test_combined_is_the_stated_mean() -> None:
    found = statistics(textured())
    product = found["sharpness"] * found["contrast"] / (1 + found["noise"] / 10)
    assert found["combined"] == pytest.approx(product ** (1 / 3))


# --- behaviour --------------------------------------------------------------------------------------------------------


def assert_degradations_cost(picture: np.ndarray) -> None:
    whole = statistics(picture)
    for name, worse in degraded(picture).items():
        assert statistics(worse)["combined"] < whole["combined"], name
    worse = {name: statistics(changed) for name, changed in degraded(picture).items()}
    assert worse["blurred"]["sharpness"] < whole["sharpness"] - 0.1
    assert worse["blurred"]["laplacian"] < whole["laplacian"] / 10
    assert worse["flat"]["contrast"] == pytest.approx(whole["contrast"] / 5, rel=0.1)
    assert worse["noisy"]["noise"] > whole["noise"] + 5


def test_blur_flatness_and_noise_cost() -> None:
    assert_degradations_cost(textured())


@pytest.mark.skipif("EASEL_TEST_WEIGHTS" not in os.environ, reason="set EASEL_TEST_WEIGHTS to the folder of photos")
@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "dog.jpg", "horses.jpg", "person.jpg"])
def test_blur_flatness_and_noise_cost_on_photos(name: str) -> None:
    photo = Image.open(PHOTOS / name).convert("RGB")
    photo.thumbnail((512, 512))
    assert_degradations_cost(np.asarray(photo))
    assert 0.3 < statistics(np.asarray(photo))["combined"] < 0.8


@pytest.mark.skipif("EASEL_TEST_WEIGHTS" not in os.environ, reason="set EASEL_TEST_WEIGHTS to the folder of photos")
def test_the_known_weakness_dense_foliage_reads_as_noise() -> None:
    photo = Image.open(PHOTOS / "giraffe.jpg").convert("RGB")
    photo.thumbnail((512, 512))
    whole, blurred = statistics(np.asarray(photo)), statistics(degraded(np.asarray(photo))["blurred"])
    assert whole["noise"] > 10 and blurred["combined"] > whole["combined"]
    assert blurred["sharpness"] < whole["sharpness"] - 0.1  # which the single measure sees


@pytest.mark.parametrize("colour", [BLACK, WHITE, RED, (1, 2, 3)])
def test_even_pictures_are_finite_and_worst(colour: tuple[int, int, int]) -> None:
    for side in (4, 32):
        found = statistics(even(colour, side))
        assert np.isfinite(list(found.values())).all()
        assert (found["combined"], found["sharpness"], found["laplacian"]) == pytest.approx((0, 0, 0), abs=1e-5)


def test_ranges_on_random_pictures() -> None:
    rng = np.random.default_rng(0)
    for side in (4, 5, 16, 33):
        found = statistics(rng.integers(0, 256, (side, side + 1, 3), dtype=np.uint8))
        for name in ("combined", "sharpness", "contrast", "saturation", "brightness"):
            assert 0 <= found[name] <= 1, (side, name)


@pytest.mark.parametrize("measure", [m for m in MEASURES if m != "brisque"])
def test_the_measure_is_the_value_and_all_are_in_the_details(measure: str) -> None:
    answer = score(textured(), measure=measure)
    assert answer.value == answer.details[measure]  # type: ignore[attr-defined]
    assert set(answer.details) == set(MEASURES) - {"brisque"}  # type: ignore[attr-defined]
    assert answer.passed is None  # type: ignore[attr-defined]


def test_a_tiny_picture_fails_with_the_reason() -> None:
    answer = score(np.zeros((3, 8, 3), np.uint8))
    assert answer.failure == "the picture is 8 x 3 pixels; quality needs 4 a side"  # type: ignore[attr-defined]
    assert answer.value is None  # type: ignore[attr-defined]


def test_an_unknown_measure() -> None:
    with pytest.raises(UserError) as caught:
        Quality("niqe")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "quality.options.measure is 'niqe': it must be one of combined, sharpness, laplacian, noise, contrast, "
        "saturation, colorfulness, brightness, brisque"
    )


def test_it_imports_neither_torch_nor_opencv() -> None:
    code = "import sys, rewards.library.quality; sys.exit(bool({'torch', 'cv2'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- BRISQUE ----------------------------------------------------------------------------------------------------------


def brisque_files(folder: Path) -> dict[str, str]:
    """A support vector regression on random features and their ranges, in the files' own format."""
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with PaddleOCR")
    rng = np.random.default_rng(0)
    svm = cv2.ml.SVM_create()
    svm.setType(cv2.ml.SVM_EPS_SVR)
    svm.setKernel(cv2.ml.SVM_RBF)
    svm.setGamma(0.05)
    svm.setC(100)
    svm.setP(0.1)
    features = rng.uniform(-1, 1, (40, 36)).astype(np.float32)
    svm.train(features, cv2.ml.ROW_SAMPLE, rng.uniform(20, 80, (40, 1)).astype(np.float32))
    svm.save(str(folder / "model.yml"))
    ranges = cv2.FileStorage(str(folder / "range.yml"), cv2.FILE_STORAGE_WRITE)
    ranges.write("range", np.stack([np.full(36, -2), np.full(36, 3)]).astype(np.float32))
    ranges.release()
    return {"brisque_model": str(folder / "model.yml"), "brisque_range": str(folder / "range.yml")}


def test_brisque_is_the_regression_on_scaled_features(tmp_path: Path) -> None:
    files = brisque_files(tmp_path)
    import cv2

    picture = textured()
    answer = score(picture, measure="brisque", **files)
    features = cv2.quality.QualityBRISQUE_computeFeatures(picture[:, :, ::-1].copy())
    scaled = -1 + 2 * (features + 2) / 5  # from [-2, 3] to [-1, 1]
    predicted = cv2.ml.SVM_load(files["brisque_model"]).predict(scaled.astype(np.float32))[1][0, 0]
    assert 0 < predicted < 100
    assert answer.value == pytest.approx(1 - predicted / 100, abs=1e-5)  # type: ignore[attr-defined]
    assert set(answer.details) == set(MEASURES)  # type: ignore[attr-defined]


def test_brisque_of_an_even_picture_is_no_perfect_score(tmp_path: Path) -> None:
    answer = score(even(RED, 64), measure="brisque", **brisque_files(tmp_path))
    assert answer.value is None  # type: ignore[attr-defined]
    assert answer.failure == "BRISQUE is not defined on an even or tiny picture"  # type: ignore[attr-defined]


def test_brisque_says_what_to_download(tmp_path: Path) -> None:
    files = brisque_files(tmp_path)
    with pytest.raises(UserError) as caught:
        Quality("brisque")
    assert str(caught.value) == (
        "quality.options.brisque_model is None: for `measure: brisque` download brisque_model_live.yml from "
        "modules/quality/samples of github.com/opencv/opencv_contrib and set this option to its path"
    )
    with pytest.raises(UserError, match="quality.options.brisque_range is 'no/such.yml': for `measure: brisque` down"):
        Quality("brisque", files["brisque_model"], "no/such.yml")
    (tmp_path / "bad.yml").write_text("not OpenCV's: [")
    with pytest.raises(UserError, match=r"quality.options.brisque_model, brisque_range: OpenCV can't read .*bad.yml"):
        Quality("brisque", str(tmp_path / "bad.yml"), files["brisque_range"])


def test_brisque_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UserError, match="quality: OpenCV can't be imported .*; `pip install opencv-contrib-python`"):
        Quality("brisque")
    monkeypatch.setitem(sys.modules, "cv2", type(sys)("cv2"))
    with pytest.raises(UserError) as caught:
        Quality("brisque")
    assert str(caught.value) == (
        "quality: this OpenCV has no `quality` module; `pip install opencv-contrib-python` instead"
    )
