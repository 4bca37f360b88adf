"""TA-Tok against its definition, written out in tensor operations."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from transformers import SiglipVisionConfig, SiglipVisionModel

from policy.tokenizers import ta_tok
from policy.tokenizers.ta_tok import TaTok
from policy.tokenizers.ta_tok_config import TaTokConfig
from policy.tokenizers.ta_tok_weights import read_weights
from tests.policy.tokenizers.tiny_ta_tok import CODES, CONFIG, START, VISION, layout, pictures, tensors, write

CPU = torch.device("cpu")


def load(file: Path, side: int = 8, **settings: Any) -> TaTok:
    return TaTok.load(file, {**CONFIG, **settings}, layout(side))


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return tensors()


@pytest.fixture(scope="module")
def file(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("tok"), weights)


# --- the definition ---------------------------------------------------------------------------------------------------


def linear(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return x @ weights[f"vision_tower.{name}.weight"].T + weights[f"vision_tower.{name}.bias"]


def norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return scaled * weights[f"vision_tower.{name}.weight"] + weights[f"vision_tower.{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + (math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)).tanh())


def layer(x_ND: Tensor, weights: dict[str, Tensor], index: int) -> Tensor:
    at, heads = f"encoder.encoder.layers.{index}.", VISION["num_attention_heads"]
    normed = norm(x_ND, weights, at + "layer_norm1")
    query, key, value = (
        linear(normed, weights, f"{at}self_attn.{name}_proj").view(len(x_ND), heads, -1).transpose(0, 1)
        for name in "qkv"
    )
    attention = (query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).softmax(-1)
    mixed = (attention @ value).transpose(0, 1).reshape(x_ND.shape)
    x_ND = x_ND + linear(mixed, weights, at + "self_attn.out_proj")
    inner = gelu(linear(norm(x_ND, weights, at + "layer_norm2"), weights, at + "mlp.fc1"))
    return x_ND + linear(inner, weights, at + "mlp.fc2")


def features(picture: np.ndarray, weights: dict[str, Tensor]) -> Tensor:
    """(64, D): what enters the last layer, of a picture of 34 x 34."""
    pixels = (torch.from_numpy(picture).double() / 255 - 0.5) / 0.5
    patches = torch.stack(
        [pixels[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] for row in range(8) for column in range(8)]
    )
    kernel = weights["vision_tower.encoder.embeddings.patch_embedding.weight"]
    x_ND = torch.einsum("nhwc,dchw->nd", patches, kernel)
    x_ND = x_ND + weights["vision_tower.encoder.embeddings.patch_embedding.bias"]
    x_ND = x_ND + weights["vision_tower.encoder.embeddings.position_embedding.weight"]
    for index in range(VISION["num_hidden_layers"] - 1):
        x_ND = layer(x_ND, weights, index)
    return x_ND


def cosines(features_ND: Tensor, weights: dict[str, Tensor], scale: int) -> Tensor:
    """(T, K)"""
    side = 8 // scale
    square = features_ND.view(8, 8, -1)
    pooled = torch.stack(
        [
            square[scale * row : scale * (row + 1), scale * column : scale * (column + 1)].mean((0, 1))
            for row in range(side)
            for column in range(side)
        ]
    )
    z = linear(linear(pooled, weights, "encode_task_layer.0").tanh(), weights, "bottleneck.in_linear")
    table = weights["vision_tower.bottleneck.regularizer.embedding.weight"]
    codes = linear(table, weights, "bottleneck.regularizer.embedding_proj")
    return (z / z.norm(dim=-1, keepdim=True)) @ (codes / codes.norm(dim=-1, keepdim=True)).T


def double(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.double() for name, value in weights.items()}


# ----------------------------------------------------------------------------------------------------------------------


def test_features_and_cosines_are_those_of_the_definition(file: Path, weights: dict[str, Tensor]) -> None:
    model = read_weights(file, TaTokConfig(CODES, VISION, 34), CPU)
    shown = pictures(2)
    found = model.features(torch.from_numpy(shown).permute(0, 3, 1, 2) / 127.5 - 1)
    for picture, features_ND in zip(shown, found, strict=True):
        expected = features(picture, double(weights))
        torch.testing.assert_close(features_ND.double(), expected, atol=1e-5, rtol=1e-5)
        expected = cosines(expected, double(weights), 1)
        torch.testing.assert_close(model.cosines(features_ND).double(), expected, atol=1e-5, rtol=0)


def test_features_are_the_hidden_states_before_the_last_layer(file: Path, weights: dict[str, Tensor]) -> None:
    whole = SiglipVisionModel(SiglipVisionConfig(**VISION, vision_use_head=False)).eval()
    of_tower = {
        name.removeprefix("vision_tower.encoder."): value
        for name, value in weights.items()
        if name.startswith("vision_tower.encoder.") and ".head." not in name
    }
    whole.load_state_dict(of_tower)
    pixels = torch.from_numpy(pictures(2)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        states = whole(pixels, output_hidden_states=True).hidden_states
    assert len(states) == VISION["num_hidden_layers"] + 1
    found = read_weights(file, TaTokConfig(CODES, VISION, 34), CPU).features(pixels)
    torch.testing.assert_close(found, states[-2], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_token_is_the_nearest_code_of_the_mean_over_its_neighbours(
    scale: int, file: Path, weights: dict[str, Tensor]
) -> None:
    shown = pictures(3)
    tokens = load(file, 8 // scale, scale=scale).encode(shown)
    assert tokens.dtype == np.int64
    assert tokens.shape == (3, (8 // scale) ** 2)
    for picture, tokens_T in zip(shown, tokens, strict=True):
        expected = cosines(features(picture, double(weights)), double(weights), scale)
        best = expected.topk(2).values
        clear = (best[:, 0] - best[:, 1] > 1e-5).numpy()  # float32 may put two that are nearer in either order
        assert clear.sum() >= len(clear) - 1
        assert np.array_equal(tokens_T[clear] - START, expected.argmax(-1).numpy()[clear])
    assert len(np.unique(tokens)) > 5


def test_real_sizes_give_the_published_numbers_of_tokens() -> None:
    sizes = {"picture": 384, "vision": {**VISION, "image_size": 384, "patch_size": 14}}
    sides = {scale: TaTokConfig(codes=65536, scale=scale, **sizes).grid[0] for scale in (1, 2, 3)}
    assert {scale: side * side for scale, side in sides.items()} == {1: 729, 2: 169, 3: 81}


def test_pictures_are_as_large_as_the_tower_was_made_for_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    unsaid = {key: value for key, value in CONFIG.items() if key != "picture"}
    for content, side in ((unsaid, 34), ({**CONFIG, "picture": 32}, 32)):  # 8 x 8 patches, too
        config = TaTokConfig.from_json(content, tmp_path, layout())
        assert config.picture == side
        assert TaTokConfig.from_json(config.to_json(), tmp_path, layout()) == config


def test_any_picture_is_squeezed_by_pillows_bicubic_filter(file: Path) -> None:
    tokenizer, wide = load(file), pictures(2, height=60, width=100, seed=3)
    squeezed = [Image.fromarray(picture).resize((34, 34), Image.Resampling.BICUBIC) for picture in wide]
    tokens = tokenizer.encode(wide)
    assert np.array_equal(tokens, tokenizer.encode(np.stack([np.asarray(one) for one in squeezed])))
    other = [np.asarray(Image.fromarray(picture).resize((34, 34), Image.Resampling.BILINEAR)) for picture in wide]
    assert not np.array_equal(tokens, tokenizer.encode(np.stack(other)))


def test_of_equal_codes_the_first_is_taken(weights: dict[str, Tensor], tmp_path: Path) -> None:
    table = weights["vision_tower.bottleneck.regularizer.embedding.weight"]
    twice = {**weights, "vision_tower.bottleneck.regularizer.embedding.weight": table[: CODES // 2].repeat(2, 1)}
    tokens = load(write(tmp_path, twice)).encode(pictures(2)) - START
    assert tokens.max() < CODES // 2


def test_a_picture_has_the_same_tokens_in_every_batch(file: Path) -> None:
    shown = pictures(5)
    alone = np.concatenate([load(file).encode(shown[i : i + 1]) for i in range(5)])
    for batch in (1, 2, 16):
        assert np.array_equal(load(file, batch=batch).encode(shown), alone)
    assert load(file).encode(shown[:0]).shape == (0, 64)


def test_sampled_codes_depend_on_their_own_seed_alone(file: Path) -> None:
    tokenizer, shown = load(file), pictures(3)
    drawn = tokenizer.encode(shown, [7, 8, 9])
    assert np.array_equal(drawn[1:], tokenizer.encode(shown[1:], [8, 9]))
    assert not np.array_equal(drawn, tokenizer.encode(shown, [17, 18, 19]))
    assert not np.array_equal(drawn, tokenizer.encode(shown))
    assert np.array_equal(load(file, temperature=1e-5).encode(shown, [7, 8, 9]), tokenizer.encode(shown))


def test_sampled_codes_are_as_frequent_as_their_softmax_says(file: Path, weights: dict[str, Tensor]) -> None:
    picture, repeats = pictures(1), 400
    drawn = load(file, 2, scale=3).encode(picture.repeat(repeats, 0), range(repeats)) - START
    expected_TK = (cosines(features(picture[0], double(weights)), double(weights), 3) / 0.03).softmax(-1).numpy()
    for tokens, expected in zip(drawn.T, expected_TK, strict=True):
        found = np.bincount(tokens, minlength=CODES) / repeats
        assert np.abs(found - expected).max() < 0.1  # four standard deviations


def test_bfloat16_weights_stay_bfloat16_in_the_tower_alone(weights: dict[str, Tensor], tmp_path: Path) -> None:
    half = {name: value.bfloat16() for name, value in weights.items()}
    file = write(tmp_path / "half", half)
    model = read_weights(file, TaTokConfig(CODES, VISION, 34), CPU)
    assert {value.dtype for value in model.encoder.parameters()} == {torch.bfloat16}
    assert model.encode_task_layer[0].weight.dtype == model.codebook_KC.dtype == torch.float32
    rounded = write(tmp_path / "rounded", {name: value.float() for name, value in half.items()})
    shown = pictures(4)
    same = load(file).encode(shown) == load(rounded).encode(shown)
    assert 0.6 < same.mean() < 1  # random codes lie close to each other


def test_weights_are_not_read_before_the_first_picture(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr(ta_tok, "read_weights", read)
    tokenizer = load(file).to("cpu")
    tokenizer.save(tmp_path / "copy.safetensors")
    with pytest.raises(AssertionError, match="read"):
        tokenizer.encode(pictures(1))


def test_what_nobody_reads_is_saved_as_well(file: Path, weights: dict[str, Tensor], tmp_path: Path) -> None:
    load(file).save(tmp_path / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == weights.keys()
    assert all(torch.equal(saved[name], value) for name, value in weights.items())
    load(file).save(file)  # onto itself
    assert load_file(file).keys() == weights.keys()
