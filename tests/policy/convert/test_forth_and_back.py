"""A checkpoint in the original format becomes a policy that loads and paints, and comes back byte for byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, Qwen3ForCausalLM

from policy.base import Policy, load_decoder
from policy.convert.back import to_checkpoint
from policy.convert.to_policy import to_policy
from policy.export import export
from policy.folder import read_policy_config
from policy.paint import paint
from policy.trainable import WeightStream
from rl.card.front_matter import base_licence
from rl.registry import BUILT_IN
from tests.policy.convert.twin import START, make_twin

VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "reinforced, head left out": {"head": False, "model_type": "blip3o_qwen_grpo"},
    "a head of its own": {"tied": False},
    "one row more": {"stray": True},
    "float32": {"dtype": torch.float32, "files": 1},
    "float16": {"dtype": torch.float16},
    "editing": {"editing": True},
}


class NoTokenizer:
    """Stands where no picture is tokenised."""

    kind = "ta_tok"

    @classmethod
    def load(cls, *_: object) -> NoTokenizer:
        return cls()


@pytest.fixture
def known_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    if "ta_tok" not in BUILT_IN["image_tokenizers"]:
        monkeypatch.setitem(BUILT_IN["image_tokenizers"], "ta_tok", f"{__name__}:NoTokenizer")


def quiet(_: str) -> None: ...


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_nobody_trained_comes_back_byte_for_byte(variant: str, tmp_path: Path) -> None:
    twin = make_twin(tmp_path / "twin", **VARIANTS[variant])
    told: list[str] = []
    to_policy(twin, tmp_path / "policy", tell=told.append)
    layout, _ = read_policy_config(tmp_path / "policy")  # complete, and its parts fit each other
    assert layout.vocab_size == START + 64 + {"one row more": 1, "editing": 2}.get(variant, 0)
    assert any("picture editing" in line for line in told) == (variant == "editing")
    to_checkpoint(tmp_path / "policy", twin, tmp_path / "back", tell=told.append)
    assert files(tmp_path / "back") == files(twin)
    assert told[-1].startswith("trained tensors: ar 0 of 2") and told[-1].endswith(f"all others are those of {twin}")


def test_every_tensor_lies_in_its_part_under_its_name(made_twin: Path, made_policy: Path) -> None:
    prefixes = {
        "ar": "",
        "connector": "model.diffusion_connector.",
        "transformer": "model.sana.",
        "vae": "model.sana_vae.",
        "image_tokenizer": "model.vision_tower.",
    }
    found = {
        prefix + name: tensor
        for part, prefix in prefixes.items()
        for name, tensor in weights(made_policy / part).items()
    }
    wanted = weights(made_twin)
    assert found.keys() == wanted.keys() - {"lm_head.weight"}  # tied: the same table once more
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == torch.bfloat16 for name in found)


@pytest.mark.usefixtures("known_tokenizer")
def test_the_policy_loads_reads_prompts_as_the_original_and_paints(made_twin: Path, made_policy: Path) -> None:
    policy = Policy.load(made_policy)
    assert policy.ar.config.rope_parameters["rope_theta"] == 1_000_000
    assert policy.ar.lm_head.weight is policy.ar.model.embed_tokens.weight
    assert policy.layout.grid == (4, 4) and policy.layout.tokens_per_image == 16
    text = "a {red} <|im_end|> circle"
    tokenizer = AutoTokenizer.from_pretrained(made_twin)
    turns = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"Please generate image based on the following caption: {text}"},
    ]
    asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    assert policy.text_ids(text) == tuple(tokenizer(f"{asked}<im_start><S0>").input_ids)
    assert paint(policy, text, count=1, seed=0, steps=2, guidance=2.0).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("variant", ["one row more", "float32", "float16"])
def test_other_rows_and_types_paint(variant: str, tmp_path: Path) -> None:
    twin = make_twin(tmp_path / "twin", **VARIANTS[variant])
    to_policy(twin, tmp_path / "policy", tell=quiet)
    policy = Policy.load(tmp_path / "policy", dtype="bfloat16", decoder_dtype="float32")
    assert paint(policy, "a red circle", count=1, seed=0, steps=2, guidance=2.0).shape == (1, 64, 64, 3)
    stored = {tensor.dtype for tensor in weights(tmp_path / "policy" / "ar").values()}
    assert stored == {VARIANTS[variant].get("dtype", torch.bfloat16)}


def test_the_parts_compute_what_the_originals_do(made_twin: Path, made_policy: Path) -> None:
    tensors = weights(made_twin)
    decoder = load_decoder(made_policy, torch.bfloat16, "cpu")
    for prefix, module in {
        "model.diffusion_connector.": decoder.connector,
        "model.sana.": decoder.transformer,
        "model.sana_vae.": decoder.vae,
    }.items():
        state = module.state_dict()
        assert {prefix + name for name in state} == {name for name in tensors if name.startswith(prefix)}
        assert all(torch.equal(value, tensors[prefix + name]) for name, value in state.items())
    assert decoder.scheduler.config.shift == 1.0
    assert decoder.latent_shape == (4, 4, 4)
    both = [Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (made_twin, made_policy / "ar")]
    with torch.no_grad():
        logits = [model(torch.arange(START, START + 40)[None]).logits for model in both]
    assert torch.equal(*logits)


@pytest.mark.parametrize("head", [True, False])
def test_trained_weights_come_back_under_their_names_in_their_type(head: bool, tmp_path: Path) -> None:
    twin = make_twin(tmp_path / "twin", head=head)
    to_policy(twin, tmp_path / "policy", tell=quiet)
    model = Qwen3ForCausalLM.from_pretrained(tmp_path / "policy" / "ar", dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    trained = export(tmp_path / "policy", {"ar": WeightStream.of(model.state_dict().items())}, tmp_path / "trained")
    told: list[str] = []
    to_checkpoint(trained, twin, tmp_path / "back", tell=told.append)
    before, after = weights(twin), weights(tmp_path / "back")
    assert after.keys() == before.keys() and ("lm_head.weight" in after) == head
    state = model.state_dict()
    for name, tensor in after.items():
        wanted = state[name].to(torch.bfloat16) if name in state else before[name]
        assert torch.equal(tensor, wanted), name
    if head:
        assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])
    count = 24 + head
    assert told[-1].startswith(f"trained tensors: ar {count} of {count}, connector 0 of 5, transformer 0 of 39; all")
    _, info = Qwen3ForCausalLM.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not info["missing_keys"]


def test_weights_saved_in_another_type_come_back_in_the_sources(twin: Path, policy: Path, tmp_path: Path) -> None:
    """A policy kept in float32: what nobody changed has the source's bytes, what somebody changed is rounded once."""
    for part, file in {
        "ar": "model",
        "transformer": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
    }.items():
        path = policy / part / f"{file}.safetensors"
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
        if part == "transformer":
            tensors["proj_out.bias"] += 1 / 3
        save_file(tensors, path)
    to_checkpoint(policy, twin, tmp_path / "back", tell=quiet)
    before, after = weights(twin), weights(tmp_path / "back")
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"model.sana.proj_out.bias"}
    changed = before["model.sana.proj_out.bias"].float() + 1 / 3
    assert torch.equal(after["model.sana.proj_out.bias"], changed.to(torch.bfloat16))


