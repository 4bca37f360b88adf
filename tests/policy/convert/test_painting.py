"""Painting against a reference written here from the published formulas: its own condition, guidance and Euler steps.

Of the libraries it takes the networks alone: no scheduler, no pipeline, no cache, no batch of prompts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer, Qwen3ForCausalLM

from policy.base import Policy
from policy.paint import paint
from rl.registry import resolve
from rl.types import Prompt

STEPS, GUIDANCE, SEEDS = 30, 2.0, [7, 8]
ASKS = ["a red circle", "a much longer {prompt} <|im_end|> with two blue squares"]


class Reference:
    """The original's order of things, in float32, one picture at a time, straight from the checkpoint's own names."""

    def __init__(self, checkpoint: Path) -> None:
        tensors = {
            name: one.float() for file in checkpoint.glob("*.safetensors") for name, one in load_file(file).items()
        }
        self.connector = _under("model.diffusion_connector.", tensors)
        self.ar = Qwen3ForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
        self.sana = SanaTransformer2DModel.from_config(SanaTransformer2DModel.load_config(checkpoint / "transformer"))
        self.sana.load_state_dict(_under("model.sana.", tensors))
        self.vae = AutoencoderDC.from_config(AutoencoderDC.load_config(checkpoint / "vae"))
        self.vae.load_state_dict(_under("model.sana_vae.", tensors))
        self.tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.timesteps: list[float] = []

    def condition(self, ask: str, codes: list[int]) -> Tensor:
        """(1, T + 1, D): what the model thought at <S0> and at each image token, after its final norm."""
        turns = [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"Please generate image based on the following caption: {ask}"},
        ]
        text = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        ids = [*self.tokenizer(f"{text}<im_start><S0>").input_ids, *codes]
        hidden = self.ar(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        return hidden[:, ids.index(self.tokenizer.convert_tokens_to_ids("<im_start>")) + 1 :]

    def connect(self, hidden: Tensor) -> Tensor:
        inner = functional.linear(hidden, self.connector["0.weight"], self.connector["0.bias"])
        cubed = inner + 0.044715 * inner**3
        inner = 0.5 * inner * (1 + torch.tanh((2 / torch.pi) ** 0.5 * cubed))
        outer = functional.linear(inner, self.connector["2.weight"], self.connector["2.bias"])
        return self.connector["3.weight"] * outer / (outer.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    def picture(self, hidden: Tensor, seed: int, *, guidance: float, shift: float) -> Tensor:
        """(3, H, W) in 0..1."""
        side = self.sana.config.sample_size
        latents = torch.randn(
            1, self.sana.config.in_channels, side, side, generator=torch.Generator().manual_seed(seed)
        )
        both = self.connect(torch.cat([torch.zeros_like(hidden), hidden]))
        sigmas = [1 - step * (1 - 1 / STEPS) / (STEPS - 1) for step in range(STEPS)]
        sigmas = [shift * sigma / (1 + (shift - 1) * sigma) for sigma in sigmas]
        self.timesteps = [1000 * sigma for sigma in sigmas]
        for sigma, following in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            time = torch.full((2,), 1000 * sigma)
            without, given = self.sana(latents.repeat(2, 1, 1, 1), both, time, return_dict=False)[0].chunk(2)
            latents = latents + (following - sigma) * (without + guidance * (given - without))
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]
        return (decoded[0] / 2 + 0.5).clamp(0, 1)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}


@pytest.fixture(scope="module")
def reference(made_twin: Path) -> Reference:
    return Reference(made_twin)


@pytest.fixture
def policy(made_policy: Path) -> Policy:
    return Policy.load(made_policy)


@pytest.fixture
def decoded(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the autoencoder made, before it is rounded to 256 levels."""
    found: list[Tensor] = []
    decode = policy.decoder.vae.decode

    def keep(*given: Any, **more: Any) -> Any:
        answer = decode(*given, **more)
        found.extend((answer[0] / 2 + 0.5).clamp(0, 1))
        return answer

    monkeypatch.setattr(policy.decoder.vae, "decode", keep)
    return found


@pytest.mark.parametrize(("guidance", "shift"), [(GUIDANCE, 1.0), (1.0, 1.0), (3.5, 3.0)])
@torch.no_grad()
def test_pictures_are_those_of_the_formulas(
    guidance: float, shift: float, reference: Reference, policy: Policy, decoded: list[Tensor]
) -> None:
    """Two prompts of different length in one batch: nobody sees the other, or its padding."""
    policy.decoder.scheduler = FlowMatchEulerDiscreteScheduler.from_config(policy.decoder.scheduler.config, shift=shift)
    sampler = resolve("samplers", "torch")(policy.folder, policy.layout, encode=policy.encode_prompt)
    rollout = sampler.sample([Prompt(ask, ask) for ask in ASKS], 1, SEEDS, hidden=True)
    pictures = policy.decoder.paint(rollout.hidden_BSD, SEEDS, steps=STEPS, guidance=guidance)
    for index, ask in enumerate(ASKS):
        hidden = reference.condition(ask, rollout.tokens_BT[index].tolist())
        wanted = reference.picture(hidden, SEEDS[index], guidance=guidance, shift=shift)
        assert wanted.std() > 0.01
        assert (decoded[index] - wanted).abs().max() < 1e-5
        off = torch.from_numpy(pictures[index]).permute(2, 0, 1).float() - 255 * wanted
        assert off.abs().max() < 0.51


def test_the_command_paints_the_same(reference: Reference, policy: Policy, decoded: list[Tensor]) -> None:
    paint(policy, ASKS[0], count=1, seed=7, steps=STEPS, guidance=GUIDANCE)
    sampler = resolve("samplers", "torch")(policy.folder, policy.layout, encode=policy.encode_prompt)
    tokens = sampler.sample([Prompt("one", ASKS[0])], 1, [7]).tokens_BT[0].tolist()
    with torch.no_grad():
        wanted = reference.picture(reference.condition(ASKS[0], tokens), 7, guidance=GUIDANCE, shift=1.0)
    assert (decoded[0] - wanted).abs().max() < 1e-5


def test_times_reach_the_network_in_float32_when_it_computes_in_bfloat16(made_policy: Path) -> None:
    decoder = Policy.load(made_policy, dtype="bfloat16").decoder
    seen: list[Tensor] = []

    def note(_: object, __: object, given: dict[str, Any]) -> None:
        seen.append(given["timestep"])
        assert given["encoder_hidden_states"].dtype == torch.bfloat16

    decoder.transformer.register_forward_pre_hook(note, with_kwargs=True)
    decoder.paint(torch.zeros(1, 17, 32), [0], steps=STEPS)
    assert {one.dtype for one in seen} == {torch.float32}
    assert [round(float(one[0]), 2) for one in seen[:2]] == [1000.0, 966.67] and len(seen) == STEPS
    assert round(float(seen[-1][0]), 2) == 33.33
