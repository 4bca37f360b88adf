"""The published 3B model by its names and shapes alone: every tensor has one place, and the presets fit all of them."""

from __future__ import annotations

import json
import os
import shutil
from math import prod
from pathlib import Path

import pytest
from transformers import Siglip2VisionConfig, Siglip2VisionModel

from policy.convert.blip3o_next import Blip3oNext
from policy.convert.checks import check_shapes
from policy.convert.keys import PREFIXES, sort_keys
from policy.convert.to_policy import to_policy
from policy.convert.tokenizer_files import check_tokenizer
from rl.types import UserError
from tests.policy.convert.published import VOCABULARY, published_shapes

QWEN3 = {
    "architectures": ["blip3oQwenForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
IDS = {
    "image_start_tag_id": 151669,
    "image_end_tag_id": 151670,
    "scale_start_token_id": 151671,
    "scale_end_token_id": 151673,
    "image_start_token_id": 151674,
    "image_end_token_id": 217209,
}


def sparse_checkpoint(folder: Path, *, head: bool, vocabulary: int = VOCABULARY) -> Path:
    """Files of their true length, with headers and holes: 9 GB that take no room."""
    folder.mkdir()
    shapes = sorted(published_shapes(head=head, vocabulary=vocabulary).items())
    weight_map = {}
    for number, part in enumerate((shapes[:700], shapes[700:]), 1):
        name, end, header = f"model-{number:05d}-of-00002.safetensors", 0, {}
        for key, shape in part:
            begin, end = end, end + 2 * prod(shape)
            header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header).encode()
        (folder / name).write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(folder / name, 8 + len(text) + end)
        weight_map |= dict.fromkeys(header, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps({**QWEN3, **IDS, "vocab_size": vocabulary}))
    tokens = {"<im_start>": 151669, "<im_end>": 151670, "<S0>": 151671, "<I0>": 151674, "<I65535>": 217209}
    added = [{"content": content, "id": number} for content, number in tokens.items()]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    (folder / "tokenizer_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(("head", "vocabulary"), [(True, VOCABULARY), (False, VOCABULARY), (True, VOCABULARY + 1)])
def test_every_tensor_has_a_place_of_its_shape(head: bool, vocabulary: int, tmp_path: Path) -> None:
    source = Blip3oNext.read(sparse_checkpoint(tmp_path / "sft", head=head, vocabulary=vocabulary), tmp_path)
    check_shapes(source)
    layout = source.layout()
    check_tokenizer(source.folder, layout, source.scale)
    assert (layout.grid, layout.tokens_per_image, layout.num_image_tokens) == ((27, 27), 729, 65536)
    assert (layout.im_start_id, layout.im_end_id, layout.scale_id, layout.image_start_id) == (
        *range(151669, 151672),
        151674,
    )
    assert source.language_model_config["rope_parameters"]["rope_theta"] == 1_000_000
    counts = {part: len(tensors) for part, tensors in source.parts.items()}
    assert counts == {"ar": 310 + head, "connector": 5, "transformer": 476, "vae": 375, "image_tokenizer": 527}


def test_every_key_goes_to_exactly_one_place() -> None:
    shapes = published_shapes()
    found = sort_keys(shapes)
    assert (found.unknown, found.unread) == ([], [])
    assert sorted(PREFIXES[part] + name for part, names in found.parts.items() for name in names) == sorted(shapes)
    assert sum(map(prod, shapes.values())) == 4_817_060_361
    assert sum(map(prod, published_shapes(head=False).values())) == 4_372_214_281


def test_a_disk_too_small_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twin = sparse_checkpoint(tmp_path / "sft", head=True)
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError) as caught:
        to_policy(twin, tmp_path / "new" / "policy", tell=lambda _: None)
    assert str(caught.value) == (
        f"{tmp_path}/new/policy would take 8.78 GB and the disk of {tmp_path} has 5.00 GB free; free some space, or "
        f"name a folder on another disk."
    )
    assert not (tmp_path / "new").exists()


def test_the_way_back_from_codes_to_features_is_known_though_nobody_reads_it() -> None:
    import torch

    config = Siglip2VisionConfig(
        hidden_size=1152,
        intermediate_size=3072,
        num_attention_heads=12,
        num_channels=1536,
        num_hidden_layers=3,
        num_patches=256,
        patch_size=1,
    )
    with torch.device("meta"):
        state = Siglip2VisionModel(config).state_dict()
    prefix = "model.vision_tower.vision_tower.decoder.vision_model."
    wanted = {prefix + name: tuple(value.shape) for name, value in state.items()}
    assert wanted.items() <= published_shapes().items()
