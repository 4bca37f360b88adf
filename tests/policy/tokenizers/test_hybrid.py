"""The hybrid tokenizer: TA-Tok's codes from TA-Tok's file, features for reading from the same encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from policy.base import load_image_tokenizer
from policy.json_file import write_json
from policy.tokenizers.hybrid import HybridEncoder, HybridTokenizer, merged
from policy.tokenizers.hybrid_config import HybridConfig
from policy.tokenizers.ta_tok import TaTok
from rl.types import UserError
from tests.policy.tokenizers import tiny_ta_tok as tiny

OF_TA_TOK: dict[str, Any] = {
    "kind": "hybrid",
    "codes": tiny.CODES,
    "vision": tiny.VISION,
    "hidden": tiny.VISION["hidden_size"],
    "width": 24,
    "reads": 40,
}
MERGED = {**OF_TA_TOK, "merge": 2, "hidden": 20}
KINDS: dict[str, dict[str, Any]] = {
    "simvq": MERGED,
    "vq": {**MERGED, "quantiser": "vq"},
    "fsq": {**MERGED, "quantiser": "fsq", "levels": [8, 4, 4], "width": 0},
}


def made(config: dict[str, Any], folder: Path, side: int = 4) -> HybridTokenizer:
    """With random weights, in a file."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = HybridConfig.from_json(config, folder / "config.json", tiny.layout(side))
    torch.manual_seed(0)
    tokenizer = HybridTokenizer(settings, HybridEncoder(settings).eval(), tiny.START)
    write_json(folder / "config.json", tokenizer.config())
    tokenizer.save(folder / "model.safetensors")
    return tokenizer


def test_a_file_of_ta_tok_makes_its_codes_and_a_new_adapter_to_read(tmp_path: Path) -> None:
    file = tiny.write(tmp_path, tiny.tensors())
    pictures = tiny.pictures(5, 50, 34)
    codes = TaTok.load(file, tiny.CONFIG, tiny.layout()).encode(pictures)
    hybrid = HybridTokenizer.load(file, OF_TA_TOK, tiny.layout())
    assert (hybrid.encode(pictures) == codes).all() and len(np.unique(codes)) > 20
    read = hybrid.features(pictures)
    assert read.shape == (5, 64, 40)
    assert (read == HybridTokenizer.load(file, OF_TA_TOK, tiny.layout()).features(pictures)).all()  # a fixed seed
    hybrid.save(tmp_path / "own.safetensors")
    again = HybridTokenizer.load(tmp_path / "own.safetensors", OF_TA_TOK, tiny.layout())
    assert (again.encode(pictures) == codes).all() and (again.features(pictures) == read).all()


@pytest.mark.parametrize("kind", list(KINDS))
def test_it_is_written_and_read_again_as_part_of_a_policy(kind: str, tmp_path: Path) -> None:
    tokenizer = made(KINDS[kind], tmp_path / "image_tokenizer")
    again = load_image_tokenizer(tmp_path, tiny.layout(4))
    assert isinstance(again, HybridTokenizer) and again.config() == tokenizer.config()
    pictures = tiny.pictures(19)
    codes = again.encode(pictures)
    assert codes.shape == (19, 16) and codes.dtype == np.int64
    assert (codes == tokenizer.encode(pictures)).all() and (codes[3:4] == again.encode(pictures[3:4])).all()
    assert codes.min() >= tiny.START and codes.max() < tiny.START + tiny.CODES
    assert torch.allclose(again.features(pictures), tokenizer.features(pictures))


def test_neighbours_are_put_side_by_side() -> None:
    grid = torch.arange(16.0).view(1, 16, 1)  # 4 x 4 in raster order
    assert merged(grid, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]
    assert merged(grid, 1) is grid


@pytest.mark.parametrize("kind", list(KINDS))
def test_both_branches_teach_the_encoder(kind: str, tmp_path: Path) -> None:
    encoder = made(KINDS[kind], tmp_path).encoder.requires_grad_(True)
    pixels = torch.rand(2, 3, 34, 34) * 2 - 1
    for branch in ("written", "read"):
        encoder.zero_grad()
        seen = encoder(pixels)
        shown = seen.written.vectors if branch == "written" else seen.read_BTD
        (shown * torch.arange(shown.shape[-1])).sum().backward()
        grad = encoder.encoder.embeddings.patch_embedding.weight.grad
        assert grad is not None and grad.abs().max() > 0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"codes": 64}, "codes is 64, but the layout has num_image_tokens 128; use the tokenizer that the policy was"),
        ({"merge": 1}, "34 px in patches of 4 merged 1 x 1 are 8x8 tokens, but the layout's grid is 4x4; change merge"),
        ({"quantiser": "rvq"}, "quantiser is 'rvq'; write one of fsq, simvq, vq"),
        ({"quantiser": "fsq", "levels": [8, 8]}, "levels 8 x 8 are 64 codes, and codes is 128; make them the same"),
        ({"width": 0}, "width is 0; write how many numbers a code of simvq has"),
        ({"merges": 2}, "there is no key merges, did you mean 'merge'?; take it out or rename it"),
    ],
)
def test_settings_that_do_not_fit_are_told(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        HybridConfig.from_json({**MERGED, **change}, tmp_path / "config.json", tiny.layout(4))
    assert str(caught.value).startswith(f"{tmp_path}/config.json: {sentence}")


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    made(MERGED, tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)

    def told(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, file)
        with pytest.raises(UserError) as caught:
            HybridTokenizer.load(file, MERGED, tiny.layout(4))
        return str(caught.value)

    assert "discrete.0.weight has shape [1, 2], but config.json beside it makes it [20, 192]" in told(
        {**weights, "discrete.0.weight": torch.zeros(1, 2)}
    )
    without = {name: tensor for name, tensor in weights.items() if name != "quantiser.table.weight"}
    assert told(without).endswith("quantiser.table.weight is missing; copy the file from the model once more.")
    deeper = tiny.write(tmp_path, tiny.tensors({**tiny.VISION, "num_hidden_layers": 4}))
    with pytest.raises(UserError, match="is of a layer beyond vision.num_hidden_layers"):
        HybridTokenizer.load(deeper, OF_TA_TOK, tiny.layout())
    file.write_bytes(b"no weights")
    with pytest.raises(UserError, match="cannot be read"):
        HybridTokenizer.load(file, MERGED, replace(tiny.layout(4)))
