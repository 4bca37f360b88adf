"""Config -> the two halves of a step: what is learnt from, and what learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from policy.base import Policy
from policy.pictures import stored
from rl.algorithm.answers import answering, component
from rl.collect import Collect, canary_rollout
from rl.collectors import Collector
from rl.config.schema import Config
from rl.data.drawing.draws import PromptDraws
from rl.decoder.build import trained_decoder
from rl.decoder.part import FlowTrainer
from rl.halves.language_model import trained_language_model
from rl.learn import Learner, Learns, Part, SlowCopy, TokenTrainer, TrainedLanguageModel, TrainedPart
from rl.rows import sequences
from rl.run_folder.experience import ExperienceLog
from rl.supervised.build import Taught, supervised_halves
from rl.supervised.learn import AutoencoderTrainer, PictureTrainer
from rl.tracking.tracker import Tracker
from rl.trainer.copies import EMA, Lending
from rl.types import Experience, Forward, Prompt, Sequences
from rollout.sync import WeightChannel

_Around = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class RunTrainers:
    """Those of a run, each on every rank."""

    ar: TokenTrainer | None = None
    decoder: FlowTrainer | None = None
    paints: str | None = None
    """The slow copy of the decoder that paints training pictures."""
    others: Mapping[str, Lending] = field(default_factory=dict)
    """Weights of the decoder other than those of now, with which an evaluation paints."""
    taught: Taught | None = None
    """That of a supervised run, which has no other."""
    elsewhere: Mapping[str, TrainedPart] = field(default_factory=dict)
    """What learns in other processes; none learns here then."""

    @property
    def all(self) -> list[TokenTrainer | FlowTrainer | PictureTrainer | AutoencoderTrainer]:
        if self.taught:
            return [self.taught.trainer]
        return [one for one in (self.ar, self.decoder) if one is not None]

    @property
    def forward(self) -> Callable[[Sequences], Forward] | None:
        """Of the language model that learns, if it does."""
        if self.taught:
            return self.taught.forward
        return self.ar.forward if self.ar else None

    @property
    def drawing(self) -> Callable[[], AbstractContextManager[object]] | None:
        """Around the painting of what the decoder learns from; ``None`` while it is frozen."""
        if self.decoder is None:
            return None
        return partial(self.decoder.lent, self.paints) if self.paints else nullcontext

    def showing(self, also: _Around) -> _Around:
        """Around the painting of what is evaluated: with a slow copy where that is what is kept in the end."""
        return partial(self.taught.showing, also) if self.taught else also

    def duties(self) -> dict[str, Callable[[str], object]]:
        """Of a rank other than the first."""
        return {order: duty for one in self.all for order, duty in one.duties().items()}


def halves(
    config: Config,
    folder: Path,
    policy: Policy,
    trainers: RunTrainers,
    act: Collect,
    train_prompts: Sequence[Prompt],
    collects: Callable[[], Collector[Experience]],
    sync: WeightChannel,
    tracker: Tracker,
) -> tuple[Collector[Any], Learns[Any]]:
    """Of a step: what it learns from, and how. ``collects``: makes the collector of a run that samples."""
    if config.supervised and trainers.taught:
        question = partial(canary_rollout, config, policy.layout.image, act, train_prompts)
        return supervised_halves(config, config.supervised, folder, policy, trainers.taught, sync, question, tracker)
    learner = Learner(
        parts=trained_parts(config, policy, trainers),
        advantage=answering("advantages", "advantage", config.advantage),
        sync=sync,
        learns=config.schedule.learns,
        skips=config.groups.flat != "keep",
        lends={"decoder": trainers.drawing} if trainers.drawing else {},
    )
    return collects(), learner


def experience_log(config: Config, folder: Path, prompts: Sequence[Prompt]) -> ExperienceLog | None:
    """The run's, if it keeps one; what an earlier start has kept is of no use to one that does not go on with it."""
    log = ExperienceLog(folder, prompts, stored)
    if config.logs_experience and not config.supervised:
        return log
    log.discard()
    return None


def prompt_draws(config: Config, prompts: Sequence[Prompt]) -> PromptDraws | None:
    """Where scores have a say in which prompts a step gets; ``None`` where they are a function of the step."""
    curriculum, groups = config.data.curriculum, config.groups
    if curriculum is None and groups.sizes is None and groups.flat != "resample":
        return None
    return PromptDraws(prompts, config.run.seed, component("curricula", curriculum) if curriculum else None)


def trained_parts(config: Config, policy: Policy, trainers: RunTrainers) -> dict[str, TrainedPart]:
    """In the order in which they learn."""
    parts: dict[str, TrainedPart] = dict(trainers.elsewhere)
    if trainers.ar:
        parts["ar"] = trained_language_model(config, trainers.ar)
    if trainers.decoder and (trained := config.trained_decoder):
        reread = partial(_reread, trainers.ar) if trainers.ar else None
        parts["decoder"] = trained_decoder(config, trained, policy.decoder, trainers.decoder, trainers.paints, reread)
    return parts


def slow_copy(config: Config, parts: Mapping[str, Part]) -> SlowCopy | None:
    """Of the language model, if that is what is evaluated."""
    ar = parts.get("ar")
    return SlowCopy(ar, EMA) if config.eval.policy == "ema" and isinstance(ar, TrainedLanguageModel) else None


def _reread(trainer: TokenTrainer, experience: Experience) -> Tensor:
    """Hidden states of the same tokens under the language model of now."""
    return trainer.forward(sequences(experience.rollout)).hidden_BSD
