from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.library.similarity import Similarity
from rl.data.pictures import Picture, read_file
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.library.tiny_models import SIDE, hf_clip, open_clip_architecture, pictures, shake


def sample(picture: np.ndarray, reference: object = None, name: str = "p") -> Sample:
    return Sample("s", "g", Prompt(name, "make it red", {} if reference is None else {"reference": reference}), picture)


def scores(picture: np.ndarray, *references: object, **options: Any) -> list[Score]:
    return Similarity(**options)([sample(picture, reference) for reference in references])


def even(value: int, side: int = 16) -> np.ndarray:
    return np.full((side, side, 3), value, np.uint8)


# --- pixel and ssim ---------------------------------------------------------------------------------------------------


def test_pixel_by_hand() -> None:
    half = even(100)
    half[:8] = 202
    found = [s.value for s in scores(even(100), even(100), even(151), even(49), half)]
    assert found == pytest.approx([1.0, 0.8, 0.8, 1 - 102 / 255 / 2])  # 51 / 255 = .2, up or down
    assert scores(even(0), even(255))[0].value == 0.0


def test_ssim_of_even_pictures_by_hand() -> None:
    # No variance: SSIM is its luminance term (2 a b + C1) / (a^2 + b^2 + C1), C1 = (0.01 * 255)^2.
    a, b, c1 = 100, 150, (0.01 * 255) ** 2
    found = scores(even(a), even(a), even(b), measure="ssim")
    assert [s.value for s in found] == pytest.approx([1.0, (2 * a * b + c1) / (a * a + b * b + c1)])


def test_ssim_sees_structure() -> None:
    picture = pictures(1)[0]
    shifted, inverted = np.roll(picture, 5, axis=1), 255 - picture
    same, moved, turned = (s.value for s in scores(picture, picture, shifted, inverted, measure="ssim"))
    assert same == pytest.approx(1.0)
    assert moved is not None and turned is not None and turned < 0 < moved < 0.9


