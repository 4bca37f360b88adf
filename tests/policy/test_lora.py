"""Adapters on any module: what they add, what they leave alone, what goes out of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM

from policy.ar.forward import image_forward
from policy.ar.layers import LayerHalves
from policy.export import export_adapter
from policy.lora.adapters import Lora, add_lora, with_neighbours
from policy.lora.targets import adapter_parameters, chosen_layers, linear_layers
from policy.shapes.model import make_transformer
from policy.trainable import LanguageModel
from rl.config.sections.lora import LoraSettings
from rl.types import UserError
from tests.rl.trainer.trainer_case import LAYOUT, tiny_ar

PROMPTS = [(3, 4, 26, 25), (3, 26, 25)]
TOKENS_BT = torch.tensor([[28, 30, 59, 40], [33, 33, 41, 28]])


def adapted(targets: tuple[str, ...] = ("q_proj", "down_proj"), amount: float = 0.1) -> tuple[Qwen3ForCausalLM, Lora]:
    """A tiny language model whose adapters are not zero any more."""
    ar = tiny_ar()
    lora = add_lora(ar, LoraSettings(rank=3, alpha=6, targets=targets), without=("lm_head",))
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_(std=amount)
    return ar, lora


def logprobs(ar: Qwen3ForCausalLM, **options: Any) -> torch.Tensor:
    return image_forward(ar, LAYOUT.image, PROMPTS, TOKENS_BT, **options).logprobs_BT


def test_new_adapters_add_nothing_and_depend_on_their_seed_alone() -> None:
    found = []
    for noise in (1, 2):
        ar = tiny_ar()
        expected = logprobs(ar)
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        lora = add_lora(ar, LoraSettings(), seed=5, without=("lm_head",))
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(logprobs(ar), expected)
        found.append([parameter.detach().clone() for parameter in lora.parameters()])
    assert len(found[0]) == 2 * 2 * 7  # A and B of seven layers in two blocks
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_the_layers_in_two_halves_see_what_transformers_sees() -> None:
    ar, lora = adapted()
    with torch.no_grad():
        ids = torch.tensor([[*PROMPTS[0], *TOKENS_BT[0].tolist()]])
        logits = ar(ids).logits[0, 3:7, LAYOUT.image_start_id : LAYOUT.image_end_id]  # peft's own forward
        expected = logits.log_softmax(-1).gather(1, TOKENS_BT[0][:, None] - LAYOUT.image_start_id)[:, 0]
        torch.testing.assert_close(logprobs(ar)[0], expected, atol=1e-6, rtol=1e-6)
        with lora.off():
            assert (logprobs(ar)[0] - expected).abs().max() > 1e-3


def test_merged_weights_are_summed_out_of_place() -> None:
    ar, lora = adapted()
    base = tiny_ar().state_dict()
    names = {weight.name: weight for weight in lora.weights()}
    assert names.keys() == base.keys()
    merged = {name: weight.value() for name, weight in names.items()}
    layer = ar.model.layers[1].self_attn.q_proj
    by_hand = layer.base_layer.weight + 2.0 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(merged["model.layers.1.self_attn.q_proj.weight"], by_hand.detach(), atol=1e-7, rtol=0)
    assert names["model.layers.0.mlp.down_proj.weight"].adapted and not names["lm_head.weight"].adapted
    assert all(torch.equal(weight.parts[0], base[name]) for name, weight in names.items())  # W itself as it was

    plain = tiny_ar()
    plain.load_state_dict(merged)
    torch.testing.assert_close(logprobs(plain), logprobs(ar), atol=2e-6, rtol=1e-5)


def test_a_sum_in_bfloat16_is_rounded_once() -> None:
    ar, lora = adapted(amount=0.02)
    ar.to(torch.bfloat16)
    weight = next(weight for weight in lora.weights() if weight.adapted)
    base, down, up = (part.detach().double() for part in weight.parts)
    exact = base + 2.0 * (up @ down)
    assert torch.equal(weight.value(), exact.float().bfloat16()) and weight.value().dtype == torch.bfloat16


def test_an_adapter_folder_is_one_of_peft(tmp_path: Path) -> None:
    from peft import PeftModel

    ar, lora = adapted()
    adapter = LanguageModel(ar, LAYOUT.image, lora=lora).adapters()["ar"]
    for _ in range(2):  # the second export replaces the first
        out = export_adapter("owner/model", adapter, tmp_path / "adapter")
    said = json.loads((out / "adapter_config.json").read_text())
    assert (said["r"], said["lora_alpha"], said["base_model_name_or_path"]) == (3, 6, "owner/model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    loaded = PeftModel.from_pretrained(tiny_ar(), out).eval()
    with torch.no_grad():
        ids = torch.tensor([[3, 4, 26, 25, 28, 30]])
        torch.testing.assert_close(loaded(ids).logits, ar(ids).logits, atol=0, rtol=0)


def test_an_adapter_names_a_folder_as_the_configuration_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = LanguageModel((pair := adapted())[0], LAYOUT.image, lora=pair[1]).adapters()["ar"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "base" / "ar").mkdir(parents=True)
    out = export_adapter("models/base", adapter, tmp_path / "adapter")
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "models/base/ar"


def test_the_attention_of_a_decoder_takes_adapters_too() -> None:
    transformer = make_transformer().eval()
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    lora = add_lora(transformer, LoraSettings(rank=2, targets=("attn2.to_q", "attn1.to_out.0")))
    assert len(lora.parameters()) == 2 * 2 * len(transformer.transformer_blocks)
    merged = {weight.name: weight.value() for weight in lora.weights()}
    assert merged.keys() == before.keys()
    assert all(torch.equal(merged[name], before[name]) for name in before)
    with pytest.raises(
        UserError, match=r"called 'attn1.to_u', did you mean 'attn1.to_.'. .there are:.*to_q.*to_out\.0"
    ):
        add_lora(make_transformer(), LoraSettings(targets=("attn1.to_u",)))


def test_targets_are_found_in_the_header_of_a_checkpoint(tiny_policy: Path) -> None:
    layers = linear_layers(tiny_policy / "ar")
    assert len(layers) == 2 * 7 and layers["model.layers.0.self_attn.k_proj"] == (32, 96)
    assert chosen_layers(["mlp.up_proj"], layers) == [f"model.layers.{index}.mlp.up_proj" for index in (0, 1)]
    assert adapter_parameters(LoraSettings(rank=2, targets=("k_proj",)), layers) == 2 * 2 * (32 + 96)
    with pytest.raises(UserError) as caught:
        chosen_layers(["q_proj", "kproj"], layers)
    assert str(caught.value) == (
        "train.lora.targets: no linear layer that can be adapted is called 'kproj', did you mean 'k_proj'? "
        "(there are: down_proj, gate_proj, up_proj, k_proj, o_proj, q_proj, v_proj)"
    )
    for wrong in ("lm_head", "proj", "embed_tokens"):
        with pytest.raises(UserError, match=f"called '{wrong}'"):
            chosen_layers([wrong], layers)


def test_what_changes_comes_with_what_engines_pack_beside_it() -> None:
    _, lora = adapted(("q_proj",))
    names = [weight.name.removeprefix("model.layers.") for weight in with_neighbours(lora.weights())]
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj")
    assert {f"{index}.self_attn.{kind}.weight" for index in (0, 1) for kind in kinds} <= set(names)
    assert not any("mlp" in name or "layernorm" in name or "lm_head" in name for name in names)


@pytest.mark.slow
def test_compiled_layers_take_adapters() -> None:
    ar, lora = adapted()
    for parameter in ar.parameters():
        parameter.requires_grad_(False)
    grads = []
    for halves in (LayerHalves(), LayerHalves.compiled()):
        for parameter in lora.parameters():
            parameter.requires_grad_(True).grad = None
        found = logprobs(ar, halves=halves)
        found.sum().backward()
        grads.append((found.detach(), [parameter.grad for parameter in lora.parameters()]))
        with lora.off(), torch.no_grad():
            torch.testing.assert_close(logprobs(ar, halves=halves), logprobs(tiny_ar()), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(grads[1], grads[0], atol=2e-6, rtol=1e-5)
