"""What goes wrong with the calls and updates of a simulated run, by chance."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Fate(StrEnum):
    """What becomes of a call, or of an update."""

    FINE = "fine"
    SLOW = "slow call"
    DEATH = "worker dies"
    SILENCE = "worker never answers"
    REFUSAL = "call raises"
    OTHER_WEIGHTS = "other weights used"
    REPEATED = "answer comes twice"
    TRAINER_DEATH = "trainer rank dies"
    UNPUBLISHED = "weights never published"


@dataclass(frozen=True)
class Faults:
    """As it stands, nothing. Shares are of calls; an update is one call of the trainer."""

    hours_between: float = 0.0
    """Mean time between the failures of one worker or trainer rank; 0: never."""
    restart: float = 240.0
    """Seconds until another one is there."""
    slow: float = 0.0
    """Take ``slow_factor`` times as long."""
    slow_factor: float = 3.0
    checkpoint_every: int = 50
    """Steps that a trainer repeats at most."""
    died: float = 0.0
    """Kill their worker, besides."""
    silent: float = 0.0
    """Are never answered."""
    refused: float = 0.0
    """Raise, and the worker lives."""
    other_weights: float = 0.0
    """Are answered with weights of another version."""
    repeated: float = 0.0
    """Are answered twice; of those whose worker dies: after its death."""
    unpublished: float = 0.0
    """Share of updates whose weights do not arrive before the deadline."""

    def fate(self, rng: np.random.Generator) -> Fate:
        """Of a call whose worker does not fail by age."""
        shares = (self.died, self.silent, self.refused, self.other_weights, self.repeated)
        if not any(shares):
            return Fate.FINE
        fates = (Fate.DEATH, Fate.SILENCE, Fate.REFUSAL, Fate.OTHER_WEIGHTS, Fate.REPEATED, Fate.FINE)
        return fates[int(np.searchsorted(np.cumsum(shares), rng.random(), side="right"))]

    def arrives(self, rng: np.random.Generator) -> bool:
        """What an update publishes."""
        return not self.unpublished or bool(rng.random() >= self.unpublished)

    def follows_death(self, rng: np.random.Generator) -> bool:
        """An answer that was on its way."""
        return bool(self.repeated) and bool(rng.random() < self.repeated)


NO_FAULTS = Faults()
