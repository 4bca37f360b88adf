"""Damaged weight files are named before anything is loaded, and sound ones are not read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rl.preflight.weights import require_whole_weights
from rl.types import UserError

WEIGHTS = {part: f"{part}/model.safetensors" for part in ("ar", "connector", "image_tokenizer")}
WEIGHTS |= {part: f"{part}/diffusion_pytorch_model.safetensors" for part in ("transformer", "vae")}


@pytest.fixture
def policy(tiny_policy: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_policy, tmp_path / "policy")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as found:
        require_whole_weights(folder)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_sound_files_pass(policy: Path) -> None:
    require_whole_weights(policy)


@pytest.mark.parametrize("part", WEIGHTS)
def test_a_file_that_was_cut_off(policy: Path, part: str) -> None:
    file = policy / WEIGHTS[part]
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert refused(policy) == (
        f"{file} has {len(whole) - 100:,} bytes and should have {len(whole):,}; download it again."
    )


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", (1 << 40).to_bytes(8, "little") + b"{}"])
def test_a_file_of_something_else(policy: Path, content: bytes) -> None:
    file = policy / WEIGHTS["vae"]
    file.write_bytes(content)
    assert refused(policy) == f"{file} is no whole .safetensors file; download it again."


def test_weights_that_are_no_floats(policy: Path) -> None:
    file = policy / WEIGHTS["transformer"]
    tensors = load_file(file)
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name].to(torch.int8)}, file)
    assert refused(policy) == (
        f"{file}: {name} is stored as I8; weights are one of F64, F32, BF16, F16: copy the file from the model once "
        "more."
    )


def test_a_language_model_of_another_size_than_its_configuration(policy: Path) -> None:
    config = json.loads((policy / "ar" / "config.json").read_text())
    (policy / "ar" / "config.json").write_text(json.dumps(config | {"intermediate_size": 72}))
    message = refused(policy)
    assert f"{policy}/ar/model.safetensors: model.layers.0.mlp.gate_proj.weight has shape " in message
    assert f"config.json beside it makes it [72, {config['hidden_size']}]; use both from the same model." in message


def test_a_tensor_that_is_not_there(policy: Path) -> None:
    file = policy / WEIGHTS["ar"]
    tensors = load_file(file)
    del tensors["model.layers.1.self_attn.k_norm.weight"]
    save_file(tensors, file)
    assert refused(policy) == (
        f"{policy}/ar: model.layers.1.self_attn.k_norm.weight is missing in its .safetensors; copy the files from the "
        "model once more."
    )


def test_a_shard_that_is_not_there(policy: Path) -> None:
    file = policy / WEIGHTS["ar"]
    names = list(load_file(file))
    file.rename(policy / "ar" / "model-00001-of-00002.safetensors")
    shards = {name: f"model-0000{1 + index % 2}-of-00002.safetensors" for index, name in enumerate(names)}
    index = policy / "ar" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    assert refused(policy) == (
        f"{index} names model-00002-of-00002.safetensors, which is not in {policy}/ar; copy it from the model."
    )
