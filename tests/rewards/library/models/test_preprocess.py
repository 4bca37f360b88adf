from __future__ import annotations

import numpy as np
import pytest

from rewards.library.models.preprocess import CLIP_MEAN, CLIP_STD, Preprocess

SIZES = [(64, 64), (47, 90), (101, 33), (224, 224), (225, 224), (224, 229), (300, 517), (16, 9), (640, 481)]


def random_picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("side", [32, 224])
def test_the_same_pixels_as_transformers(height: int, width: int, side: int) -> None:
    from transformers import CLIPImageProcessorPil

    theirs = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    picture = random_picture(height, width)
    expected = theirs(picture, input_data_format="channels_last", return_tensors="np")["pixel_values"]
    ours = Preprocess(side, centre="floor")([picture])
    assert ours.shape == (1, 3, side, side) and ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_resize_larger_than_crop_as_dinov2_does_it() -> None:
    from transformers import BitImageProcessorPil

    settings = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    size = {"size": {"shortest_edge": 36}, "crop_size": {"height": 28, "width": 28}}
    theirs = BitImageProcessorPil(resample=3, **size, **settings)
    ours = Preprocess(28, resize=36, centre="floor", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    for picture in (random_picture(*size) for size in SIZES):
        expected = theirs(picture, input_data_format="channels_last", return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(ours([picture]), expected, atol=2e-6)


def test_the_last_half_pixel_of_the_crop() -> None:
    """4 x 7 to 4 x 4: 1.5 pixels on the left, torchvision's rounding takes 2, transformers 1."""
    picture = np.zeros((4, 7, 3), np.uint8)
    picture[:, :, 0] = np.arange(7) * 10
    plain = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    rounded = Preprocess(4, centre="round", **plain)([picture])[0, 0, 0] * 255
    floored = Preprocess(4, centre="floor", **plain)([picture])[0, 0, 0] * 255
    np.testing.assert_allclose(rounded, [20, 30, 40, 50], atol=1e-4)
    np.testing.assert_allclose(floored, [10, 20, 30, 40], atol=1e-4)


def test_longest_pads_with_black_in_the_middle() -> None:
    picture = np.full((8, 4, 3), 255, np.uint8)
    padded = Preprocess(8, fit="longest")([picture])[0]
    white, black = [(value - np.array(CLIP_MEAN)) / np.array(CLIP_STD) for value in (1.0, 0.0)]
    np.testing.assert_allclose(padded[:, :, 2:6], np.broadcast_to(white[:, None, None], (3, 8, 4)), atol=1e-5)
    np.testing.assert_allclose(padded[:, :, [0, 1, 6, 7]], np.broadcast_to(black[:, None, None], (3, 8, 4)), atol=1e-5)


def test_squash_sees_the_whole_picture() -> None:
    picture = np.zeros((16, 64, 3), np.uint8)
    picture[:, 32:] = 255
    squashed = Preprocess(16, fit="squash", mean=(0, 0, 0), std=(1, 1, 1))([picture])[0, 0, 8]
    np.testing.assert_allclose([squashed[0], squashed[-1]], [0, 1])


def test_square_pictures_are_the_same_by_every_fit() -> None:
    picture = random_picture(50, 50)
    shortest, longest, squash = (Preprocess(32, fit=fit)([picture]) for fit in ("shortest", "longest", "squash"))
    assert (shortest == longest).all() and (shortest == squash).all()


def test_open_clip_computes_the_same_where_torchvision_is_installed() -> None:
    pytest.importorskip("torchvision", reason="open_clip's own transform needs torchvision, absent from the CPU set")
    from open_clip.transform import PreprocessCfg, image_transform_v2
    from PIL import Image

    theirs = image_transform_v2(PreprocessCfg(size=224), is_train=False)
    for picture in (random_picture(*size) for size in SIZES):
        np.testing.assert_allclose(Preprocess(224)([picture])[0], theirs(Image.fromarray(picture)), atol=2e-6)
