"""When a guard gives the alarm."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rl.config.section import Section
from rl.config.values import Fraction, NotNegative, Positive

Action = Literal["warn", "stop", "lower_lr"]
WINDOW = 5
"""Steps that form a baseline, and steps that are averaged before they are compared with it."""


class GuardsConfig(Section):
    """Alarms for reward hacking and a sick run. ``null`` turns one off."""

    action: Action = "warn"
    """What an alarm does: ``warn``, ``stop``, or ``lower_lr``, which multiplies the learning rate of every network that
    is trained by ``lr_factor``, for the rest of the run."""
    actions: dict[str, Action] = Field(default_factory=dict)
    """Guard -> what its alarm does, where that is not ``action``: ``{disagreement: stop, max_kl: lower_lr}``."""
    lr_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """``lower_lr``: what an alarm multiplies the learning rate by."""
    darkness_rise: Fraction | None = 0.25
    """Rise of the fraction of dark pixels since the first step."""
    edge_drop: Fraction | None = 0.5
    """Relative fall of edge density since the first step."""
    color_entropy_drop: Fraction | None = 0.5
    """Relative fall of colour entropy since the first step."""
    saturation_change: Fraction | None = 0.3
    """Absolute change of mean saturation since the first step."""
    diversity_drop: Fraction | None = 0.7
    """Relative fall of the pairwise difference inside groups since the first step."""
    entropy_drop: Fraction | None = 0.9
    """Relative fall of the policy's entropy since the first step."""
    fidelity_drop: Fraction | None = 0.15
    """Absolute fall of render fidelity (pictures re-tokenised and compared) since the first step."""
    render_fidelity_share: Fraction = 1.0
    """Share of a step's pictures that are re-tokenised for it, evenly over the groups. 0: none, no render fidelity."""
    max_kl: Positive | None = 1.0
    """Mean KL to the reference policy, in nats per token."""
    max_mismatch: Positive | None = 0.05
    """Mean absolute difference of sampler and trainer log-probs, in nats; with ``loop.staleness`` that of sampler and
    painter, which have the same weights."""
    max_mismatch_age: Positive | None = 0.3
    """``loop.staleness``: what the trainer's log-probs differ by beyond that, because its weights are newer."""
    max_zero_std: Fraction | None = 0.9
    """Fraction of groups whose rewards are all equal (nothing to learn)."""
    max_copied: Fraction | None = 0.5
    """Of answers to instructions: fraction that is the picture as it was."""
    max_redrawn: Fraction | None = 0.5
    """The same: fraction that is more like the picture of another prompt than like its own."""
    max_unended: Fraction | None = 0.5
    """Of answers in words: fraction that is cut off before its end, which no reward takes for an answer."""
    monitor_drop: NotNegative | None = 0.1
    """Absolute fall of a ``role: monitor`` reward or of one evaluated task since the first value; never less than twice
    its standard error, as with few prompts of a task."""
    disagreement: Positive | None = 3.0
    """Standard errors, added up over steps beyond one in each, by which what is rewarded correlates inside groups with
    less of a ``role: monitor`` reward: told, and obeyed, before the update that the monitor would pay for; sooner by a
    monitor that is graded than by one that passes or fails. By chance alone, once in 2,000 steps."""
    min_unlike_renders: Fraction | None = 0.01
    """Of a decoder that learns: fraction of sequences whose renders don't all score alike (nothing to learn)."""
    min_decoder_share: Fraction | None = 0.02
    """The same: share of the reward's variance inside a prompt that comes from the decoder's noise; in groups of one,
    share of the variance over all prompts."""
    reference_rise: NotNegative | None = 0.5
    """The same: relative rise of its distance to the base within 25 steps (a third of a shorter run's) in which its
    reward does not rise."""
    x0_rise: NotNegative | None = 0.5
    """The same: relative rise of the mean square of its final latents since the first step."""
    grid_rise: NotNegative | None = 1.0
    """The same: rise, in octaves of power, of the pattern that repeats with the autoencoder's stride."""
