"""The trainer of a run in other processes. One that loses a rank is started again: it loads the last checkpoint, learns
what came after it from the experience log, and is asked once more what it was asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rl.acting.elsewhere import PaintsTokens
from rl.cluster.places import WorkerNeeds
from rl.cluster.training.group import RanksLost, TrainerGroup
from rl.cluster.training.messages import Residence, TokenLesson, TrainerStart
from rl.cluster.training.part import RemoteLanguageModel
from rl.config.schema import Config
from rl.learn import Learner
from rl.run_folder import checkpoint
from rl.run_folder.checkpoint import Checkpoint
from rl.run_folder.experience import ExperienceLog
from rl.types import RunFailure


class RemoteTraining:
    """A :class:`rl.acting.elsewhere.TrainedElsewhere`."""

    def __init__(self, config: Config, group: TrainerGroup, done: int) -> None:
        """``done``: steps before this start of the run."""
        self.restarts = 0
        self.parts = {"ar": RemoteLanguageModel(self, config.sync)}
        self._config, self._group = config, group
        self._folder = Path(str(config.run.folder))
        self._first = self._done = done
        self._slowed: list[tuple[int, float]] = []
        """After how many steps the learning rate was multiplied, and by what."""
        self._saved: dict[int, int] = {}
        """Steps of a checkpoint -> how many of these it holds."""
        self._start: TrainerStart | None = None
        self._painters: PaintsTokens | None = None
        self._learner: Learner | None = None
        self._log: ExperienceLog | None = None
        self._tell: Callable[[str], None] = lambda sentence: None

    @classmethod
    def of(cls, config: Config, needs: WorkerNeeds, done: int) -> RemoteTraining:
        """Its processes come up while this one loads."""
        return cls(config, TrainerGroup(config.cluster.trainers, needs, config.cluster), done)

    @property
    def painters(self) -> PaintsTokens:
        assert self._painters is not None  # ready by then
        return self._painters

    def meet(self) -> Residence:
        """Where the first rank is. Raises: RunFailure."""
        try:
            return self._group.meet()
        except RanksLost as lost:
            raise RunFailure(f"the trainers could not be started: {lost}") from lost

    def load(self, config: Config, run: str, room: int, painters: PaintsTokens) -> None:
        """``config``: as it is read on any machine. Raises: UserError, RunFailure."""
        self._painters = painters
        self._start = TrainerStart(config, os.getcwd(), run, room)
        try:
            self._group.join(self._start)
        except RanksLost as lost:
            raise RunFailure(f"the trainers could not be started: {lost}") from lost

    def repeats(self, learner: Learner, log: ExperienceLog, tell: Callable[[str], None]) -> None:
        self._learner, self._log, self._tell = learner, log, tell

    def export(self, run_folder: Path) -> None:
        self.ask("export", self._config.policy.path, str(run_folder.resolve()))

    def ask(self, what: str, *arguments: object) -> Any:
        """Of the first rank, until somebody answers. Raises: RunFailure if trainers are lost too often."""
        while True:
            try:
                return self._group.ask(what, *arguments)
            except RanksLost as lost:
                self._again(lost)

    def prune(self, lowest: int) -> None:
        self._group.prune(lowest)

    def learnt(self, step: int) -> None:
        self._done = step + 1

    def slowed(self, factor: float) -> None:
        self._slowed.append((self._done, factor))

    def saved(self) -> None:
        self._saved[self._done] = len(self._slowed)

    def close(self) -> None:
        self._group.close()

    def _again(self, lost: RanksLost) -> None:
        """Raises: RunFailure."""
        while True:
            most = self._config.cluster.trainer_restarts
            if self.restarts >= most:
                times = f"{most} time{'s' * (most != 1)}"
                raise RunFailure(
                    f"{lost}, and the trainers were started again {times} already (cluster.trainer_restarts); "
                    f"{checkpoint.way_on(self._folder)}"
                ) from lost
            self.restarts += 1
            saved = self._last_checkpoint(lost)
            self._tell(self._told(lost, saved))
            try:
                self._restore(saved)
                return
            except RanksLost as another:
                lost = another

    def _last_checkpoint(self, lost: RanksLost) -> Checkpoint | None:
        """From which all steps until now can be learnt again; ``None``: from the beginning."""
        if self._done == self._first == 0:
            return None
        log = self._log

        def usable(step: int) -> bool:
            if not self._first <= step <= self._done:  # a later one is of an earlier start of the run
                return False
            return step == self._done or (log is not None and log.upto(step) >= self._done)

        saved = checkpoint.latest(self._folder, usable)
        if saved is None and not (self._first == 0 and usable(0)):
            raise RunFailure(
                f"{lost}, and neither a checkpoint nor the experience log has all that it had learnt; "
                f"{checkpoint.way_on(self._folder)}"
            ) from lost
        return saved

    def _told(self, lost: RanksLost, saved: Checkpoint | None) -> str:
        first = saved.step if saved else 0
        again = self._done - first
        since = f", {again} step{'s' * (again > 1)} learnt again from the experience log" if again else ""
        ranks = "it is" if self._group.size == 1 else "all ranks are"
        return (
            f"{lost}; {ranks} started again, from {f'the checkpoint of step {first}' if saved else 'the beginning'}"
            f"{since} (restart {self.restarts} of at most {self._config.cluster.trainer_restarts})"
        )

    def _restore(self, saved: Checkpoint | None) -> None:
        """All that was learnt, in the order in which it was. Raises: RanksLost."""
        assert self._start is not None
        self._group.restart(self._start)
        first = saved.step if saved else 0
        if saved is not None:
            self._group.ask("load", str((saved.folder / "trainer").resolve()))
        slowed = self._slowed[self._saved.get(first, 0) :]
        for step in range(first, self._done + 1):
            for after, factor in slowed:
                if after == step:
                    self._group.ask("slow_down", factor)
            if step < self._done:
                self._learn_again(step)

    def _learn_again(self, step: int) -> None:
        assert self._learner is not None and self._log is not None  # or nothing was learnt yet
        if self._learner.learns(step, "ar"):
            experience, advantages_PG, _ = self._learner.lesson(self._log.read(step).experience)
            self._group.ask("learn", TokenLesson.of(experience, advantages_PG))
