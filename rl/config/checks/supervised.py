"""What a supervised run must keep, across the sections."""

from __future__ import annotations

from collections.abc import Iterator

from rl.config.schema import Config
from rl.config.sections.groups import GroupsConfig
from rl.config.sections.supervised import SupervisedConfig
from rl.config.values import AUTO

_IDLE = (
    *("data.train", "data.prompts_per_step", "data.shares", "data.curriculum", "rollout.group_size", "render.renders"),
    *(
        "trainers",
        "modality_weights",
        "decoder",
        "advantage",
        "loss",
        "aggregation",
        "kl",
        "anchor",
        "terms",
        "correction",
        "combine",
    ),
    *(f"groups.{key}" for key in GroupsConfig.model_fields),
    *(f"guards.{key}" for key in ("entropy_drop", "max_kl", "max_mismatch", "max_mismatch_age", "max_zero_std")),
)


def check_supervised(config: Config, options: SupervisedConfig) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule."""
    yield from _losses(options)
    yield from _understanding(config, options)
    yield from _optimiser(config, options)
    if config.loop.ahead:
        yield "loop.use", "is ahead, and a supervised run samples nothing that it could be ahead of; write serial"
    if config.render.offload:
        yield "render.offload", "a decoder that learns stays where it is trained; turn it off"
    if config.render.dtype not in (None, config.train.dtype):
        yield (
            "render.dtype",
            f"is {config.render.dtype} and train.dtype {config.train.dtype}: a decoder that learns paints with "
            "the very weights that are trained; write one of them, or leave render.dtype null",
        )


def _losses(options: SupervisedConfig) -> Iterator[tuple[str, str]]:
    losses = options.losses
    if options.of_autoencoder:
        return
    if "vae" in options.trained:
        yield (
            "supervised.trained",
            f"is {list(options.trained)}: an autoencoder learns by itself, before those that paint on its latents",
        )
    if options.redraws and options.understanding:
        return
    if not (losses.image or losses.text or losses.flow):
        yield "supervised.losses", "image, text and flow are 0, so there is nothing to learn; give one a weight"
    elif not (losses.flow or options.has("ar")):
        yield (
            "supervised.losses.flow",
            f"is 0, and supervised.trained is {list(options.trained)}: of these only the flow tells anything",
        )
    if options.heads and not losses.heads:
        yield "supervised.losses.heads", "is 0, so supervised.heads learn nothing; give it a weight or take them out"


def _understanding(config: Config, options: SupervisedConfig) -> Iterator[tuple[str, str]]:
    codes = [
        one
        for one in options.trained
        if one.partition(".")[0] == "understanding" and not one.startswith("understanding.continuous")
    ]
    if codes and options.losses.image:
        yield (
            "supervised.trained",
            f"holds {codes[0]!r}, which changes the codes that losses.image teaches to write; train "
            "understanding.continuous alone beside it, or set supervised.losses.image to 0",
        )
    if options.redraws and not options.has("understanding"):
        yield (
            "supervised.losses",
            "reconstruction, reading and quantiser are for an understanding branch that learns; set them to 0, or put "
            "understanding into supervised.trained",
        )
    if options.understanding and options.of_autoencoder:
        yield "supervised.features", "is for questions, and an autoencoder reads none; set it to 0"
    if codes and config.train.dtype != "float32":
        yield (
            "train.dtype",
            f"is {config.train.dtype}, in which an image tokenizer that learns would round its codes; write float32",
        )


def _optimiser(config: Config, options: SupervisedConfig) -> Iterator[tuple[str, str]]:
    train = config.train
    if config.eval.policy == "ema" and train.ema is None:
        yield "eval.policy", "is ema, and train.ema is null, so there is no such copy; give train.ema, for example 0.99"
    if train.ranks > options.rows_per_step:
        yield "train.ranks", f"{train.ranks} ranks can't share the {options.rows_per_step} rows of a step; lower it"
    if train.micro_batch == AUTO and not options.estimated:
        yield (
            "train.micro_batch",
            "auto goes by an estimate of the memory, and there is none where an autoencoder or an understanding branch "
            "learns; write how many rows fit",
        )
    if train.updates_per_rollout != 1:
        yield "train.updates_per_rollout", f"is {train.updates_per_rollout}, and a supervised step is one update"
    if train.zero_stage == 3:
        yield from _sharded(config, options)
    if train.lora and not options.has("ar"):
        yield "train.lora", f"its adapters are the language model's, and supervised.trained is {list(options.trained)}"
    if options.decoder_lora and not options.has("transformer"):
        yield (
            "supervised.decoder_lora",
            f"its adapters are the transformer's, and supervised.trained is {list(options.trained)}",
        )
    if train.offload_optimizer and train.zero_stage == 0:
        yield "train.offload_optimizer", "it is ZeRO that moves the states, and train.zero_stage is 0; set it to 1"


def _sharded(config: Config, options: SupervisedConfig) -> Iterator[tuple[str, str]]:
    """Of ZeRO-3."""
    if config.train.ema is not None:
        yield (
            "train.zero_stage",
            "3 cuts the weights up, and a slow copy of them (train.ema) needs the whole; use stage 2",
        )
    if options.understanding:
        yield (
            "train.zero_stage",
            "3 cuts the weights up, those of the understanding branch too, with which the first rank reads the rows' "
            "pictures alone; use stage 2",
        )
    if config.policy.compile:
        yield "policy.compile", "sharded weights (train.zero_stage: 3) are not compiled; use stage 2 or compile: off"


def without_effect() -> tuple[str, ...]:
    """Keys that say something about rewards and samples alone."""
    return _IDLE
