"""The memory of a run: what lies there all the time, and what each phase of a step adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rl.preflight.memory import decoder as learnt
from rl.preflight.memory import parts
from rl.preflight.memory.plan import Plan
from rl.preflight.memory.sizes import PolicySize

Items = Mapping[str, int]


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes by name, on one rank."""

    held: Items
    """From the first step on."""
    phases: Mapping[str, Items]
    """What comes on top in each phase, and goes again."""

    @property
    def peak(self) -> int:
        return self.of(self.largest)

    @property
    def largest(self) -> str:
        """The phase that takes most."""
        return max(self.phases, key=self.of)

    def of(self, phase: str) -> int:
        """Everything in one phase."""
        return sum(self.held.values()) + sum(self.phases[phase].values())


def estimate(plan: Plan, size: PolicySize) -> MemoryEstimate:
    ar, decoder = size.ar, size.decoder
    cache, kept = parts.cache(plan, ar, size.tokens), plan.engine == "vllm" or plan.device == "cuda"
    sampler = {"sampler's weights": parts.sampler(plan, ar), "sampler's cache": cache if kept else 0}
    painter = {"decoder": decoder.parameters * plan.decoder_bytes}
    asleep, away = plan.sleeps and plan.device == "cuda", plan.offload_decoder and plan.device == "cuda"
    gradients = {"gradients": parts.gradients(plan, ar)}
    held = {
        "process": parts.process(plan),
        "trainer's weights" if plan.ar_learns else "language model": parts.weights(plan, ar),
        "AdamW states": parts.optimizer(plan, ar),
        "ZeRO's bucket": parts.reduce_bucket(plan, ar),
        "reference weights": parts.reference(plan, ar),
        "slow copies": plan.copies * plan.trained(ar) * 4,
        **({} if asleep else sampler),
        **({} if away else painter),
        "hidden states": parts.hidden_states(plan, size),
        "painted pictures": parts.pictures(plan, decoder),
        "image tokenizer": size.image_tokenizer.weights if plan.read_back else 0,
    }
    heap = {"activations kept by the heap": parts.kept_by_heap(plan, size)}
    passing = {} if plan.zero_stage else gradients
    phases: dict[str, Items] = {
        "sample": (sampler if asleep else {})
        | {"keys and values": 0 if kept else cache, "logits": parts.sampled_logits(plan, size)},
        "paint": (painter if away else {})
        | {"activations of painting": parts.painting(plan, decoder, plan.paint_micro_batch)},
        **_reading(plan, size),
    }
    if plan.ar_learns:
        phases["update"] = passing | _backward(plan, size)
        phases["step"] = passing | heap | {"AdamW's copies": parts.step_copies(plan, ar)}
        phases["save"] = heap | {"weights to be written": ar.parameters * plan.train_bytes}
    held |= gradients if plan.zero_stage else {}
    if plan.decoder:
        held |= learnt.held(plan.decoder, decoder)
        phases["decoder"] = learnt.learning(plan.decoder, decoder)
    return MemoryEstimate({name: taken for name, taken in held.items() if taken}, phases)


def _reading(plan: Plan, size: PolicySize) -> dict[str, Items]:
    """Pictures back to tokens."""
    activations = size.image_tokenizer.activations(plan.read_back)
    return {"guards": {"activations of the image tokenizer": activations}} if activations else {}


def _backward(plan: Plan, size: PolicySize) -> dict[str, int]:
    """The logits are gone when the head's gradient is whole."""
    last = max(parts.logits(plan, size, plan.micro_batch), parts.head_gradient(plan, size))
    return {"activations": parts.activations(plan, size, plan.micro_batch), "logits or the head's gradient": last}
