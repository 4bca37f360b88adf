"""What a run must keep in which a decoder learns, across the sections."""

from __future__ import annotations

from collections.abc import Iterator

from rl.config.declared import declared_or_nothing
from rl.config.schema import Config
from rl.config.sections.decoder import DecoderConfig
from rl.config.sections.guards import WINDOW

_ENOUGH_STEPS = 8  # of painting, for a loss that improves the flow and not the sampler


def check_decoder(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule."""
    trained = config.trained_decoder
    if trained is None:
        if config.decoder is not None:
            yield (
                "decoder",
                f"its keys are for a decoder that learns, and trainers is [{', '.join(config.trainers)}]; write "
                "trainers: [ar, decoder], or trainers: [decoder], or leave them out",
            )
        return
    if trained.follow and "ar" not in config.trainers:
        yield "decoder.follow", "there is no language model that learns to be followed; add ar to trainers"
    elif trained.follow and config.schedule.order != "both":
        yield (
            "decoder.follow",
            f"schedule.order is {config.schedule.order}, so in the decoder's steps no language model has moved since "
            "their pictures were painted; turn it off, or write schedule: both",
        )
    if config.train.steps > 0:
        yield from _credit(config)
        yield from _loss(config, trained)
    yield from _painting(config, trained)
    yield from _optimiser(config, trained)


def decoder_notes(config: Config) -> Iterator[str]:
    """Of a sound run whose decoder learns, as it stands in its steps: what may surprise, one line each."""
    trained, render = config.trained_decoder, config.render
    if trained is None or config.train.steps == 0:
        return
    if not declared_or_nothing("decoder_losses", trained.loss.use).window:
        improves = f"decoder.loss {trained.loss.use!r} improves the flow"
        if render.guidance != 1:
            yield (
                f"render.guidance: is {render.guidance:g}, and {improves} without guidance, so the flow that it is "
                "held to is not the one that painted, and guidance is learnt into the weights; 1 trains what paints"
            )
        if render.steps < _ENOUGH_STEPS:
            yield (
                f"render.steps: is {render.steps}, and {improves}, not a sampler of few steps: some of what it learns "
                f"is lost under {_ENOUGH_STEPS}"
            )
    for alarm, why in _silent(config, trained):
        if getattr(config.guards, alarm) is not None:
            yield f"guards.{alarm}: {why}"


def _silent(config: Config, trained: DecoderConfig) -> Iterator[tuple[str, str]]:
    """(alarm, why it cannot be given)"""
    steps, learning = config.train.steps, config.schedule.steps_of("decoder", config.train.steps)
    if trained.reference == 0:
        yield "reference_rise", "no alarm, for decoder.reference is 0, and the distance to the base is not measured"
    elif learning < 2 * WINDOW:
        yield "reference_rise", _short(learning, 2 * WINDOW, " of the decoder")
    if learning < 2 * WINDOW:
        yield "x0_rise", _short(learning, 2 * WINDOW, " of the decoder")
    if steps < 2 * WINDOW:
        yield "grid_rise", _short(steps, 2 * WINDOW)
    if steps < WINDOW:
        yield "min_decoder_share", _short(steps, WINDOW)
    elif config.rollout.group_size == 1:
        yield (
            "min_decoder_share",
            "rollout.group_size is 1, so no alarm for its share inside a prompt, which python -m rl.variance measures; "
            "what is watched is its share of the variance over all prompts",
        )
    if config.rollout.group_size == 1 and "ar" not in config.trainers:
        yield "diversity_drop", "no alarm, for rollout.group_size is 1, and a group of one has no diversity"


def _short(steps: int, needed: int, whose: str = "") -> str:
    return f"no alarm, for it needs {needed} steps{whose}, and the run has {steps}"


def _credit(config: Config) -> Iterator[tuple[str, str]]:
    if config.render.renders < 2:
        yield (
            "render.renders",
            "is 1, and a picture teaches the decoder by its difference from other pictures of the same tokens, so "
            "there is nothing to learn from; make it at least 2",
        )


def _loss(config: Config, trained: DecoderConfig) -> Iterator[tuple[str, str]]:
    loss, sampler = trained.loss.use, config.render.sampler.use
    declared, steps = declared_or_nothing("decoder_losses", loss), declared_or_nothing("decoder_samplers", sampler)
    if not declared.window:
        if trained.timesteps > config.render.steps:
            yield (
                "decoder.timesteps",
                f"is {trained.timesteps}, and a picture is painted in render.steps {config.render.steps}; make it at "
                "most that",
            )
        return
    if not steps.window:
        yield (
            "render.sampler",
            f"decoder.loss {loss!r} learns from a window of stochastic steps, and {sampler!r} has none; write "
            "{use: cps, options: {eta: 0.7, window: 2}}",
        )
    for option, value in declared.for_sde.items():
        if trained.loss.options.get(option) == value and steps.window and not steps.sde:
            yield (
                f"decoder.loss.options.{option}",
                f"is {value}, which is for the steps of an SDE, and render.sampler is {sampler!r}; use "
                "render.sampler: sde, or leave it out",
            )
    if config.render.guidance != 1:
        yield (
            "render.guidance",
            f"is {config.render.guidance:g}, and decoder.loss {loss!r} trains the flow without guidance, so its ratio "
            "would be of other steps than were painted; make it 1",
        )
    if trained.follow:
        yield (
            "decoder.follow",
            f"decoder.loss {loss!r} replays the steps as they were painted, on the hidden states of then; turn it off",
        )
    if trained.old != "live":
        yield (
            "decoder.old",
            f"is {trained.old!r}, and decoder.loss {loss!r} compares with the policy that painted, which must be that "
            "of now; write live",
        )


def _painting(config: Config, trained: DecoderConfig) -> Iterator[tuple[str, str]]:
    if config.decoder_dtype != trained.dtype:
        yield (
            "render.dtype",
            f"is {config.render.dtype} and decoder.dtype {trained.dtype}: a decoder that learns paints with the very "
            "weights that are trained; write one of them, or leave render.dtype null",
        )
    if config.render.offload:
        yield "render.offload", "a decoder that learns stays where it is trained; turn it off"
    if config.rollout.sleep == 2 and "ar" not in config.trainers:
        yield "rollout.sleep", "level 2 drops the engine's weights, and a decoder alone sends none; set it to 1"


def _optimiser(config: Config, trained: DecoderConfig) -> Iterator[tuple[str, str]]:
    samples = config.data.prompts_per_step * config.rollout.group_size
    if samples % trained.updates_per_rollout:
        yield (
            "decoder.updates_per_rollout",
            f"{trained.updates_per_rollout} does not divide the {samples} samples of a step (data.prompts_per_step "
            f"{config.data.prompts_per_step} x rollout.group_size {config.rollout.group_size})",
        )
    elif config.train.ranks > (pictures := samples // trained.updates_per_rollout * config.render.renders):
        yield (
            "train.ranks",
            f"{config.train.ranks} ranks can't share the {pictures} pictures of an update of the decoder; lower it, or "
            "give a step more samples",
        )
    if trained.lora and trained.train != "transformer":
        yield "decoder.train", f"is {trained.train!r}, and with decoder.lora adapters of the transformer alone learn"
    if trained.lora and trained.offload_reference:
        yield (
            "decoder.offload_reference",
            "with decoder.lora the reference is the trained decoder without its adapters, so there is no copy to move; "
            "leave it null",
        )
    if trained.offload_optimizer and trained.zero_stage == 0:
        yield "decoder.offload_optimizer", "it is ZeRO that moves the states, and decoder.zero_stage is 0; set it to 1"
    if trained.zero_stage == 3 and (trained.old != "live" or trained.ema is not None):
        yield (
            "decoder.zero_stage",
            "3 cuts the weights up, and slow copies of them (decoder.old, decoder.ema) need the whole; use stage 2",
        )
