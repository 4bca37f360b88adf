"""What of a configuration decides about memory, as plain numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from policy.ar.size import ArSize
from rl.preflight.memory.decoder import DecoderPlan

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Plan:
    """One rank's share of a step, and how numbers are kept."""

    device: Device
    engine: Literal["torch", "vllm"]
    train_bytes: int
    """Of one number in the trainer, as ``sampler_bytes`` and ``decoder_bytes`` in the others."""
    optimizer_bytes: int
    """Of the states of one trained number."""
    sampler_bytes: int
    decoder_bytes: int
    samples: int
    """Sequences of a step, and how many of them are sampled at one time."""
    running: int
    group_size: int
    renders: int
    prompt_tokens: int
    micro_batch: int
    paint_micro_batch: int
    logprob_chunk: int
    zero_stage: int
    has_reference: bool
    read_back: int
    """Pictures of a step that the image tokenizer reads for the render fidelity."""
    cache_bytes: int = 0
    """What vLLM is given for keys and values."""
    adapters: int = 0
    """Numbers of the adapters, if they alone are trained (LoRA); 0: everything is."""
    learns: int = 0
    """Numbers with a gradient, of all networks together, where one optimizer has them; 0: the language model's."""
    checkpointing: bool = False
    """Activations of one layer at a time (gradient checkpointing)."""
    offload_optimizer: bool = False
    """AdamW's states in the host's memory."""
    offload_reference: bool = False
    offload_decoder: bool = False
    """The decoder on the GPU only while it paints."""
    sleeps: bool = False
    """The sampler's weights and cache on the GPU only while it samples."""
    copies: int = 0
    """Slow ones of what is trained, in float32."""
    ranks: int = 1
    """Processes that share what ZeRO shards."""
    ar_learns: bool = True
    """Whether the language model is trained."""
    decoder: DecoderPlan | None = None
    """Of a decoder that is trained."""

    @property
    def reference_copy(self) -> bool:
        """Adapters need none: switched off, they are the reference."""
        moved = self.offload_reference and self.device == "cuda"
        return self.has_reference and not self.adapters and not moved

    def trained(self, ar: ArSize) -> int:
        """Numbers with a gradient."""
        if self.learns:
            return self.learns
        return (self.adapters or ar.parameters) if self.ar_learns else 0

    def prompts_in(self, micro_batch: int) -> int:
        """Different prompts among ``micro_batch`` neighbours; each goes through the model once."""
        return 1 + (micro_batch - 1) // self.group_size
