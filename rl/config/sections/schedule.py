"""Which of two networks learns in which step."""

from __future__ import annotations

from typing import Literal

from rl.config.section import Section
from rl.config.values import AtLeastOne, Part


class PhaseConfig(Section):
    """The steps in which one of the networks learns alone."""

    steps: AtLeastOne | None = None
    """How many in a row."""
    group_size: AtLeastOne | None = None
    """Samples per prompt in these steps; ``null``: ``rollout.group_size``."""
    renders: AtLeastOne | None = None
    """Pictures per token sequence in these steps; ``null``: ``render.renders``."""


class ArPhase(PhaseConfig):
    """Those of the language model."""

    steps: AtLeastOne | None = None
    """``alternate``: in how many steps in a row the language model learns, 1 if not given; ``after``: in how many of
    the run's first, which must be given."""


class DecoderPhase(PhaseConfig):
    """Those of the decoder."""

    steps: AtLeastOne | None = None
    """``alternate``: in how many steps in a row the decoder learns, 1 if not given; not for ``after``, where it has the
    rest of the run."""


class ScheduleConfig(Section):
    """Where both networks learn: when each of them does. A function of the step alone."""

    order: Literal["both", "alternate", "after"] = "both"
    """``both``: in every step; ``alternate``: ``ar.steps`` steps, then ``decoder.steps`` steps, and again; ``after``:
    the language model first, then the decoder. ``schedule: alternate`` is short for ``{order: alternate}``."""
    ar: ArPhase = ArPhase()
    """Steps of the language model."""
    decoder: DecoderPhase = DecoderPhase()
    """Steps of the decoder: few sequences with many renders tell it most."""

    def turn(self, step: int) -> Part | None:
        """Whose step it is; ``None``: both learn."""
        if self.order == "both":
            return None
        first = self.ar.steps or 1
        place = step if self.order == "after" else step % (first + (self.decoder.steps or 1))
        return "ar" if place < first else "decoder"

    def learns(self, step: int, part: str) -> bool:
        return self.turn(step) in (None, part)

    def steps_of(self, part: str, steps: int) -> int:
        """In how many of a run's first ``steps`` that part learns."""
        return steps if self.order == "both" else sum(self.learns(step, part) for step in range(steps))

    def phase(self, step: int) -> PhaseConfig:
        return self.of(self.turn(step))

    def of(self, part: Part | None) -> PhaseConfig:
        return PhaseConfig() if part is None else self.ar if part == "ar" else self.decoder
