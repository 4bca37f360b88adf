"""Qwen3 inside vLLM that can only write image tokens.

The mask sits in the model, not in a sampling parameter: ``compute_logits`` multiplies the image rows of the lm_head
only and leaves every other word at -inf. So it holds for sampled and for prompt log-probs alike, costs nothing per
request, and needs no logits processor (vLLM's two GPU runners disagree on those and cap ``allowed_token_ids``).
Imports vLLM: only ``rollout.samplers.vllm_sampler`` imports this module, when an engine starts.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.model_executor.models.registry import ModelRegistry

ARCHITECTURE = "EaselImageQwen3ForCausalLM"


class ImageQwen3ForCausalLM(Qwen3ForCausalLM):
    """``compute_logits``: (N, D) hidden states -> (N, V) logits, finite only at the image tokens."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = vllm_config.model_config.hf_config
        self.image_rows = slice(config.image_start_id, config.image_start_id + config.num_image_tokens)
        # vLLM scores a prompt's tokens without its sampler, so without the temperature: teacher forcing sets it here.
        self.prompt_temperature = 1.0
        self.count: Callable[[int], None] = lambda tokens: None  # hears how many are drawn, in every step of the engine
        # vLLM's own NaN check raises in the middle of a step, after which every later request hangs for ever.
        self.bad_positions = torch.zeros((), dtype=torch.int64)

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        self.count(len(hidden_states))
        image_logits = functional.linear(hidden_states, self.lm_head.weight[self.image_rows])
        self.bad_positions = self.bad_positions.to(image_logits.device) + (~image_logits.isfinite()).any(-1).sum()
        if self.prompt_temperature != 1.0:  # in float32, as vLLM's sampler and the trainer do it
            image_logits = image_logits.float() / self.prompt_temperature
        logits = image_logits.new_full((len(hidden_states), self.config.vocab_size), -torch.inf)
        logits[:, self.image_rows] = image_logits.nan_to_num()
        return logits

    def take_bad_positions(self) -> int:
        """How many positions had NaN or infinite logits since the last call."""
        count = int(self.bad_positions)
        self.bad_positions = torch.zeros_like(self.bad_positions)
        return count

    def checkpoint_names(self) -> set[str]:
        """Names in a Qwen3 state_dict that together fill every parameter of this engine: packed ones unpacked."""
        names = {"lm_head.weight"}
        for name, _ in self.named_parameters():
            packed = [key for key in self.packed_modules_mapping if f".{key}." in name]
            parts = self.packed_modules_mapping[packed[0]] if packed else [""]
            names |= {name.replace(packed[0], part) if packed else name for part in parts}
        return names


def register() -> None:
    """Makes the architecture known to vLLM (idempotent; by class, so vLLM starts no process to inspect it)."""
    if ARCHITECTURE not in ModelRegistry.models:
        ModelRegistry.register_model(ARCHITECTURE, ImageQwen3ForCausalLM)
