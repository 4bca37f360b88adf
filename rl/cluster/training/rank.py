"""A rank of the trainer in its process, whoever started it. The first one owns the policy that learns: it is asked, it
writes checkpoints and puts new weights into the store of its machine; the others follow it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policy.ar.loading import LanguagePart, load_connector
from policy.trainable import WeightStream
from rl.cluster.training.growth import counted_while_growing
from rl.cluster.training.messages import Learnt, TokenLesson, TrainerStart
from rl.cluster.weights.store import WeightStore
from rl.config.schema import Config
from rl.halves.export import export_parts
from rl.halves.language_model import token_trainer, trained_language_model
from rl.process.disk import WRITE_ERRORS, true_cause
from rl.process.out_of_memory import memory_of_phase
from rl.process.ranks import Place
from rl.rows import sequences
from rl.tracking.stopwatch import Stopwatch
from rl.trainer.team import Team, meet
from rl.types import Experience, Sequences
from rollout.sync import Canary


@dataclass
class Beat:
    """A :class:`rl.trainer.team.Pulse` that the run asks for."""

    progress: int = 0
    busy: bool = False
    alone: int = 0
    """Of what one rank does while the others have nothing to do: says that it lives, and not who is behind."""

    def did_alone(self) -> None:
        self.alone += 1


class TrainerRank:
    """``place``: among the ranks, and where they meet; of one alone nothing but its number."""

    def __init__(self, start: TrainerStart, place: Place, beat: Beat) -> None:
        """Raises: UserError."""
        if Path(start.folder).is_dir():
            os.chdir(start.folder)
        config = start.config
        torch.manual_seed(config.run.seed)
        policy = LanguagePart.load(config.policy.path, config.train.dtype)
        self._policy_folder, self._beat = policy.folder, beat
        self._team = Team(place, meet(place) if place.world > 1 else None, beat)
        trainer = token_trainer(config, policy, _connector(config, policy.folder), self._team)
        self._store = WeightStore.open(start.run, room=start.room) if place.first else None
        self._part = trained_language_model(config, trainer)

    def follow(self) -> None:
        """The life of a rank other than the first."""
        self._team.follow(self._part.trainer.duties())

    def learn(self, lesson: TokenLesson) -> Learnt:
        """The update of a step. Raises: OutOfMemory."""
        timer, experience = Stopwatch(), lesson.experience()
        with memory_of_phase("update"):
            if self._team.world == 1:  # several ask it during the update, each for its own rows
                with timer("forward"):
                    experience = self._referred(experience)
            metrics = self._part.learn(experience, lesson.advantages_PG, timer)
        return Learnt(metrics, timer.seconds, self._part.version)

    def rehearse(self, lesson: TokenLesson, rows: int) -> None:
        with memory_of_phase("update"):
            self._part.rehearse(lesson.experience(), lesson.advantages_PG, rows)

    def logprobs(self, rows: Sequences) -> NDArray[np.float32]:
        """Under the weights of now; nats."""
        return self._part.trainer.forward(rows).logprobs_BT.cpu().float().numpy()

    def publish(self, number: int, canaries: Mapping[str, Canary]) -> None:
        """The weights of now, under a number, for all who work with them."""
        assert self._store is not None
        weights = self._counted(self._part.weights())
        adapters = {"ar": weights.adapter} if weights.adapter else None
        self._store.publish(number, {"ar": weights}, canaries=canaries, adapters=adapters)

    def prune(self, lowest: int) -> None:
        assert self._store is not None
        self._store.prune(lowest)

    def discard(self) -> None:
        """All sets: the run is over."""
        if self._store is not None:
            self._store.discard()

    def slow_down(self, factor: float) -> None:
        self._part.slow_down(factor)

    def save(self, folder: str) -> None:
        """Raises: OSError where the disk is full, in whatever words a library has put that."""
        try:
            self._part.save(Path(folder))
        except WRITE_ERRORS as error:
            if (cause := true_cause(error, Path(folder))) is None:
                raise
            raise cause from error

    def load(self, folder: str) -> int:
        """Returns the version of the weights."""
        self._part.load(Path(folder))
        return self._part.version

    def export(self, base: str, run_folder: str) -> None:
        """``base``: the policy as the run's configuration names it."""
        trained = {"ar": self._counted(self._part.weights())}
        with counted_while_growing(Path(run_folder), self._beat.did_alone):
            export_parts(base, self._policy_folder, trained, {"ar": self._part}, Path(run_folder))

    def _counted(self, weights: WeightStream) -> WeightStream:
        """Of a large model they are minutes on their way: each tensor is a step forward."""

        def counted(stream: WeightStream) -> Iterator[tuple[str, Tensor]]:
            for one in stream.tensors():
                yield one
                self._beat.did_alone()

        adapter = weights.adapter
        if adapter is not None:
            adapter = replace(adapter, weights=replace(adapter.weights, tensors=partial(counted, adapter.weights)))
        return replace(weights, tensors=partial(counted, weights), adapter=adapter)

    def _referred(self, experience: Experience) -> Experience:
        """With what the reference policy says: asked once for all rows, as a run's own process does."""
        trainer = self._part.trainer
        return replace(experience, reference=trainer.reference_forward(sequences(experience.rollout)))


def _connector(config: Config, policy_folder: Path) -> nn.Module:
    """Rounded as the painters have it; only an anchor looks through it."""
    if config.anchor is None:
        return nn.Identity()
    return load_connector(policy_folder).to(getattr(torch, config.decoder_dtype)).requires_grad_(False)
