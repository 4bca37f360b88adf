"""What a decoder that learns adds to a run's memory: the numbers that decide, and the bytes of each thing."""

from __future__ import annotations

from dataclasses import dataclass

from rl.preflight.memory.sizes import DecoderSize


@dataclass(frozen=True)
class DecoderPlan:
    """One rank's share of the decoder's part of a step."""

    number_bytes: int
    """Of one number in the trained decoder."""
    optimizer_bytes: int
    """Of the states of one trained number."""
    trained: int
    """Numbers with a gradient."""
    pictures: int
    rows: int
    """Pairs of a picture and a timestep, of a step."""
    states: int
    """Latents kept of each picture."""
    positions: int
    """Hidden states of one token sequence."""
    micro_batch: int
    copies: int = 0
    """Of what is trained: slow ones, and the base where evaluations paint with it."""
    reference_copy: bool = True
    checkpointing: bool = False
    zero_stage: int = 0
    ranks: int = 1


def held(plan: DecoderPlan, size: DecoderSize) -> dict[str, int]:
    """From the first step on. The weights themselves are those that paint."""
    gradients = {"decoder's gradients": plan.trained * 4} if plan.zero_stage else {}
    return gradients | {
        "decoder's AdamW states": plan.trained * plan.optimizer_bytes // (plan.ranks if plan.zero_stage else 1),
        "decoder's reference": (size.connector + size.transformer) * plan.number_bytes if plan.reference_copy else 0,
        "decoder's copies": plan.copies * plan.trained * 4,
        "latents of the pictures": plan.pictures * plan.states * size.latent_numbers * 4,
    }


def learning(plan: DecoderPlan, size: DecoderSize) -> dict[str, int]:
    """While it learns. A row holds a noisy latent and what it is compared with."""
    gradients = {} if plan.zero_stage else {"gradients": plan.trained * plan.number_bytes}
    return gradients | {
        "rows of the pictures": plan.rows * 2 * size.latent_numbers * 4,
        "activations of the decoder": activations(plan, size),
    }


def activations(plan: DecoderPlan, size: DecoderSize) -> int:
    """What a forward keeps for its backward, in widths of the transformer: counted with autograd's saved tensors for
    1 to 12 heads, 16 to 64 latents and 17 to 65 hidden states. A bfloat16 block computes its linear attention and its
    norms in float32."""
    around = 6.8 * plan.positions + 2.5 * size.latents
    block = 2 * plan.positions + (18.3 + 8 * size.expansion) * size.latents + 43
    kept = size.layers * (size.latents + 6) + block if plan.checkpointing else size.layers * block
    each = 4.0 if plan.number_bytes == 4 else 2.3
    return int(plan.micro_batch * size.width * (around + kept) * each)