def test_ssim_is_wangs_with_its_gaussian_window() -> None:
    """Wang et al. 2004, eqs. 13 to 17, written out for each window of 11 x 11 pixels that fits."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, 256, (14, 13, 3), dtype=np.uint8)
    b = np.clip(a + rng.normal(0, 40, a.shape), 0, 255).astype(np.uint8)
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(bell, bell) / bell.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = []
    for y, x, colour in np.ndindex(4, 3, 3):
        u, v = (p[y : y + 11, x : x + 11, colour].astype(float) for p in (a, b))
        mu, nu = (weights * u).sum(), (weights * v).sum()
        uu, vv, uv = (
            (weights * (p - m) * (q - n)).sum() for p, m, q, n in ((u, mu, u, mu), (v, nu, v, nu), (u, mu, v, nu))
        )
        found.append((2 * mu * nu + c1) * (2 * uv + c2) / ((mu**2 + nu**2 + c1) * (uu + vv + c2)))
    assert scores(a, b, measure="ssim")[0].value == pytest.approx(np.mean(found), abs=1e-6)


def test_ssim_needs_a_window() -> None:
    found = scores(np.zeros((10, 40, 3), np.uint8), even(0), measure="ssim")[0]
    assert found.failure == "the picture is 40 x 10 pixels; ssim needs 11 a side"


# --- the reference ----------------------------------------------------------------------------------------------------


def test_the_reference_is_brought_to_the_pictures_size() -> None:
    reference = pictures(3)[1]
    resized = np.asarray(Image.fromarray(reference).resize((30, 20), Image.Resampling.BICUBIC))
    assert scores(resized, reference)[0].value == 1.0
    assert scores(even(7, 20), even(7, 500))[0].value == 1.0


def test_a_file_beside_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = pictures(1)[0]
    (tmp_path / "refs").mkdir()
    Image.fromarray(picture).save(tmp_path / "refs" / "a.png")
    monkeypatch.chdir(tmp_path)
    whole = tmp_path / "refs" / "a.png"
    assert [s.value for s in scores(picture, "refs/a.png", str(whole), whole)] == [1.0, 1.0, 1.0]


def test_a_file_is_read_once_per_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(even(9)).save(tmp_path / "a.png")
    read: list[object] = []
    monkeypatch.setattr("rewards.reference.read_file", lambda path: read.append(path) or read_file(path))
    found = scores(even(9), *[str(tmp_path / "a.png")] * 5)
    assert [s.value for s in found] == [1.0] * 5
    assert read == [str(tmp_path / "a.png")]


def test_files_are_turned_upright_and_made_rgb(tmp_path: Path) -> None:
    upright = np.zeros((20, 10, 3), np.uint8)
    upright[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees to see it upright
    lying = Image.fromarray(np.rot90(upright).copy())
    lying.save(tmp_path / "lying.png", exif=exif)
    Image.fromarray(upright).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(upright).convert("RGBA").save(tmp_path / "alpha.png")
    files = [str(tmp_path / name) for name in ("lying.png", "grey.png", "alpha.png")]
    assert [s.value for s in scores(upright, *files)] == [1.0, 1.0, 1.0]


def test_no_reference_is_not_applicable_and_bad_ones_fail_alone(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(pictures(1)[0]).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    bad = [
        None,
        str(tmp_path / "none.png"),
        str(tmp_path / "text.png"),
        str(tmp_path / "cut.png"),
        str(tmp_path),
        7,
        np.zeros((4, 4)),
        np.zeros((0, 4, 3), np.uint8),
        even(3),
    ]
    found = scores(even(3), *bad)
    assert found[0] == Score(None)
    assert found[-1].value == 1.0
    reasons = [s.failure for s in found[1:-1]]
    assert reasons[0] == f"prompt 'p': there is no reference file {str(tmp_path / 'none.png')!r}"
    for i, path in enumerate(bad[2:5], 1):
        assert str(reasons[i]).startswith(f"prompt 'p': the reference file {path!r} can't be read as a picture (")
    assert reasons[4:] == [
        "prompt 'p': reference is of type int, it must be a path or a uint8 array",
        "prompt 'p': reference is a float64 array of 4 x 4, it must be uint8 of H x W x 3",
        "prompt 'p': reference is a uint8 array of 0 x 4 x 3, it must be uint8 of H x W x 3",
    ]
    assert all(s.value is None for s in found[:-1])


def test_the_prompts_own_picture_may_be_the_reference(tmp_path: Path) -> None:
    Image.fromarray(even(51)).save(tmp_path / "a.png")
    sources = [even(255), tmp_path / "a.png", tmp_path / "gone.png"]
    prompts = [Prompt("p", "x", {"reference": even(0)}, (Picture(one), Picture(even(0)))) for one in sources]
    given = [Sample("s", "g", prompt, even(0)) for prompt in (*prompts, Prompt("q", "x", {"reference": even(0)}))]
    found = Similarity(reference="picture")(given)
    assert [score.value for score in found] == [0.0, pytest.approx(0.8), None, None]
    assert str(found[2].failure).startswith(f"prompt 'p': the picture '{tmp_path}/gone.png' can't be read")
    assert not found[3].failed
    with pytest.raises(UserError) as caught:
        Similarity(reference="image")  # type: ignore[arg-type]
    assert str(caught.value) == "similarity.options.reference is 'image': it must be 'metadata' or 'picture'"


def test_pixel_imports_no_torch() -> None:
    code = (
        "import sys; from rewards.library.similarity import Similarity; Similarity(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_measure() -> None:
    with pytest.raises(UserError) as caught:
        Similarity("psnr")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "similarity.options.measure is 'psnr': it must be 'pixel', 'ssim', 'clip', 'dino' or 'lpips'"
    )


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(hf_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    model = Dinov2Model(
        Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8)
    )
    shake(model)
    model.save_pretrained(folder)
    BitImageProcessorPil(
        size={"shortest_edge": 40}, crop_size={"height": SIDE, "width": SIDE}, resample=3,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225], do_convert_rgb=True,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def cosine_by_transformers(folder: str, measure: str, a: np.ndarray, b: np.ndarray) -> float:
    from transformers import BitImageProcessorPil, CLIPImageProcessorPil, CLIPModel, Dinov2Model

    processor = (CLIPImageProcessorPil if measure == "clip" else BitImageProcessorPil).from_pretrained(folder)
    pixels = processor([a, b], return_tensors="pt")
    with torch.no_grad():
        if measure == "clip":
            features = CLIPModel.from_pretrained(folder).eval().get_image_features(**pixels).pooler_output
        else:
            features = Dinov2Model.from_pretrained(folder).eval()(**pixels).last_hidden_state[:, 0]
    return float(torch.nn.functional.cosine_similarity(features[0], features[1], dim=0))


@pytest.mark.parametrize("measure", ["clip", "dino"])
def test_features_by_the_library_itself(measure: str, clip_folder: str, dino_folder: str) -> None:
    folder = clip_folder if measure == "clip" else dino_folder
    a, b = pictures(1)[0], pictures(1, seed=1)[0]  # of one size
    reward = Similarity(measure, checkpoint=folder, device="cpu")  # type: ignore[arg-type]
    same, other = reward([sample(a, a), sample(a, b)])
    assert same.value == pytest.approx(1.0, abs=1e-6)
    assert other.value == pytest.approx(cosine_by_transformers(folder, measure, a, b), abs=1e-5)
    assert other.value < 0.999
    assert reward([sample(a, b)])[0].value == pytest.approx(other.value, abs=1e-5)
    assert reward([sample(a)]) == [Score(None)] and reward([]) == []


def test_clip_through_open_clip(tmp_path: Path) -> None:
    model = open_clip_architecture(tmp_path, "tiny-sim")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    reward = Similarity("clip", checkpoint=str(tmp_path / "weights.pt"), model="tiny-sim", device="cpu")
    same, other = reward([sample(pictures()[0], pictures()[0]), sample(pictures()[0], pictures(1, seed=1)[0])])
    assert same.value == pytest.approx(1.0, abs=1e-6)
    assert other.value is not None and other.value < 0.999


def test_a_shared_reference_is_embedded_once(clip_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = Similarity("clip", checkpoint=clip_folder, device="cpu")
    counts: list[int] = []
    embed = reward._compare._embed  # type: ignore[attr-defined]

    def counted(batch: Sequence[np.ndarray]) -> torch.Tensor:
        counts.append(len(batch))
        return embed(batch)

    monkeypatch.setattr(reward._compare, "_embed", counted)
    reference = pictures(1)[0]
    group = [pictures(1, seed=i)[0] for i in range(1, 5)]
    reward([sample(picture, reference) for picture in group])
    reward([sample(picture, pictures(2)[1]) for picture in group])  # four arrays of another size
    shared = pictures(2)[1]
    reward([sample(picture, shared) for picture in group])
    assert counts == [1, 4, 4, 4, 1, 4]


def test_dino_without_picture_settings(dino_folder: str, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(dino_folder) / name).read_bytes())
    with pytest.raises(UserError) as caught:
        Similarity("dino", checkpoint=str(tmp_path), device="cpu")
    assert str(caught.value) == (
        f"similarity.options.checkpoint: {tmp_path} has no preprocessor_config.json, which says how DINOv2 wants its "
        f"pictures; download the whole of it"
    )


def test_dino_weights_out_of_reach() -> None:
    with pytest.raises(UserError, match="type `hf download someone/never-there`, or set similarity.options.checkpoint"):
        Similarity("dino", checkpoint="someone/never-there")


# --- lpips ------------------------------------------------------------------------------------------------------------


def test_lpips_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UserError) as caught:
        Similarity("lpips")
    assert str(caught.value) == (
        "similarity.options.measure is 'lpips', and lpips is not installed; `pip install lpips torchvision`, or choose "
        "'dino' or 'ssim'"
    )


class MeanDistance(torch.nn.Module):
    """Stands for the package's network: the mean distance of what it is given."""

    def __init__(self, net: str, verbose: bool) -> None:
        super().__init__()
        assert (net, verbose) == ("alex", False)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.shape == b.shape == (1, 3, 16, 16)
        assert float(a.min()) >= -1 and float(a.max()) <= 1
        return (a - b).abs().mean().reshape(1, 1, 1, 1)


