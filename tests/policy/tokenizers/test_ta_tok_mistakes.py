"""A wrong setting or file of a TA-Tok is one sentence: where, what, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.tokenizers.ta_tok import TaTok
from rl.types import UserError
from tests.policy.tokenizers.tiny_ta_tok import CODES, CONFIG, VISION, layout, tensors, write


def vision(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, "vision": {**VISION, **changes}}


WITHOUT_HEADS = {key: value for key, value in VISION.items() if key != "num_attention_heads"}
SETTINGS = {
    "no vision": ({"kind": "ta_tok", "codes": 8}, "vision is missing; copy it from the model."),
    "a list": (
        {**CONFIG, "vision": [1]},
        "vision must hold the fields of a SiglipVisionConfig; copy them from the model.",
    ),
    "a typing error": (
        {**CONFIG, "sclae": 2},
        "there is no key sclae, did you mean 'scale'?; take it out or rename it.",
    ),
    "in vision": (
        vision(hidden_atc="gelu"),
        "there is no key vision.hidden_atc, did you mean 'hidden_act'?; take it out or rename it.",
    ),
    "no heads": ({**CONFIG, "vision": WITHOUT_HEADS}, "vision.num_attention_heads is missing; copy it from the model."),
    "half a code": ({**CONFIG, "codes": 1.5}, "codes is 1.5; write a whole number above 0."),
    "no batch": ({**CONFIG, "batch": 0}, "batch is 0; write a whole number above 0."),
    "a word": (vision(hidden_size="many"), "vision.hidden_size is 'many'; write a whole number above 0."),
    "of another type": (
        vision(layer_norm_eps="small"),
        "vision: Validation error for field 'layer_norm_eps': TypeError: Field 'layer_norm_eps' expected float, got "
        "str (value: 'small'); copy it from the model.",
    ),
    "activation": (
        vision(hidden_act="gelu_pytorch_tan"),
        "vision.hidden_act 'gelu_pytorch_tan' is unknown, did you mean 'gelu_pytorch_tanh'?.",
    ),
    "heads": (vision(num_attention_heads=5), "vision.hidden_size 48 is no multiple of num_attention_heads 5."),
    "one layer": (
        vision(num_hidden_layers=1),
        "vision.num_hidden_layers is 1; write 2 or more, codes come from the last but one.",
    ),
    "another size": (
        {**CONFIG, "picture": 64},
        "picture 64 makes 16 patches a side, but vision.image_size 34 has positions for 8; write picture: 34.",
    ),
    "cold": ({**CONFIG, "temperature": 0}, "temperature is 0; write a number above 0."),
    "scale": ({**CONFIG, "scale": 4}, "scale is 4; write 1, 2 or 3, as many as there are scale tokens."),
    "grid": (
        {**CONFIG, "scale": 2},
        "34 px in patches of 4 at scale 2 are 4x4 tokens, but the layout's grid is 8x8; change scale here, or grid and "
        "tokens_per_image in policy.json.",
    ),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_a_wrong_setting(case: str, tmp_path: Path) -> None:
    config, said = SETTINGS[case]
    with pytest.raises(UserError) as caught:
        TaTok.load(tmp_path / "model.safetensors", config, layout())
    assert str(caught.value) == f"{tmp_path / 'config.json'}: {said}"


TABLE = "vision_tower.bottleneck.regularizer.embedding.weight"
FIRST = "vision_tower.encoder.embeddings.patch_embedding.weight"


def without(*names: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors().items() if not name.startswith(names)}


FILES = {
    "one missing": (
        without("vision_tower.encode_task_layer.0.bias"),
        "vision_tower.encode_task_layer.0.bias is missing; copy the file from the model once more.",
    ),
    "many missing": (
        without("vision_tower.encoder.encoder.layers.1."),
        "vision_tower.encoder.encoder.layers.1.layer_norm1.weight is missing (and 15 more); copy the file from the "
        "model once more.",
    ),
    "no table": (without(TABLE), f"{TABLE} is missing or no table; copy the file from the model once more."),
    "other names": (
        {name.removeprefix("vision_tower."): value for name, value in tensors().items()},
        f"{TABLE} is missing or no table; copy the file from the model once more.",
    ),
    "other codes": (
        {**tensors(), TABLE: torch.zeros(CODES - 1, 24)},
        f"{TABLE} has shape [127, 24], but config.json beside it makes it [128, 24]; use both from the same model.",
    ),
    "other patches": (
        {**tensors(), FIRST: torch.zeros(48, 3, 5, 5)},
        f"{FIRST} has shape [48, 3, 5, 5], but config.json beside it makes it [48, 3, 4, 4]; use both from the same "
        "model.",
    ),
    "whole numbers": (
        {**tensors(), FIRST: torch.zeros(48, 3, 4, 4, dtype=torch.int8)},
        f"{FIRST} is of type I8; store it as one of ['F32', 'BF16', 'F16'].",
    ),
    "more layers": (
        tensors({**VISION, "num_hidden_layers": 4}),
        "the tower has more than the 3 layers of vision.num_hidden_layers in config.json beside it; use both from the "
        "same model.",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_wrong_file(case: str, tmp_path: Path) -> None:
    weights, said = FILES[case]
    file = write(tmp_path, weights)
    with pytest.raises(UserError) as caught:
        TaTok.load(file, CONFIG, layout())
    assert str(caught.value) == f"{file}: {said}"


def test_a_file_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with pytest.raises(
        UserError, match=r"model\.safetensors: cannot be read \(.*\); copy the file from the model once"
    ):
        TaTok.load(file, CONFIG, layout())
    file.write_bytes(b"a pointer to the weights, not the weights")
    with pytest.raises(
        UserError, match=r"model\.safetensors: cannot be read \(.*\); copy the file from the model once"
    ):
        TaTok.load(file, CONFIG, layout())
