"""Detectors end to end on tiny random checkpoints: pictures in, detections out; their numbers against formulas."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.batches import batches_by_key
from rewards.library.geneval.boxes import clipped, overlap, suppress
from rewards.library.geneval.classes import GENEVAL_CLASSES, geneval_name
from rewards.library.geneval.contract import Detection
from rewards.library.geneval.detectors.load import load_detector
from rewards.library.geneval.reward import GenEval
from rl.types import Prompt, Sample, UserError
from tests.rewards.library.geneval import geneval_checkpoints as checkpoints

RNG = np.random.default_rng(0)
PICTURES = [RNG.integers(0, 256, shape, np.uint8) for shape in ((50, 70, 3), (40, 40, 3), (50, 70, 3))]
BUILDERS: dict[str, Callable[[Path], Path]] = {
    "mask2former": checkpoints.mask2former,
    "grounding_dino": checkpoints.grounding_dino,
    "owlv2": checkpoints.owlv2,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return {name: build(root / name) for name, build in BUILDERS.items()}


def built(name: str, folders: dict[str, Path], **options: Any) -> Any:
    return load_detector(name, {"checkpoint": str(folders[name]), "min_score": 0.01, **options})


def inside(detection: Detection, picture: np.ndarray) -> bool:
    x0, y0, x1, y1 = detection.box
    return 0 <= x0 < x1 <= picture.shape[1] and 0 <= y0 < y1 <= picture.shape[0] and 0.01 < detection.score <= 1


def same(a: list[Detection], b: list[Detection]) -> bool:
    return [d.label for d in a] == [d.label for d in b] and all(
        x.score == pytest.approx(y.score, rel=1e-4) and x.box == pytest.approx(y.box, abs=0.01)
        for x, y in zip(a, b, strict=True)
    )


def test_mask2former_finds_objects_with_masks_of_the_pictures_size(folders: dict[str, Path]) -> None:
    detector = built("mask2former", folders, size=64, batch_size=2)
    found = detector.detect(PICTURES)
    assert [len(row) > 3 for row in found] == [True] * 3
    for picture, row in zip(PICTURES, found, strict=True):
        assert [d.score for d in row] == sorted((d.score for d in row), reverse=True)
        for detection in row:
            assert inside(detection, picture) and detection.label in GENEVAL_CLASSES
            assert detection.mask_HW is not None
            assert detection.mask_HW.shape == picture.shape[:2] and detection.mask_HW.dtype == bool
            rows, columns = np.nonzero(detection.mask_HW)
            assert detection.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert all(same(row, detector.detect([picture])[0]) for picture, row in zip(PICTURES, found, strict=True))
    assert detector.classes == set(GENEVAL_CLASSES)  # sofa, tvmonitor and mouse are known by GenEval's names


def test_mask2former_scores_are_class_probability_times_mean_mask_probability(folders: dict[str, Path]) -> None:
    """The same by plain loops over the library's raw output, at the size the model saw."""
    import torch
    from transformers import AutoImageProcessor, Mask2FormerForUniversalSegmentation

    picture = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    found = built("mask2former", folders, size=64).detect([picture])[0]
    model = Mask2FormerForUniversalSegmentation.from_pretrained(folders["mask2former"]).eval()
    inputs = AutoImageProcessor.from_pretrained(folders["mask2former"])(images=picture, return_tensors="pt")
    with torch.no_grad():
        outputs = model(pixel_values=inputs["pixel_values"])
    logits = torch.nn.functional.interpolate(outputs.masks_queries_logits, size=(64, 64), mode="bilinear")[0].numpy()
    expected = []
    for query, row in enumerate(outputs.class_queries_logits[0].softmax(-1).numpy()):
        mask = logits[query] > 0
        quality = (1 / (1 + np.exp(-logits[query][mask]))).mean() if mask.any() else 0.0
        expected += [(row[c] * quality, GENEVAL_CLASSES[c]) for c in range(80) if row[c] > 0.01]
    expected = sorted((pair for pair in expected if pair[0] > 0.01), reverse=True)[:100]
    assert len(found) == len(expected) > 3
    assert [d.score for d in found] == pytest.approx([score for score, _ in expected], rel=1e-4)
    assert [d.label for d in found[:3]] == [label for _, label in expected[:3]]