def test_a_policy_rounded_below_its_source_does_not_round_what_nobody_changed(tmp_path: Path) -> None:
    twin = make_twin(tmp_path / "twin", dtype=torch.float32)
    to_policy(twin, tmp_path / "policy", tell=quiet)
    path = tmp_path / "policy" / "connector" / "model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load_file(path).items()}, path)
    to_checkpoint(tmp_path / "policy", twin, tmp_path / "back", tell=quiet)
    assert files(tmp_path / "back") == files(twin)


def test_a_tied_head_with_values_of_its_own_counts_nothing(twin: Path, tmp_path: Path) -> None:
    (path,) = [file for file in twin.glob("*.safetensors") if "lm_head.weight" in load_file(file)]
    tensors = load_file(path)
    tensors["lm_head.weight"] += 1
    save_file(tensors, path)
    told: list[str] = []
    to_policy(twin, tmp_path / "policy", tell=told.append)
    assert told[-1] == (
        "note: config.json ties lm_head.weight to model.embed_tokens.weight, so its other values in the checkpoint "
        "count nothing"
    )
    assert "lm_head.weight" not in weights(tmp_path / "policy" / "ar")


def test_a_policy_that_stores_its_tied_head_goes_back_to_a_source_without(tmp_path: Path) -> None:
    twin = make_twin(tmp_path / "twin", head=False)
    to_policy(twin, tmp_path / "policy", tell=quiet)
    path = tmp_path / "policy" / "ar" / "model.safetensors"
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)
    to_checkpoint(tmp_path / "policy", twin, tmp_path / "back", tell=quiet)
    assert files(tmp_path / "back") == files(twin)


def test_card_and_licence_of_the_checkpoint_stay_with_the_policy(twin: Path, tmp_path: Path) -> None:
    (twin / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (twin / "LICENSE").write_text("Apache")
    to_policy(twin, tmp_path / "policy", tell=quiet)
    assert base_licence(tmp_path / "policy") == {"license": "apache-2.0"}
    assert (tmp_path / "policy" / "LICENSE").read_text() == "Apache"


def test_configurations_of_the_parts_may_lie_elsewhere(twin: Path, tmp_path: Path) -> None:
    for part in ("transformer", "vae", "image_tokenizer"):
        (tmp_path / "parts").mkdir(exist_ok=True)
        shutil.move(twin / part, tmp_path / "parts" / part)
    to_policy(twin, tmp_path / "policy", tmp_path / "parts", tell=quiet)
    written = json.loads((tmp_path / "policy" / "vae" / "config.json").read_text())
    assert written == json.loads((tmp_path / "parts" / "vae" / "config.json").read_text())
