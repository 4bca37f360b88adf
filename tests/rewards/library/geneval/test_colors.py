"""Colours: by pixels on painted objects, by CLIP on a tiny random checkpoint against the formula in plain steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageColor

from rewards.library.geneval.clip_colors import cut_out
from rewards.library.geneval.colors import COLORS, load_colors, pixel_box
from rewards.library.geneval.contract import Detection
from rewards.library.geneval.pixel_colors import PixelColors, ellipse, name_pixels
from rl.types import UserError
from tests.rewards.library.geneval import geneval_checkpoints as checkpoints

TINY = "easel-tiny-clip"

# Colours by their CSS names that nobody would call anything else.
CSS = {
    "red": "red crimson firebrick darkred", "orange": "orange darkorange", "yellow": "yellow gold khaki",
    "green": "green lime darkgreen forestgreen limegreen seagreen lightgreen olivedrab",
    "blue": "blue navy royalblue dodgerblue skyblue steelblue mediumblue cornflowerblue",
    "purple": "purple indigo blueviolet mediumpurple darkviolet rebeccapurple", "pink": "pink hotpink deeppink",
    "brown": "saddlebrown sienna", "black": "black", "white": "white snow whitesmoke ivory",
}  # fmt: skip


def seen(box: tuple[float, ...], mask_HW: np.ndarray | None = None, label: str = "dog") -> Detection:
    return Detection(label, 0.9, box, mask_HW)  # type: ignore[arg-type]


@pytest.mark.parametrize("color", COLORS)
def test_pixels_are_named_as_people_name_them(color: str) -> None:
    rgb = np.array([ImageColor.getrgb(name) for name in CSS[color].split()], np.uint8)
    assert set(name_pixels(rgb).tolist()) == {color}


def test_the_majority_of_the_objects_own_pixels_decides() -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:] = (0, 0, 255)
    picture[10:30, 20:40] = (255, 0, 0)
    picture[10:30, 20:24] = (255, 255, 255)  # a highlight
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:40] = True
    whole = (0.0, 0.0, 60.0, 40.0)
    masked, bare, tight = seen(whole, mask), seen(whole), seen((20.0, 10.0, 40.0, 30.0))
    assert PixelColors().classify([picture] * 3, [masked, bare, tight]) == ["red", "blue", "red"]
    assert PixelColors(mask=False).classify([picture], [masked]) == ["blue"]
    assert PixelColors().classify([picture], [seen((20.0, 10.0, 40.0, 30.0), np.zeros((40, 60), bool))]) == ["red"]
    assert PixelColors().classify([picture], [seen((59.9, 39.8, 60.0, 40.0))]) == ["blue"]  # less than a pixel
    assert PixelColors().classify([], []) == []


def test_large_objects_are_sampled_evenly() -> None:
    picture = np.zeros((600, 600, 3), np.uint8)
    picture[:, :330] = (255, 165, 0)
    picture[:, 330:] = (0, 128, 0)
    everywhere = np.ones((600, 600), bool)
    assert PixelColors().classify([picture], [seen((0, 0, 600, 600), everywhere)]) == ["orange"]


def test_the_ellipse_inside_a_box() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[4, 4] = 7  # a corner of the box
    inside = ellipse(picture, seen((4.0, 4.0, 16.0, 16.0)))
    assert inside.max() == 0
    assert len(inside) == pytest.approx(np.pi * 36, rel=0.05)


def test_boxes_on_whole_pixels() -> None:
    assert pixel_box(seen((1.6, 2.4, 7.5, 9.5)), 20, 30) == (2, 2, 8, 10)
    assert pixel_box(seen((-3.0, -3.0, 99.0, 99.0)), 20, 30) == (0, 0, 30, 20)
    assert pixel_box(seen((29.9, 19.9, 30.0, 20.0)), 20, 30) == (29, 19, 30, 20)


def test_an_object_is_cut_out_onto_grey_and_cropped() -> None:
    picture = np.full((10, 12, 3), 200, np.uint8)
    mask = np.zeros((10, 12), bool)
    mask[2:6, 3:8] = True
    detection = seen((3.0, 2.0, 9.0, 6.0), mask)
    view = np.asarray(cut_out(picture, detection, mask=True, crop=True))
    assert view.shape == (4, 6, 3)
    assert view[:, :5].tolist() == np.full((4, 5, 3), 200).tolist()
    assert view[:, 5].tolist() == [[0x99] * 3] * 4
    assert np.asarray(cut_out(picture, detection, mask=True, crop=False)).shape == picture.shape
    assert set(np.asarray(cut_out(picture, detection, mask=False, crop=True)).flatten()) == {200}
    assert set(np.asarray(cut_out(picture, seen((3, 2, 9, 6)), mask=True, crop=True)).flatten()) == {200}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.clip(tmp_path_factory.mktemp("clip"), TINY)


def test_clip_picks_the_colour_nearest_to_the_mean_of_three_sentences(weights: Path) -> None:
    import torch

    from rewards.library.models.open_clip_compat import import_open_clip

    rng = np.random.default_rng(1)
    tiles = rng.integers(0, 256, (4, 8, 4, 12, 3), np.uint8) // rng.integers(1, 9, (1, 8, 1, 12, 3), np.uint8)
    picture = np.repeat(np.repeat(tiles.reshape(32, 48, 3), 4, axis=0), 4, axis=1)
    boxes = [(40.0 * (i % 4), 20.0 * i // 2, 40.0 * (i % 4) + 32, 20.0 * i // 2 + 32) for i in range(8)]
    detections = [seen(box, label="hot dog" if i % 2 else "car") for i, box in enumerate(boxes)]  # of the model's size
    ours = load_colors("clip", {"model": TINY, "checkpoint": str(weights), "batch_size": 3})
    assert ours is not None
    found = ours.classify([picture] * 8, detections)

    open_clip = import_open_clip()
    model = open_clip.create_model(TINY, pretrained=str(weights)).eval()
    tokenize = open_clip.get_tokenizer(TINY)
    mean, std = np.array(open_clip.OPENAI_DATASET_MEAN), np.array(open_clip.OPENAI_DATASET_STD)
    expected = []
    for detection in detections:
        x0, y0, x1, y1 = (int(v) for v in detection.box)
        pixels = torch.tensor(((picture[y0:y1, x0:x1] / 255 - mean) / std).transpose(2, 0, 1)[None], dtype=torch.float)
        with torch.no_grad():
            image = model.encode_image(pixels)[0]
            similarity = []
            for color in COLORS:
                total = 0
                for text in (f"{color} {detection.label}", f"{color}-colored {detection.label}", f"{color} object"):
                    embedding = model.encode_text(tokenize([f"a photo of a {text}"]))[0]
                    total = total + embedding / embedding.norm()
                similarity.append(float(total @ image / total.norm()))  # type: ignore[attr-defined]
        expected.append(COLORS[int(np.argmax(similarity))])
    assert found == expected
    assert len(set(found)) > 1  # else the agreement says little


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "ViT-L14"},
            "colors_options.model: open_clip has no architecture 'ViT-L14', did you mean 'ViT-L-14'?",
        ),
        ({}, "hf download openai/clip-vit-large-patch14"),
        ({"device": "warp"}, "colors_options.device is 'warp': it must be 'auto', 'cpu', 'cuda' or 'cuda:0'"),
        ({"templates": 3}, "geneval.options.colors_options.templates: 'clip' takes no such option"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(UserError) as caught:
        load_colors("clip", options)
    assert message in str(caught.value)


def test_weights_that_do_not_fit(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(UserError, match=f"colors_options.checkpoint: open_clip can't load .*junk.pt' as {TINY}"):
        load_colors("clip", {"model": TINY, "checkpoint": str(tmp_path / "junk.pt")})
    with pytest.raises(UserError, match="colors_options.checkpoint: open_clip can't load .* as ViT-B-32"):
        load_colors("clip", {"model": "ViT-B-32", "checkpoint": str(weights)})
    with pytest.raises(UserError, match="option `mask` is 'no': it must be true or false"):
        load_colors("pixels", {"mask": "no"})


def test_auto_is_clip_where_the_detector_names_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("rewards.library.geneval.colors.load", lambda kind, at, use: asked.append(use) or PixelColors)

    class Names:
        colors = ("red", "blue")

    assert load_colors("auto", detector=Names()) is None
    assert load_colors("auto", detector=object()) is not None
    assert asked == ["clip"]
