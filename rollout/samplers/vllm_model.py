"""Qwen3 inside vLLM that can only write the ids of a span: image tokens, or words.

The mask sits in the model, not in a sampling parameter: ``compute_logits`` multiplies the span's rows of the lm_head
only and leaves every other id at -inf. So it costs nothing per request and needs no logits processor (vLLM's two GPU
runners disagree on those and cap ``allowed_token_ids``).

Given tokens are scored here too: vLLM's own prompt log-probs build (positions, vocabulary) several times over, 0.6 GB
each for one picture of 729 tokens among 217,210 words.
Imports vLLM: only ``rollout.samplers.vllm_sampler`` imports this module, when an engine starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from vllm.config import VllmConfig
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM
from vllm.model_executor.models.registry import ModelRegistry
from vllm.sequence import IntermediateTensors

from policy.ar.span import codes_of, rows_of
from rl.types import Span

_POSITIONS = 128  # scored at one time
ARCHITECTURE = "EaselImageQwen3ForCausalLM"


class ImageQwen3ForCausalLM(Qwen3ForCausalLM):
    """``compute_logits``: (N, D) hidden states -> (N, V) logits, finite only at the ids of ``span``."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        config = vllm_config.model_config.hf_config
        image_end = config.image_start_id + config.num_image_tokens
        self.span = Span(config.image_start_id, image_end, length=1)  # whoever asks sets it
        self.count: Callable[[int], None] = lambda tokens: None  # hears how many are drawn, in every step of the engine
        self.kept: list[Tensor] | None = None
        # vLLM's own NaN check raises in the middle of a step, after which every later request hangs for ever.
        self.bad_positions = torch.zeros((), dtype=torch.int64)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors: IntermediateTensors | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor | IntermediateTensors:
        states = super().forward(input_ids, positions, intermediate_tensors, inputs_embeds)
        if self.kept is not None and isinstance(states, Tensor):
            self.kept.append(states.clone())  # a CUDA graph writes its next answer into the same memory
        return states

    def keep_states(self) -> None:
        """From now on the final hidden states of every forward are kept, until ``take_logprobs``."""
        self.kept = []

    def take_logprobs(self, tokens: Sequence[int], before: int, temperature: float) -> Tensor | None:
        """Log-probs of ``tokens``, which followed ``before`` others in the one sequence that was prefilled since
        ``keep_states``, over the ids of ``span``; ``None`` if it did not go through in one forward.
        """
        kept, self.kept = self.kept or [], None
        if len(kept) != 1 or len(kept[0]) < before + len(tokens) - 1:
            return None
        first = before - 1  # what follows a token is told by the state at it
        states_ND = kept[0][first : first + len(tokens)]
        codes_N = codes_of(self.span, torch.tensor(tokens, device=states_ND.device))
        parts = zip(states_ND.split(_POSITIONS), codes_N.split(_POSITIONS), strict=True)
        return torch.cat([self._logprobs(states, codes, temperature) for states, codes in parts])

    def _logprobs(self, states_ND: Tensor, codes_N: Tensor, temperature: float) -> Tensor:
        logits_NK = self._span_logits(states_ND).float() / temperature
        return logits_NK.log_softmax(-1).gather(1, codes_N[:, None])[:, 0]

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        self.count(len(hidden_states))
        span, logits_NK = self.span, self._span_logits(hidden_states).nan_to_num()
        logits = logits_NK.new_full((len(hidden_states), self.config.vocab_size), -torch.inf)
        first, last = span.without or (span.stop, span.stop)
        logits[:, span.start : first] = logits_NK[:, : first - span.start]
        logits[:, last : span.stop] = logits_NK[:, first - span.start :]
        return logits

    def _span_logits(self, states_ND: Tensor) -> Tensor:
        logits_NK = functional.linear(states_ND, rows_of(self.span, self.lm_head.weight))
        self.bad_positions = self.bad_positions.to(logits_NK.device) + (~logits_NK.isfinite()).any(-1).sum()
        return logits_NK

    def take_bad_positions(self) -> int:
        """How many positions had NaN or infinite logits since the last call."""
        count = int(self.bad_positions)
        self.bad_positions = torch.zeros_like(self.bad_positions)
        return count

    def checkpoint_names(self) -> set[str]:
        """Names in a Qwen3 state_dict that together fill every parameter of this engine: packed ones unpacked."""
        return {name for names, _ in self.live_parameters() for name in names}

    def live_parameters(self) -> Iterator[tuple[tuple[str, ...], Tensor]]:
        """Each parameter of this engine with the names in a Qwen3 state_dict that fill it: packed ones have several."""
        yield ("lm_head.weight",), self.lm_head.weight
        for name, value in self.named_parameters():
            if name != "lm_head.weight":
                packed = next((key for key in self.packed_modules_mapping if f".{key}." in name), None)
                parts = self.packed_modules_mapping[packed] if packed else ()
                yield tuple(name.replace(str(packed), part) for part in parts) or (name,), value


def register() -> None:
    """Makes the architecture known to vLLM (idempotent; by class, so vLLM starts no process to inspect it)."""
    if ARCHITECTURE not in ModelRegistry.models:
        ModelRegistry.register_model(ARCHITECTURE, ImageQwen3ForCausalLM)
