"""Config -> the decoder's trainer and its part of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from policy.decoder import Decoder
from policy.flow.network import FlowNetwork
from policy.flow.walk import schedule
from policy.lora.adapters import add_lora
from rl.algorithm.answers import answering
from rl.algorithm.copies import Decay, nft_old, nft_old_late, warmed
from rl.algorithm.flow.batch import FlowBatch
from rl.algorithm.flow.objective import FlowObjective
from rl.config.declared import declarations
from rl.config.schema import Config
from rl.config.sections.decoder import DecoderConfig
from rl.decoder.part import OLD, FlowTrainer, TrainedDecoder, most_apart
from rl.decoder.rows import PaintedPictures, Schedule, finished_pictures, window_steps
from rl.trainer.copies import EMA
from rl.trainer.team import Team
from rl.types import Experience

OLD_RULES: Mapping[str, Decay] = {"nft": nft_old, "nft_late": nft_old_late}
"""``decoder.old``: how the copy that paints follows; ``live`` has none."""


def flow_trainer(config: Config, trained: DecoderConfig, decoder: Decoder, team: Team) -> FlowTrainer:
    """Of the very modules that paint; the same on every rank."""
    return FlowTrainer(
        flow_network(config, trained, decoder),
        objective(trained),
        trained,
        steps=config.schedule.steps_of("decoder", config.train.steps),
        team=team,
        copies={} if trained.ema is None else {EMA: warmed(trained.ema)},
        waiting={OLD: OLD_RULES[trained.old]} if trained.old in OLD_RULES else {},
    )


def flow_network(config: Config, trained: DecoderConfig, decoder: Decoder) -> FlowNetwork:
    """Of the modules that paint, with adapters on them where they are what is trained."""
    return FlowNetwork(
        decoder.connector,
        decoder.transformer,
        decoder.reference,
        train=trained.train,
        recompute=trained.gradient_checkpointing,
        lora=add_lora(decoder.transformer, trained.lora, seed=config.run.seed) if trained.lora else None,
    )


def objective(trained: DecoderConfig) -> FlowObjective:
    window = declarations("decoder_losses", trained.loss.use).window
    return FlowObjective(answering("decoder_losses", "decoder.loss", trained.loss), window, trained.reference)


def trained_decoder(
    config: Config,
    trained: DecoderConfig,
    decoder: Decoder,
    trainer: FlowTrainer,
    paints: str | None,
    reread: Callable[[Experience], Tensor] | None = None,
) -> TrainedDecoder:
    """``reread``: the language model of now, where there is one that learns."""
    walk = Schedule(*schedule(decoder.scheduler, config.render.steps))
    on_window = objective(trained).window

    def rows(pictures: PaintedPictures, experience: Experience) -> FlowBatch:
        if on_window:
            return window_steps(pictures, walk)
        return finished_pictures(
            pictures,
            walk,
            timesteps=trained.timesteps,
            seeds=experience.rollout.seeds,
            run_seed=config.run.seed,
            step=experience.step,
        )

    return TrainedDecoder(
        trainer,
        rows,
        trained.updates_per_rollout,
        paints,
        reread if trained.follow else None,
        None if decoder.reference is None else decoder.encoded,
        most_apart(trained.dtype, trainer.device),
    )
