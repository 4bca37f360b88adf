"""Which metrics are watched, how far each may go, and the sentence that says so when it has gone further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rl.config.sections.guards import WINDOW
from rl.tracking.contract import AGE, GUARD_PREFIX, NUMERICS


@dataclass(frozen=True)
class MetricWatch:
    """One metric and how far it may go."""

    metric: str  # the name in metrics.jsonl
    threshold: str  # the field's name in GuardsConfig
    kind: Literal["rise", "drop", "change", "relative rise", "relative drop", "maximum", "minimum"]
    advice: str
    window: int = WINDOW
    unless: str | None = None
    """Another metric, which says more where there is one."""

    @property
    def has_baseline(self) -> bool:
        return self.kind not in ("maximum", "minimum")


_LOOK = "look at the pictures; a KL term, a smaller learning rate or a second reward keeps the policy honest"
_ALIKE = "the pictures of one prompt grow alike; "
_COLLAPSE = "sampling is collapsing; lower train.lr or raise the KL weight"
_SYNC = "disagree on log-probs; check the weight sync, and that dtypes and temperature agree"
_FAR = "the policy is far from its reference; raise the KL weight or lower train.lr"
WATCHES = (
    MetricWatch("guard/darkness", "darkness_rise", "rise", _LOOK),
    MetricWatch("guard/edge_density", "edge_drop", "relative drop", _LOOK),
    MetricWatch("guard/color_entropy", "color_entropy_drop", "relative drop", _LOOK),
    MetricWatch("guard/saturation", "saturation_change", "change", _LOOK),
    MetricWatch(
        "guard/diversity", "diversity_drop", "relative drop", "the pictures of one prompt grow alike; " + _LOOK
    ),
    MetricWatch("entropy", "entropy_drop", "relative drop", _COLLAPSE),
    MetricWatch(
        "guard/render_fidelity",
        "fidelity_drop",
        "drop",
        "the decoder paints something else than the sampled tokens, having been trained on another policy's states",
    ),
    MetricWatch("kl", "max_kl", "maximum", _FAR),
    MetricWatch("answer/entropy", "entropy_drop", "relative drop", _COLLAPSE),
    MetricWatch("answer/kl", "max_kl", "maximum", _FAR),
    MetricWatch("answer/mismatch", "max_mismatch", "maximum", f"sampler and trainer {_SYNC}"),
    MetricWatch("mismatch", "max_mismatch", "maximum", f"sampler and trainer {_SYNC}", unless=NUMERICS),
    MetricWatch(NUMERICS, "max_mismatch", "maximum", f"sampler and painter, with the same weights, {_SYNC}"),
    MetricWatch(
        AGE,
        "max_mismatch_age",
        "maximum",
        "the policy has moved far since the weights that sampled, whose numbers are in order; lower train.lr or "
        "loop.staleness",
    ),
    MetricWatch(
        "zero_std_fraction",
        "max_zero_std",
        "maximum",
        "nearly all groups score alike, so nothing is learnt; use other prompts, a graded reward or a larger group",
    ),
    MetricWatch(
        "guard/copied",
        "max_copied",
        "maximum",
        "answers are the pictures as they were; a reward that multiplies what is done with what is kept pays nothing "
        "for that, a sum of the two does",
    ),
    MetricWatch(
        "guard/redrawn",
        "max_redrawn",
        "maximum",
        "answers have little of the pictures that were to be changed; reward what is kept as well, by a product",
    ),
    MetricWatch(
        "answer/unended",
        "max_unended",
        "maximum",
        "answers are cut off before they end and score nothing; raise rollout.answer_tokens, or train the policy on "
        "answers first",
    ),
    MetricWatch(
        "guard/grid_pattern",
        "grid_rise",
        "rise",
        "the pictures show the grid of the decoder's latents, which no reward sees and a decoder under RL is known "
        "for; lower decoder.lr, or pull it harder to the base",
    ),
    MetricWatch(
        "decoder/x0_mean_square",
        "x0_rise",
        "relative rise",
        "the decoder's latents grow, and pictures grow brighter or glaring; lower decoder.lr, or pull it harder to the "
        "base",
    ),
    MetricWatch(
        "var/unlike_renders",
        "min_unlike_renders",
        "minimum",
        "the renders of a sequence score alike, so the decoder has nothing to learn from; give it a graded reward, "
        "render.seed: sample, more render.renders or fewer render.steps",
        window=1,
    ),
    MetricWatch(
        "var/decoder_share",
        "min_decoder_share",
        "minimum",
        "hardly any of the reward's variance inside a prompt is the decoder's, so training it on this reward moves it "
        "by chance; python -m rl.variance measures it for each reward and number of steps",
    ),
    MetricWatch(
        "var/decoder_share_of_all",
        "min_decoder_share",
        "minimum",
        "hardly any of the reward's variance is the decoder's, nearly all lies between prompts, which cannot be told "
        "from their tokens in groups of one; python -m rl.variance tells them apart",
    ),
)


def outside(kind: str, baseline: float, value: float, allowed: float) -> bool:
    change = value - baseline
    if kind == "minimum":
        return value < allowed
    if kind == "change":
        return abs(change) > allowed
    if kind in ("rise", "maximum"):  # a maximum is a rise above 0
        return change > allowed
    if kind == "drop":
        return -change > allowed
    return (change if kind == "relative rise" else -change) > allowed * abs(baseline)


def sentence(watch: MetricWatch, step: int, baseline: float, value: float, allowed: float) -> str:
    name = watch.metric.removeprefix(GUARD_PREFIX).removeprefix("var/").replace("_", " ")
    name = name.replace("answer/", "answers' ")
    key = f"guards.{watch.threshold}"
    if not watch.has_baseline:
        return f"{name} is {value:.3g} at step {step + 1} ({key}: {allowed:.3g}): {watch.advice}"
    verb = "rose" if value > baseline else "fell"
    limit = f"{allowed:.0%}" if watch.kind.startswith("relative") else f"{allowed:.3g}"
    return f"{name} {verb} from {baseline:.3g} to {value:.3g} by step {step + 1} ({key}: {limit}): {watch.advice}"
