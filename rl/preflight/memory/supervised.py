"""The memory of a run that learns from examples: language model and decoder in one update, on rows made of
pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from rl.config.schema import Config
from rl.config.sections.cluster_rules import ranks_of
from rl.config.sections.supervised import SupervisedConfig
from rl.preflight.memory import decoder as learnt
from rl.preflight.memory import parts
from rl.preflight.memory.decoder import DecoderPlan
from rl.preflight.memory.estimate import Items, MemoryEstimate
from rl.preflight.memory.plan import Plan
from rl.preflight.memory.sizes import DecoderSize, PolicySize
from rl.preflight.supervised import supervised_parameters

EVALUATED = 64
"""Prompts that an evaluation samples at one time."""


@dataclass(frozen=True)
class TaughtPlan:
    """What of a supervised configuration decides, beside the numbers of any run."""

    plan: Plan
    rows: int
    """Examples of a step."""
    at_once: int
    """Pictures that are encoded at one time."""
    flow: DecoderPlan | None
    """``None`` where the flow weighs nothing."""
    vocabulary: bool
    """Logits over all words, not image tokens alone."""
    evaluates: bool


def rows_on_a_rank(config: Config, options: SupervisedConfig) -> int:
    """The most that a micro-batch can hold."""
    return ceil(options.rows_per_step / ranks_of(config))


def taught_plan(
    config: Config, options: SupervisedConfig, folder: Path, size: PolicySize, plan: Plan, evaluated: int
) -> TaughtPlan:
    """``plan``: as of a run that samples. ``evaluated``: held-out prompts."""
    train, ar_learns = config.train, options.has("ar")
    samples = min(EVALUATED, evaluated) * config.eval.samples_per_prompt if evaluated else config.sync.canary
    micro_batch = min(train.micro_batch, rows_on_a_rank(config, options))
    own = replace(
        plan,
        samples=samples,
        running=min(samples, plan.running if plan.engine == "vllm" else samples),
        group_size=1,
        renders=1,
        micro_batch=micro_batch,
        paint_micro_batch=min(config.render.micro_batch, samples),
        zero_stage=train.zero_stage,
        has_reference=False,
        copies=int(train.ema is not None),
        ar_learns=ar_learns,
        adapters=plan.adapters if ar_learns else 0,
        learns=supervised_parameters(config, options, folder),
        decoder=None,
    )
    flow = DecoderPlan(
        number_bytes=own.train_bytes,
        optimizer_bytes=own.optimizer_bytes,
        trained=0,  # counted with the rest
        pictures=options.rows_per_step,
        rows=options.rows_per_step,
        states=1,
        positions=size.tokens + 1,
        micro_batch=micro_batch,
        checkpointing=train.gradient_checkpointing,
    )
    of_decoder = any(not name.startswith("ar") for name in options.trained)
    learns_flow = options.losses.flow and (of_decoder or not options.detach)
    return TaughtPlan(
        own,
        rows=options.rows_per_step,
        at_once=min(options.rows_per_step, config.render.micro_batch),
        flow=flow if learns_flow else None,
        vocabulary=options.softmax == "all" or options.losses.text > 0,
        evaluates=evaluated > 0,
    )


def estimate_taught(taught: TaughtPlan, size: PolicySize) -> MemoryEstimate:
    plan, ar, decoder = taught.plan, size.ar, size.decoder
    if taught.vocabulary:
        size = replace(size, codes=ar.vocabulary)
    cache, kept = parts.cache(plan, ar, size.tokens), plan.engine == "vllm" or plan.device == "cuda"
    gradients = {"gradients": parts.gradients(plan, ar)}
    held = {
        "process": parts.process(plan),
        "trainer's weights" if plan.ar_learns else "language model": parts.weights(plan, ar),
        "decoder": _decoder(plan, decoder),
        "AdamW states": parts.optimizer(plan, ar),
        "ZeRO's bucket": parts.reduce_bucket(plan, ar),
        "slow copies": plan.copies * plan.trained(ar) * 4,
        "sampler's weights": parts.sampler(plan, ar),
        "sampler's cache": cache if kept else 0,
        "image tokenizer": size.image_tokenizer.weights,
        "rows": taught.rows * (decoder.pixels * 3 + 3 * decoder.latent_numbers * 4),
        **(gradients if plan.zero_stage else {}),
    }
    passing = {} if plan.zero_stage else gradients
    activations = _activations(taught, size)
    heap = {"activations kept by the heap": sum(activations.values()) if parts.below_heap(plan, size) else 0}
    phases: dict[str, Items] = {
        "encode": {
            "activations of the image tokenizer": size.image_tokenizer.activations(taught.at_once),
            "activations of the autoencoder": parts.painting(plan, decoder, taught.at_once),
        },
        "update": passing | activations | {"logits or the head's gradient": _last(plan, size)},
        "step": passing | heap | {"AdamW's copies": parts.step_copies(plan, ar)},
        "sample": {"keys and values": 0 if kept else cache, "logits": parts.sampled_logits(plan, size)},
        "save": heap | {"weights to be written": (ar.parameters + decoder.parameters) * plan.train_bytes},
    }
    if taught.evaluates:
        phases["paint"] = {
            "hidden states": parts.hidden_states(plan, size),
            "activations of painting": parts.painting(plan, decoder, plan.paint_micro_batch),
            "painted pictures": parts.pictures(plan, decoder),
        }
    return MemoryEstimate({name: taken for name, taken in held.items() if taken}, phases)


def _decoder(plan: Plan, decoder: DecoderSize) -> int:
    """What is trained, or at least engine and painter share, may be cut up; the autoencoder is not."""
    shared = decoder.connector + decoder.transformer
    cut = shared // plan.ranks if plan.zero_stage == 3 else shared
    return cut * plan.train_bytes + (decoder.parameters - shared) * plan.decoder_bytes


def _activations(taught: TaughtPlan, size: PolicySize) -> dict[str, int]:
    """Of both networks at once: one backward goes through them."""
    plan = taught.plan
    of_flow = learnt.activations(taught.flow, size.decoder) if taught.flow else 0
    of_words = parts.activations(plan, size, plan.micro_batch) if plan.ar_learns else 0
    return {"activations of the language model": of_words, "activations of the decoder": of_flow}


def _last(plan: Plan, size: PolicySize) -> int:
    if not plan.ar_learns:
        return 0
    return max(parts.logits(plan, size, plan.micro_batch), parts.head_gradient(plan, size))