def test_lpips_gets_pictures_in_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("lpips")
    package.LPIPS = MeanDistance  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lpips", package)
    found = scores(even(0), even(0), even(255), even(51, 40), measure="lpips", device="cpu")
    assert [s.value for s in found] == pytest.approx([1.0, 1 - 2.0, 1 - 0.4])


# --- what an edit had to leave alone ----------------------------------------------------------------------------------


def _edited(mask: object, **options: Any) -> Score:
    """A reference of 100, an answer whose left half is 255 and whose right half is 151."""
    answer = even(151)
    answer[:, :8] = 255
    prompt = Prompt("p", "make it red", {"reference": even(100), "mask": mask})
    return Similarity(outside="mask", **options)([Sample("s", "g", prompt, answer)])[0]


def test_only_what_lies_outside_the_mask_is_compared(tmp_path: Path) -> None:
    mask = np.zeros((32, 32, 3), np.uint8)  # of another size than the pictures
    mask[:, :16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for given in (mask, str(tmp_path / "mask.png"), [[0, 0, 0.5, 1]], {"editable": [[0, 0, 0.5, 1]]}):
        assert _edited(given).value == pytest.approx(0.8)  # 51 of 255, on the right alone
    assert _edited([[0, 0, 0.5, 1], [0.5, 0, 1, 0.5]]).value == pytest.approx(0.8)
    assert _edited([]).value == pytest.approx(1 - (155 + 51) / 2 / 255)
    ssim = _edited([[0, 0, 0.5, 1]], measure="ssim").value
    assert ssim is not None and ssim > (_edited([], measure="ssim").value or 0)


def test_where_everything_may_change_nothing_is_kept_or_lost() -> None:
    assert _edited([[0, 0, 1, 1]]) == Score(None)
    assert _edited(None) == Score(None)


def test_masks_that_are_none_fail(tmp_path: Path) -> None:
    for mask, words in (
        ("none.png", "mask: there is no reference file 'none.png'"),
        ([[0, 0, 1]], "mask: the part that may change has the entry [0, 0, 1], which is no box"),
        ({"boxes": []}, "mask: the part that may change is a mapping with 'editable' None"),
    ):
        assert words in str(_edited(mask).failure)
    with pytest.raises(UserError, match="outside is 3: it must be the key of the metadata"):
        Similarity(outside=3)  # type: ignore[arg-type]
