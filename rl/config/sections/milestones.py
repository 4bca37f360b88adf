"""What happens now and then in a run: evaluation and checkpoints."""

from __future__ import annotations

from typing import Literal

from rl.config.section import Section
from rl.config.values import AtLeastOne, Bool, BoolOrAuto, Count, Seed


class EvalConfig(Section):
    """Held-out evaluation with fixed seeds."""

    every: Count = 25
    """Steps between evaluations; 0 for none in between."""
    at_start: Bool = True
    """Evaluate the base before the first step."""
    at_end: Bool = True
    """Evaluate after the last step."""
    policy: Literal["live", "ema"] = "live"
    """Which language model is evaluated, and exported at the end: that of now, or its slow copy, ``train.ema``."""
    samples_per_prompt: AtLeastOne = 1
    """Pictures per held-out prompt."""
    seed: Seed = 1234
    """Seed of sampling and decoder noise, the same in every evaluation."""
    grid: Count = 16
    """Pictures in the saved before/after grid."""
    parts: Count = 96
    """Where the decoder learns: held-out prompts, evenly over the tasks, that an evaluation also paints with one of the
    networks as it was at the start, with the decoder's slow copy, and in twice as many steps; 0 for none."""

    def due(self, done: int, steps: int) -> bool:
        """Whether to evaluate after ``done`` of ``steps`` steps."""
        in_between = 0 < done < steps and self.every > 0 and done % self.every == 0
        return in_between or (done == 0 and self.at_start) or (done == steps and self.at_end)


class CheckpointConfig(Section):
    """Saving for resume."""

    every: Count = 25
    """Steps between checkpoints; 0 only at the end."""
    keep: AtLeastOne = 2
    """Newest checkpoints kept."""
    experience: BoolOrAuto = "auto"
    """Keep what the steps since the oldest checkpoint have learnt from in ``RUN/experience`` (4 MB for 512 pictures of
    729 tokens), so that a resume repeats their updates exactly without sampling; for runs that train the language model
    alone. ``auto``: where steps are collected ahead, whose weights are gone by then."""

    def due(self, done: int, steps: int) -> bool:
        """Whether to save after ``done`` of ``steps`` steps."""
        return done == steps or (self.every > 0 and done % self.every == 0)
