"""Config -> the trainer of a supervised run and the two halves of its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from policy.base import Policy
from policy.lora.adapters import add_lora
from policy.supervised.autoencoder import AutoencoderNetwork
from policy.supervised.network import SupervisedNetwork
from policy.trainable import LanguageModel
from rl.algorithm.copies import warmed
from rl.config.schema import Config
from rl.config.sections.supervised import SupervisedConfig
from rl.data.examples.load import example_stream, load_examples
from rl.supervised.collect import Dataset
from rl.supervised.learn import AutoencoderTrainer, PictureTrainer, SupervisedLearner, TaughtPart
from rl.supervised.objective import SupervisedObjective
from rl.supervised.reconstruct import ReconstructionObjective, ReconstructionRows
from rl.supervised.rows import RowMaker
from rl.tracking.tracker import Tracker
from rl.trainer.copies import EMA
from rl.trainer.team import Team
from rl.types import Forward, Rollout, Sequences
from rollout.sync import WeightChannel


@dataclass(frozen=True)
class Taught:
    """What learns, on every rank."""

    network: SupervisedNetwork | AutoencoderNetwork
    trainer: PictureTrainer | AutoencoderTrainer
    copy: str | None

    @property
    def forward(self) -> Callable[[Sequences], Forward] | None:
        """Of the language model; ``None`` where it has no trainer."""
        if isinstance(self.network, AutoencoderNetwork):
            return None
        trainer = cast(PictureTrainer, self.trainer)
        return lambda rows: trainer.forward(rows, copy=self.copy).forward

    @contextmanager
    def showing(self, also: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
        """Around the painting of what is evaluated: with the slow copy, if there is one."""
        with also():
            if self.copy is None:
                yield
                return
            with self.trainer.lent(self.copy):
                yield


def taught(config: Config, options: SupervisedConfig, language: LanguageModel, policy: Policy, team: Team) -> Taught:
    """Of the very modules that paint; the same on every rank."""
    copy = EMA if config.eval.policy == "ema" else None
    copies = {} if config.train.ema is None else {EMA: warmed(config.train.ema)}
    if options.of_autoencoder:
        of_vae = AutoencoderNetwork(policy.decoder.vae, options.latent_noise)
        loss = ReconstructionObjective()
        return Taught(
            of_vae,
            AutoencoderTrainer(of_vae, loss, config.train, steps=config.train.steps, team=team, copies=copies),
            copy,
        )
    adapters = options.decoder_lora
    network = SupervisedNetwork(
        language,
        policy.decoder.connector,
        policy.decoder.transformer,
        policy.decoder.reference,
        trained=options.trained,
        vocabulary=policy.ar.lm_head.weight.shape[0] if options.softmax == "all" else None,
        prompts=options.losses.text > 0,
        flow=options.losses.flow > 0,
        detach=options.detach,
        recompute=config.train.gradient_checkpointing,
        heads=options.heads,
        understanding=policy.understanding.encoder if options.understanding else None,
        redraw=options.redraws,
        lora=add_lora(policy.decoder.transformer, adapters, seed=config.run.seed) if adapters else None,
    )
    objective = SupervisedObjective(options.losses, policy.layout.image)
    return Taught(
        network,
        PictureTrainer(network, objective, config.train, steps=config.train.steps, team=team, copies=copies),
        copy,
    )


def supervised_halves(
    config: Config,
    options: SupervisedConfig,
    folder: Path,
    policy: Policy,
    taught: Taught,
    sync: WeightChannel,
    question: Callable[[], Rollout],
    tracker: Tracker,
) -> tuple[Dataset, SupervisedLearner]:
    """``question``: something that the sampler is asked about."""
    stream = example_stream(load_examples(options.examples), options.rows_per_step, config.run.seed)
    collector = Dataset(
        stream,
        ReconstructionRows(policy.decoder, config.run.seed)
        if options.of_autoencoder
        else RowMaker(policy, options, config.run.seed, config.render.micro_batch),
        folder,
        options.max_bad_rows,
        config.train.micro_batch * config.train.ranks,
        tracker.message,
        tracker.stage,
    )
    canary = config.sync.canary, config.sync.canary_tokens
    learnt = TaughtPart(taught.trainer, taught.network, stream, taught.copy, *canary)
    held_out = config.data.eval is not None
    due = partial(config.eval.due, steps=config.train.steps)
    return collector, SupervisedLearner(learnt, sync, lambda done: held_out and due(done), question)
