"""What becomes of groups without signal, and how large each group is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rl.config.section import Component, Section
from rl.config.values import AtLeastOne


class GroupsConfig(Section):
    """Groups of samples of one prompt, for the language model: those whose rewards are all equal teach it nothing."""

    flat: Literal["keep", "skip", "resample"] = "keep"
    """What becomes of a group whose rewards are all equal. ``keep``: it counts in the loss's denominator, and for the
    penalties; ``skip``: it takes no part in the update at all; ``resample``: further prompts are sampled until
    ``data.prompts_per_step`` groups have a signal (DAPO's dynamic sampling, arXiv 2503.14476, equation 11), and the
    others are skipped. ``groups: resample`` is short for ``{flat: resample}``."""
    budget: Annotated[float, Field(ge=1, le=100)] = 3.0
    """``resample``: at most so many times ``data.prompts_per_step`` prompts are sampled in a step; it then makes
    do with the groups that it has."""
    sizes: Component | None = None
    """How a step's samples are shared among its prompts by their tasks' success so far (``knapsack``, ``neyman``);
    ``null``: every prompt gets ``rollout.group_size``."""
    unit: AtLeastOne = 4
    """Groups of ``sizes`` hold a multiple of it, at least one; it must divide ``rollout.group_size``."""

    def most_prompts(self, per_step: int) -> int | None:
        """That a step may sample until ``per_step`` groups have a signal; ``None``: it samples once."""
        return int(self.budget * per_step) if self.flat == "resample" else None
