from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from rewards.library.models.clip import ClipModel, load_clip, transformers_preprocess
from rewards.library.models.preprocess import Preprocess
from rewards.library.models.weights import runtime
from rl.types import UserError
from tests.rewards.library.tiny_models import OPEN_CLIP, PROMPTS, SIDE, hf_clip, open_clip_architecture, pictures

CPU = runtime("clip_score.options", "cpu", "float32", 2)


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def open_clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open_clip")
    model = open_clip_architecture(folder / "architectures")
    torch.save({"epoch": 7, "state_dict": model.state_dict()}, folder / "weights.pt")
    return folder / "weights.pt"


def test_transformers_cosines_are_those_of_its_own_forward(hf_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model, tokenizer = CLIPModel.from_pretrained(hf_folder).eval(), AutoTokenizer.from_pretrained(hf_folder)
    pixels = CLIPImageProcessorPil.from_pretrained(hf_folder)(pictures(), return_tensors="pt")
    with torch.no_grad():
        out = model(**pixels, **tokenizer(list(PROMPTS), padding=True, return_tensors="pt"))
        expected = (out.logits_per_image / model.logit_scale.exp()).diagonal()
    clip = load_clip(str(hf_folder), CPU)
    np.testing.assert_allclose(clip.cosines(pictures(), PROMPTS), expected, atol=1e-6)
    assert np.ptp(expected.numpy()) > 0.02  # the pictures do differ
    assert clip.logit_scale == pytest.approx(np.exp(3.0))


def test_open_clip_cosines_are_those_of_its_own_forward(open_clip_file: Path) -> None:
    import open_clip

    clip = load_clip(str(open_clip_file), CPU, model="tiny-ViT")
    model = open_clip.create_model("tiny-ViT", pretrained=str(open_clip_file)).eval()
    pixels = torch.from_numpy(Preprocess(SIDE)(pictures()))
    with torch.no_grad():
        image, text, scale = model(pixels, open_clip.get_tokenizer("tiny-ViT")(list(PROMPTS)))[:3]
    np.testing.assert_allclose(clip.cosines(pictures(), PROMPTS), (image * text).sum(dim=1), atol=1e-6)
    assert clip.logit_scale == pytest.approx(float(scale))
    assert (clip.preprocess.size, clip.preprocess.fit, clip.preprocess.centre) == (SIDE, "shortest", "round")


def test_an_open_clip_folder_says_everything_itself(open_clip_file: Path, tmp_path: Path) -> None:
    settings = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash", "interpolation": "bilinear"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": OPEN_CLIP, "preprocess_cfg": settings}))
    state = torch.load(open_clip_file, weights_only=True)["state_dict"]
    torch.save(state, tmp_path / "open_clip_pytorch_model.bin")
    clip = load_clip(str(tmp_path), CPU)
    expected = Preprocess(SIDE, fit="squash", mean=(0.5,) * 3, std=(0.5,) * 3, resample=2)
    assert clip.preprocess == expected
    by_file = load_clip(str(open_clip_file), CPU, model="tiny-ViT")
    assert torch.equal(clip.embed_texts(PROMPTS), by_file.embed_texts(PROMPTS))


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_alone_or_in_a_batch_the_same(library: str, hf_folder: Path, open_clip_file: Path) -> None:
    for batch_size in (1, 2, 8):
        run = runtime("clip_score.options", "cpu", "float32", batch_size)
        clip = (
            load_clip(str(hf_folder), run)
            if library == "transformers"
            else load_clip(str(open_clip_file), run, model="tiny-ViT")
        )
        together = clip.cosines(pictures(7), [PROMPTS[i % 3] for i in range(7)])
        alone = [clip.cosines([picture], [PROMPTS[i % 3]])[0] for i, picture in enumerate(pictures(7))]
        np.testing.assert_allclose(together, alone, atol=2e-6)
        assert clip.cosines(pictures(7), [PROMPTS[i % 3] for i in range(7)]) == together
        assert clip.cosines([], []) == []


@pytest.mark.parametrize("library", ["transformers", "open_clip"])
def test_sixteen_bits_stay_near_and_keep_the_temperature(library: str, hf_folder: Path, open_clip_file: Path) -> None:
    checkpoint, model = (hf_folder, None) if library == "transformers" else (open_clip_file, "tiny-ViT")
    exact = load_clip(str(checkpoint), CPU, model=model)
    for dtype in ("bfloat16", "float16"):
        half = load_clip(str(checkpoint), runtime("clip_score.options", "cpu", dtype, 2), model=model)
        assert half.logit_scale == exact.logit_scale
        np.testing.assert_allclose(half.cosines(pictures(), PROMPTS), exact.cosines(pictures(), PROMPTS), atol=0.03)
        assert half.embed_texts(PROMPTS).dtype == torch.float32


