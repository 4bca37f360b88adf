"""The trainer as the scheduler knows it: one team of ranks that learns step after step."""

from __future__ import annotations

from dataclasses import dataclass

from rl.scheduler.events import Learn


@dataclass
class TrainerState:
    """Its weights may go back to a checkpoint's; what has been published stays published."""

    trained: int
    """Steps that its weights have learnt."""
    absent_since: float | None
    order: Learn | None = None
    """What it is at."""
    losses: int = 0
    """Deaths at work since it last came further than ever: replayed steps are no progress."""
    furthest: int = 0
    last_loss: str = ""

    @property
    def idle(self) -> bool:
        return self.absent_since is None and self.order is None

    def join(self, version: int) -> None:
        self.trained, self.order, self.absent_since = version, None, None

    def leave(self, at: float, reason: str) -> None:
        self.losses += self.order is not None
        self.absent_since, self.order, self.last_loss = at, None, reason

    def finish(self) -> None:
        self.trained, self.order = self.trained + 1, None
        if self.trained > self.furthest:
            self.furthest, self.losses = self.trained, 0
