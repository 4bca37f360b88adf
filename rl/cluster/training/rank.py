"""A rank of the trainer in its process, whoever started it. The first one owns the policy that learns: it is asked, it
writes checkpoints and puts new weights into the store of its machine; the others follow it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from rl.build import load_policy, start_trainers
from rl.cluster.training.messages import Learnt, TokenLesson, TrainerStart
from rl.cluster.weights.store import WeightStore
from rl.halves.build import RunTrainers, trained_parts
from rl.halves.export import export_parts
from rl.learn import TrainedLanguageModel
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


class TrainerRank:
    """``place``: among the ranks, and where they meet; of one alone nothing but its number."""

    def __init__(self, start: TrainerStart, place: Place, beat: Beat) -> None:
        """Raises: UserError."""
        if Path(start.folder).is_dir():
            os.chdir(start.folder)
        config = start.config
        torch.manual_seed(config.run.seed)
        # a painter's networks come with the policy; here they stay where they take no memory of the GPU
        policy = load_policy(config.model_copy(update={"render": config.render.model_copy(update={"offload": True})}))
        self._policy_folder, self._config = policy.folder, config
        self._team = Team(place, meet(place) if place.world > 1 else None, beat)
        self._trainers: RunTrainers = start_trainers(config, policy, self._team)
        self._store = WeightStore.open(start.run, room=start.room) if place.first else None
        part = trained_parts(config, policy, self._trainers)["ar"]
        assert isinstance(part, TrainedLanguageModel)
        self._part = part

    def follow(self) -> None:
        """The life of a rank other than the first."""
        self._team.follow(self._trainers.duties())

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
        weights = self._part.weights()
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
        parts = {"ar": self._part}
        trained = {"ar": self._part.weights()}
        export_parts(base, self._policy_folder, trained, parts, Path(run_folder))

    def _referred(self, experience: Experience) -> Experience:
        """With what the reference policy says: asked once for all rows, as a run's own process does."""
        trainer = self._part.trainer
        return replace(experience, reference=trainer.reference_forward(sequences(experience.rollout)))