def test_a_prompt_of_a_group_is_embedded_once() -> None:
    seen: list[list[str]] = []

    def texts(prompts: list[str]) -> torch.Tensor:
        seen.append(prompts)
        return torch.tensor([[float(len(prompt)), 1.0] for prompt in prompts])

    clip = ClipModel(
        torch.nn.Identity(), pictures=lambda x: x, texts=texts, preprocess=Preprocess(4), logit_scale=1.0, runtime=CPU
    )
    rows = clip.embed_texts(["abc", "abc", "d", "abc", "ef"])
    assert seen == [["abc", "d"], ["ef"]]
    expected = torch.tensor([[3.0, 1], [3, 1], [1, 1], [3, 1], [2, 1]])
    torch.testing.assert_close(rows, expected / expected.norm(dim=1, keepdim=True))


def test_picture_settings_of_old_and_new_files(tmp_path: Path) -> None:
    def settings(**values: object) -> Preprocess | None:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
        return transformers_preprocess(str(tmp_path), 30)

    assert settings(size=32, crop_size=28) == Preprocess(28, resize=32, centre="floor")
    new = settings(size={"shortest_edge": 32}, crop_size={"height": 28, "width": 28}, image_mean=[0.5] * 3, resample=2)
    assert new == Preprocess(28, resize=32, centre="floor", mean=(0.5, 0.5, 0.5), resample=2)
    squash = settings(size={"height": 32, "width": 32}, do_center_crop=False)
    assert squash == Preprocess(32, resize=32, fit="squash", centre="floor")
    (tmp_path / "preprocessor_config.json").unlink()
    assert transformers_preprocess(str(tmp_path), 30) is None


def message(checkpoint: str, model: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_clip(checkpoint, CPU, model=model)
    return str(caught.value)


def test_weights_out_of_reach() -> None:
    assert message("openai/never-there") == (
        "clip_score.options.checkpoint: 'openai/never-there' is not on this machine and can't be "
        "downloaded now (HF_HUB_OFFLINE is set); with "
        "a network type `hf download openai/never-there`, or set clip_score.options.checkpoint to the path of the "
        "folder"
    )
    assert message("openai/never-there:weights.pt", "tiny-ViT") == (
        "clip_score.options.checkpoint: 'openai/never-there:weights.pt' is not on this machine and can't be downloaded "
        "now (HF_HUB_OFFLINE is set); with a network type `hf download openai/never-there weights.pt`, or set "
        "clip_score.options.checkpoint to the path of the file"
    )
    assert message("no/such/file.pt", "ViT-B-32") == (
        "clip_score.options.checkpoint: there is no file 'no/such/file.pt'; name a weight file, or owner/name:file on "
        "the Hugging Face hub"
    )


def test_an_unknown_architecture(open_clip_file: Path) -> None:
    assert message(str(open_clip_file), "ViT-L-14-quickgel") == (
        "clip_score.options.model: open_clip has no architecture 'ViT-L-14-quickgel', did you mean "
        "'ViT-L-14-quickgelu'? (open_clip.list_models() lists them)"
    )


def test_weights_of_another_activation() -> None:
    assert message("openai", "ViT-L-14") == (
        "clip_score.options.model: the weights 'openai' were trained with QuickGELU, which ViT-L-14 has not; "
        "set it to ViT-L-14-quickgelu"
    )


def test_weights_of_another_model(open_clip_file: Path, hf_folder: Path, tmp_path: Path) -> None:
    state = torch.load(open_clip_file, weights_only=True)["state_dict"]
    del state["positional_embedding"]
    torch.save(state, tmp_path / "partial.pt")
    text = message(str(tmp_path / "partial.pt"), "tiny-ViT")
    assert text.startswith(
        f"clip_score.options.checkpoint: open_clip can't load '{tmp_path / 'partial.pt'}' as tiny-ViT"
    )
    (tmp_path / "config.json").write_text((hf_folder / "config.json").read_text())
    said = f"clip_score.options.checkpoint: {tmp_path} can't be loaded as CLIPModel ("
    assert message(str(tmp_path)).startswith(said)
    (tmp_path / "model.safetensors").write_bytes(b"cut short")
    assert message(str(tmp_path)).startswith(said)
    from safetensors.torch import load_file, save_file

    weights = load_file(hf_folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file({**weights, "visual_projection.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    assert message(str(tmp_path)).startswith(said)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert message(str(tmp_path)) == (
        f"clip_score.options.checkpoint: {tmp_path} lacks the weights visual_projection.weight (and 0 more): "
        f"it is another model's"
    )
