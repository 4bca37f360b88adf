from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from rewards.library.aesthetic import Aesthetic, AestheticHead
from rewards.library.models.clip import load_clip
from rewards.library.models.weights import runtime
from rl.types import UserError
from tests.rewards.library.tiny_models import hf_clip, pictures, samples

WEIGHTS = Path(os.environ.get("EASEL_TEST_WEIGHTS", "")) / "laion_aesthetic_heads"
needs_weights = pytest.mark.skipif(
    "EASEL_TEST_WEIGHTS" not in os.environ, reason="set EASEL_TEST_WEIGHTS to the folder of LAION's real heads"
)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_clip(tmp_path_factory.mktemp("clip"))


def head_file(folder: Path, width: int = 16) -> str:
    generator = torch.Generator().manual_seed(3)
    sizes, state = [width, 8, 4, 4, 2, 1], {}
    for i, (name, inputs, outputs) in enumerate(zip((0, 2, 4, 6, 7), sizes, sizes[1:], strict=False)):
        state[f"layers.{name}.weight"] = torch.randn(outputs, inputs, generator=generator)
        state[f"layers.{name}.bias"] = torch.randn(outputs, generator=generator) + i
    torch.save(state, folder / "head.pth")
    return str(folder / "head.pth")


def test_scores_are_the_head_on_unit_embeddings(clip_folder: Path, tmp_path: Path) -> None:
    path = head_file(tmp_path)
    reward = Aesthetic(path, clip=str(clip_folder), device="cpu")
    scores = reward(samples(5))
    state = {name: value.double().numpy() for name, value in torch.load(path, weights_only=True).items()}
    clip = load_clip(str(clip_folder), runtime("aesthetic.options", "cpu", "float32", 4))
    hidden = clip.embed_pictures(pictures(5)).numpy()
    np.testing.assert_allclose(np.linalg.norm(hidden, axis=1), 1, atol=1e-6)
    for name in (0, 2, 4, 6, 7):
        hidden = hidden @ state[f"layers.{name}.weight"].T + state[f"layers.{name}.bias"]
    np.testing.assert_allclose([score.value for score in scores], hidden[:, 0], rtol=1e-4)
    assert all(score.passed is None and not score.failed for score in scores)
    assert [reward([sample])[0].value for sample in samples(5)] == pytest.approx([s.value for s in scores], rel=1e-5)
    assert reward([]) == []


def test_a_head_for_another_clip(clip_folder: Path, tmp_path: Path) -> None:
    path = head_file(tmp_path, width=12)
    with pytest.raises(UserError) as caught:
        Aesthetic(path, clip=str(clip_folder), device="cpu")
    assert str(caught.value) == (
        f"aesthetic.options.checkpoint: the head {path} takes embeddings of 12 numbers, and {clip_folder} gives 16; "
        f"set aesthetic.options.clip to the CLIP that the head was trained on"
    )


def test_a_linear_head_by_hand(tmp_path: Path) -> None:
    torch.save({"weight": torch.tensor([[2.0, -1.0]]), "bias": torch.tensor([5.0])}, tmp_path / "linear.pth")
    head = AestheticHead(str(tmp_path / "linear.pth"))
    assert head.width == 2
    assert head(torch.tensor([[0.6, 0.8], [1.0, 0.0]])).tolist() == pytest.approx([5.4, 7.0])


def test_weights_out_of_reach() -> None:
    with pytest.raises(UserError) as caught:
        Aesthetic("someone/never-there:head.pth")
    assert str(caught.value) == (
        "aesthetic.options.checkpoint: 'someone/never-there:head.pth' is not on this machine and can't be downloaded "
        "now (HF_HUB_OFFLINE is set); "
        "with a network type `hf download someone/never-there head.pth`, or set aesthetic.options.checkpoint to "
        "the path of the file"
    )


def embeddings(clip: str) -> torch.Tensor:
    rows = [np.load(WEIGHTS / "embeddings" / f"{clip}_rating{i}.npy").reshape(-1) for i in range(10)]
    return torch.nn.functional.normalize(torch.from_numpy(np.stack(rows)).float(), dim=1)


@needs_weights
def test_laions_own_numbers_from_the_improved_predictor() -> None:
    rated = AestheticHead(str(WEIGHTS / "sac+logos+ava1-l14-linearMSE.pth"))(embeddings("vit_l_14"))
    expected = [1.66, 2.36, 3.07, 3.67, 4.24, 4.70, 5.07, 5.37, 5.58, 5.75]
    np.testing.assert_allclose(rated, expected, atol=0.0051)  # given to two places


@needs_weights
def test_laions_own_numbers_from_the_linear_head() -> None:
    rated = AestheticHead(str(WEIGHTS / "sa_0_4_vit_b_32_linear.pth"))(embeddings("vit_b_32"))
    assert (torch.diff(rated) > 0).all()
    np.testing.assert_allclose(rated[[0, -1]], [-1.47, 11.01], atol=0.0051)