def test_mask2former_size_is_the_shorter_side_or_the_checkpoints_own(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for size in (96, None):
        detector = built("mask2former", folders, size=size)
        forward = detector._model.forward
        monkeypatch.setattr(
            detector._model,
            "forward",
            lambda pixel_values, f=forward: (seen.append(pixel_values.shape), f(pixel_values))[1],
        )
        detector.detect(PICTURES[1:2])
    assert [tuple(shape[-2:]) for shape in seen] == [(96, 96), (64, 64)]


@pytest.mark.parametrize("name", ["grounding_dino", "owlv2"])
def test_open_vocabulary_detectors_find_only_what_they_are_asked_for(name: str, folders: dict[str, Path]) -> None:
    detector = built(name, folders, batch_size=2)
    labels = [["hot dog", "car"], ["cell phone"], ["hot dog", "car"]]
    found = detector.detect_labels(PICTURES, labels)
    for picture, asked, row in zip(PICTURES, labels, found, strict=True):
        assert row and {d.label for d in row} <= set(asked)
        assert all(inside(d, picture) and d.mask_HW is None for d in row)
        assert [d.score for d in row] == sorted((d.score for d in row), reverse=True)
    alone = [detector.detect_labels([p], [asked])[0] for p, asked in zip(PICTURES, labels, strict=True)]
    assert all(same(row, one) for row, one in zip(found, alone, strict=True))  # company changes nothing
    fewer = built(name, folders, max_overlap=0.0).detect_labels(PICTURES[:1], labels[:1])[0]
    assert all(
        overlap(a.box, b.box) == 0 for i, a in enumerate(fewer) for b in fewer[:i] if a.label == b.label
    ) and len(fewer) < len(built(name, folders, max_overlap=1.0).detect_labels(PICTURES[:1], labels[:1])[0])


def test_grounding_dino_scores_a_class_by_the_mean_of_its_tokens(folders: dict[str, Path]) -> None:
    import torch

    detector = built("grounding_dino", folders)
    tokens = torch.tensor([[[0.9, 0.2, 0.4, 0.9, 0.5, 0.9, 0.9]]])  # [CLS] hot dog . car . [SEP]
    assert detector._class_scores(tokens, ["hot dog", "car"])[0, 0].tolist() == pytest.approx([0.3, 0.5])


def test_owlv2_boxes_are_relative_to_the_padded_square(folders: dict[str, Path]) -> None:
    """The library's own post-processing, on the same picture, must give the same boxes before clipping."""
    import torch

    detector = built("owlv2", folders, max_overlap=1.0)
    found = detector.detect_labels(PICTURES[:1], [["car"]])[0]
    inputs = detector._processor(images=[PICTURES[0]], text=[["a photo of a car"]], return_tensors="pt")
    with torch.no_grad():
        outputs = detector._model(**inputs)
    (theirs,) = detector._processor.post_process_grounded_object_detection(
        outputs, threshold=0.01, target_sizes=[(50, 70)]
    )
    boxes = [clipped(box, 50, 70) for box in theirs["boxes"].tolist()]
    expected = sorted(
        (score, box) for score, box in zip(theirs["scores"].tolist(), boxes, strict=True) if box is not None
    )
    assert [(d.score, *d.box) for d in reversed(found)] == [pytest.approx((s, *b), rel=1e-4) for s, b in expected]


def test_an_open_vocabulary_detector_in_the_reward(folders: dict[str, Path]) -> None:
    options = {"checkpoint": str(folders["grounding_dino"]), "min_score": 0.01}
    reward = GenEval(detector="grounding_dino", detector_options=options, colors="pixels", threshold=0.02)
    metadata = {"tag": "colors", "include": [{"class": "hot dog", "count": 1, "color": "red"}]}
    red = np.full((50, 70, 3), (220, 20, 20), np.uint8)
    (score,) = reward([Sample("s", "g", Prompt("p", "a photo of a red hot dog", metadata), red)])
    assert (score.value, score.failure) == (1.0, None)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_checkpoints_that_are_not_there_or_not_right(
    name: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def message(checkpoint: str | Path, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            load_detector(name, {"checkpoint": str(checkpoint), **options})
        return str(caught.value)

    at = "geneval.options.detector: detector_options"
    assert message("nobody/no-such-model") == (
        f"{at}.checkpoint: 'nobody/no-such-model' is not on this machine and can't be "
        "downloaded now (HF_HUB_OFFLINE is set); with a network "
        f"type `hf download nobody/no-such-model`, or set detector_options.checkpoint to the path of the folder"
    )
    assert message("/no/such/folder") == (
        f"{at}.checkpoint: there is no folder '/no/such/folder', nor is it a name on the Hugging Face hub"
    )
    assert message(tmp_path).startswith(f"{at}.checkpoint: {tmp_path} can't be loaded as ")
    other = folders["owlv2" if name != "owlv2" else "grounding_dino"]
    assert f"{at}.checkpoint: {other} can't be loaded as " in message(other)
    assert "(it holds a model of type " in message(other)
    assert message(folders[name], device="warp") == (
        f"{at}.device is 'warp': it must be 'auto', 'cpu', 'cuda' or 'cuda:0'"
    )
    broken = tmp_path / "broken"
    shutil.copytree(folders[name], broken)
    for file in (*broken.glob("*processor*"), *broken.glob("tokenizer*")):
        file.unlink()
    assert f"{at}.checkpoint: {broken} holds no processor that Auto" in message(broken)
    (broken / "config.json").write_text("{")
    said = f"{at}.checkpoint: {broken} can't be loaded as "
    assert message(broken).startswith(said)
    (broken / "config.json").write_text((folders[name] / "config.json").read_text())
    (broken / "model.safetensors").unlink()
    assert message(broken).startswith(said)


def test_a_checkpoint_with_a_weight_missing_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    lame = tmp_path / "lame"
    shutil.copytree(folders["mask2former"], lame)
    weights = load_file(lame / "model.safetensors")
    del weights["class_predictor.bias"]
    save_file(weights, lame / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError) as caught:
        load_detector("mask2former", {"checkpoint": str(lame)})
    assert str(caught.value) == (
        f"geneval.options.detector: detector_options.checkpoint: {lame} lacks the weights class_predictor.bias (and 0 "
        f"more): it is another model's"
    )


def test_a_hub_name_in_the_local_cache_needs_no_network(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--some--detector"
    shutil.copytree(folders["owlv2"], cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    detector = load_detector("owlv2", {"checkpoint": "some/detector"})
    assert detector.detect_labels(PICTURES[:1], [["car"]])[0]  # type: ignore[union-attr]
    (cached / "snapshots" / "abc" / "model.safetensors").unlink()  # a broken download is not taken for a model
    with pytest.raises(UserError, match="checkpoint: 'some/detector' is not on this machine and can't be downloaded"):
        load_detector("owlv2", {"checkpoint": "some/detector"})


def test_owlv2_needs_a_place_for_the_class() -> None:
    with pytest.raises(UserError, match="option `template` is 'a photo': it must contain {}, where the class goes"):
        load_detector("owlv2", {"template": "a photo"})


def test_class_names() -> None:
    assert len(set(GENEVAL_CLASSES)) == 80
    assert [geneval_name(n) for n in ("TVmonitor", "sofa", "mouse", "dog", "zebra crossing", "dining_table")] == [
        "tv", "couch", "computer mouse", "dog", "zebra crossing", "dining table",
    ]  # fmt: skip
    assert all(geneval_name(name) == name for name in GENEVAL_CLASSES)


def test_boxes_and_batches_by_key() -> None:
    assert clipped((-5, 2, 15, 8), 10, 10) == (0, 2, 10, 8)
    assert clipped((12, 2, 15, 8), 10, 10) is None
    assert overlap((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert overlap((0, 0, 4, 4), (4, 0, 6, 4)) == 0
    boxes = [("a", 0.5, (0, 0, 4, 4)), ("a", 0.9, (1, 0, 5, 4)), ("b", 0.4, (0, 0, 4, 4)), ("a", 0.3, (9, 9, 10, 10))]
    found = [Detection(label, score, tuple(map(float, box))) for label, score, box in boxes]  # type: ignore[arg-type]
    assert [d.score for d in suppress(found, 0.5)] == [0.9, 0.4, 0.3]  # IoU of the two: 12 / 20
    assert [d.score for d in suppress(found, 0.6)] == [0.9, 0.5, 0.4, 0.3]
    assert list(batches_by_key(["a", "b", "a", "a"], 2)) == [[0, 2], [3], [1]]
