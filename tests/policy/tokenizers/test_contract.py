"""What every image tokenizer does, whatever its kind."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from policy.base import Policy, load_image_tokenizer
from policy.folder import read_policy_config
from policy.json_file import write_json
from policy.layout import TokenLayout
from policy.tokenizers.contract import ImageTokenizer
from rl.tracking.guards.pictures import Fidelity
from tests.policy.tokenizers.tiny_ta_tok import CODES, CONFIG, VISION, pictures, tensors, write

TINY = {**VISION, "image_size": 64, "patch_size": 16}  # 4 x 4 tokens, as the embedded model's grid


@pytest.fixture(scope="module", params=["patch_vq", "ta_tok"])
def folder(request: pytest.FixtureRequest, tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete policy folder with each kind of image tokenizer."""
    made = tmp_path_factory.mktemp("kinds") / request.param
    shutil.copytree(tiny_policy, made)
    if request.param == "ta_tok":
        write(made / "image_tokenizer", tensors(TINY), {**CONFIG, "vision": TINY, "picture": 64})
    return made


@pytest.fixture(scope="module")
def layout(folder: Path) -> TokenLayout:
    layout, _ = read_policy_config(folder)
    assert layout.num_image_tokens == CODES
    return layout


@pytest.fixture(scope="module")
def tokenizer(folder: Path, layout: TokenLayout) -> ImageTokenizer:
    return load_image_tokenizer(folder, layout)


@pytest.fixture(scope="module")
def shown() -> NDArray[np.uint8]:
    return pictures(6, 64, 64)


def test_pictures_become_ids_of_the_image_vocabulary(
    tokenizer: ImageTokenizer, layout: TokenLayout, shown: NDArray[np.uint8]
) -> None:
    tokens = tokenizer.encode(shown)
    assert tokens.shape == (6, layout.tokens_per_image)
    assert tokens.dtype == np.int64
    assert layout.image_start_id <= tokens.min() <= tokens.max() < layout.image_end_id
    assert np.array_equal(tokens, tokenizer.encode(shown))
    assert np.array_equal(tokens[2:3], tokenizer.encode(shown[2:3]))


def test_saved_and_loaded_it_is_the_same(
    tokenizer: ImageTokenizer, layout: TokenLayout, shown: NDArray[np.uint8], tmp_path: Path
) -> None:
    part = tmp_path / "image_tokenizer"
    part.mkdir()
    tokenizer.save(part / "model.safetensors")
    write_json(part / "config.json", tokenizer.config())
    again = load_image_tokenizer(tmp_path, layout)
    assert type(again) is type(tokenizer)
    assert again.config() == tokenizer.config()
    assert again.config()["kind"] == tokenizer.kind
    assert again.config()["codes"] == layout.num_image_tokens
    assert np.array_equal(again.encode(shown), tokenizer.encode(shown))


def test_it_moves_to_a_device(tokenizer: ImageTokenizer, shown: NDArray[np.uint8]) -> None:
    tokens = tokenizer.encode(shown)
    assert tokenizer.to(torch.device("cpu")) is tokenizer
    assert np.array_equal(tokenizer.to("cpu").encode(shown), tokens)


def test_a_policy_loads_saves_and_paints_with_it(folder: Path, tmp_path: Path) -> None:
    policy = Policy.load(folder)
    policy.save(tmp_path / "copy")
    again = Policy.load(tmp_path / "copy")
    hidden = torch.randn(2, policy.layout.tokens_per_image + 1, policy.ar.config.hidden_size)
    painted = policy.decoder.paint(hidden, [0, 1], steps=1)
    assert np.array_equal(painted, again.decoder.paint(hidden, [0, 1], steps=1))
    tokens = policy.image_tokenizer.encode(painted)
    assert np.array_equal(tokens, again.image_tokenizer.encode(painted))
    assert Fidelity(policy.image_tokenizer)(tokens, painted) == {"guard/render_fidelity": 1.0}
