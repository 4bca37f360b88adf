"""Reward-hacking monitors: numbers that are logged and never trained on, and alarms when they leave their band.

A policy trained on a text reward alone darkened its pictures from .45 to .93 dark pixels and lost 60 % of its
edges in 100 steps while the reward rose. Here the first steps set a baseline per metric, and a smoothed metric
that leaves the band around its baseline raises one alarm.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from policy.tokenizers.contract import ImageTokenizer
from rl.config.sections.guards import GuardsConfig
from rl.run_folder.records import Alarm

PREFIX, EVAL_PREFIX = "guard/", "eval/"
WINDOW = 5  # steps that form the baseline, and steps that are averaged before they are compared with it
_DARK, _EDGE = 0.25, 0.1  # luma below which a pixel is dark; luma step above which two neighbours form an edge


@dataclass(frozen=True)
class _Watch:
    metric: str  # the name in metrics.jsonl
    threshold: str  # the field's name in GuardsConfig
    kind: Literal["rise", "drop", "change", "relative drop", "maximum"]
    advice: str


_LOOK = "look at the pictures; a KL term, a smaller learning rate or a second reward keeps the policy honest"
_WATCHES = (
    _Watch("guard/darkness", "darkness_rise", "rise", _LOOK),
    _Watch("guard/edge_density", "edge_drop", "relative drop", _LOOK),
    _Watch("guard/color_entropy", "color_entropy_drop", "relative drop", _LOOK),
    _Watch("guard/saturation", "saturation_change", "change", _LOOK),
    _Watch("guard/diversity", "diversity_drop", "relative drop", "the pictures of one prompt grow alike; " + _LOOK),
    _Watch("entropy", "entropy_drop", "relative drop", "sampling is collapsing; lower train.lr or raise the KL weight"),
    _Watch(
        "guard/render_fidelity",
        "fidelity_drop",
        "drop",
        "the decoder paints something else than the sampled tokens, having been trained on another policy's states",
    ),
    _Watch("kl", "max_kl", "maximum", "the policy is far from its reference; raise the KL weight or lower train.lr"),
    _Watch(
        "mismatch",
        "max_mismatch",
        "maximum",
        "sampler and trainer disagree on log-probs; check the weight sync, and that dtypes and temperature agree",
    ),
    _Watch(
        "zero_std_fraction",
        "max_zero_std",
        "maximum",
        "nearly all groups score alike, so nothing is learnt; use other prompts, a graded reward or a larger group",
    ),
)


def picture_metrics(pictures: NDArray[np.uint8], group_size: int) -> dict[str, float]:
    """Means over (B, H, W, 3) pictures, B a multiple of ``group_size`` (group-major), named ``guard/...``.

    ``guard/diversity`` is left out for groups of one.
    """
    rgb = pictures.astype(np.float32) / 255.0
    luma_BHW = rgb @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    metrics = {
        "darkness": float((luma_BHW < _DARK).mean()),
        "edge_density": float(edge_density(luma_BHW).mean()),
        "color_entropy": float(np.mean(color_entropy(pictures))),
        "saturation": float(saturation(pictures).mean()),
    }
    if group_size > 1:
        metrics["diversity"] = float(diversity(rgb, group_size).mean())
    return {PREFIX + name: value for name, value in metrics.items()}


def edge_density(luma_BHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the (H-1) x (W-1) pixels whose right or lower neighbour differs by more than 0.1 in luma."""
    here = luma_BHW[:, :-1, :-1]
    right, below = np.abs(luma_BHW[:, :-1, 1:] - here), np.abs(luma_BHW[:, 1:, :-1] - here)
    edges_B: NDArray[np.float32] = (np.maximum(right, below) > _EDGE).mean(axis=(1, 2), dtype=np.float32)
    return edges_B


def color_entropy(pictures_BHW3: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Entropy in bits of each picture's histogram over 4 x 4 x 4 colours: 0 (one colour) to 6."""
    red, green, blue = np.moveaxis(pictures_BHW3 >> 6, -1, 0)
    bins_BN = (red << 4 | green << 2 | blue).reshape(len(pictures_BHW3), -1)
    return np.array([_entropy(np.bincount(bins, minlength=64) / bins.size) for bins in bins_BN])


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def saturation(pictures_BHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean HSV saturation, (max - min) / max, of each picture; black counts as 0."""
    # one plane per channel: ten times as fast as a maximum over the last, short axis
    red, green, blue = np.ascontiguousarray(np.moveaxis(pictures_BHW3, -1, 0))
    high = np.maximum(np.maximum(red, green), blue).astype(np.float32) / 255.0
    low = np.minimum(np.minimum(red, green), blue).astype(np.float32) / 255.0
    means_B: NDArray[np.float32] = ((high - low) / np.maximum(high, 1e-6)).mean(axis=(1, 2))
    return means_B


def diversity(rgb_BHW3: NDArray[np.float32], group_size: int) -> NDArray[np.float32]:
    """Root mean square difference over all pairs of a group, 0 (identical) to 1, for each of the P groups.

    The mean of (x_i - x_j)^2 over pairs is twice the unbiased variance, so no pair is ever formed.
    """
    if group_size < 2 or len(rgb_BHW3) % group_size:
        raise ValueError(f"{len(rgb_BHW3)} pictures are not groups of {group_size} (at least 2)")
    groups = rgb_BHW3.reshape(len(rgb_BHW3) // group_size, group_size, -1)
    diversity_P: NDArray[np.float32] = np.sqrt(2.0 * groups.var(axis=1, ddof=1).mean(axis=1))
    return diversity_P


def token_metrics(tokens_BT: NDArray[np.int64]) -> dict[str, float]:
    """``guard/ink_fraction``: share of a picture's tokens that are not its most common one (the background);
    ``guard/distinct_tokens``: different tokens per picture, divided by T. Means over B."""
    ink, distinct = [], []
    for tokens in tokens_BT:
        _, counts = np.unique(tokens, return_counts=True)
        ink.append(1.0 - counts.max() / tokens.size)
        distinct.append(counts.size / tokens.size)
    return {PREFIX + "ink_fraction": float(np.mean(ink)), PREFIX + "distinct_tokens": float(np.mean(distinct))}


def render_fidelity(sampled_BT: NDArray[np.int64], retokenised_BT: NDArray[np.int64]) -> float:
    """Share of tokens that come back when the painted picture is tokenised again; name it ``guard/render_fidelity``."""
    if sampled_BT.shape != retokenised_BT.shape:
        raise ValueError(f"sampled tokens {sampled_BT.shape} and re-tokenised {retokenised_BT.shape} differ in shape")
    return float((sampled_BT == retokenised_BT).mean())


@dataclass(frozen=True)
class Fidelity:
    """``guard/render_fidelity`` on a share of a step's pictures: each costs a forward of the image tokenizer."""

    tokenizer: ImageTokenizer
    share: float = 1.0

    def __call__(self, tokens_BT: NDArray[np.int64], pictures_BHW3: NDArray[np.uint8]) -> dict[str, float]:
        """Group-major, one picture a sample. Empty where the share is 0."""
        chosen = evenly(len(pictures_BHW3), self.share)
        if not len(chosen):
            return {}
        found_NT = self.tokenizer.encode(pictures_BHW3[chosen])
        return {PREFIX + "render_fidelity": render_fidelity(tokens_BT[chosen], found_NT)}


def evenly(count: int, share: float) -> NDArray[np.int64]:
    """Indices of ``share`` of ``count`` samples, at least one unless it is 0, at equal distances: groups that lie side
    by side get equally many, give or take one. The same at every call."""
    wanted = math.ceil(share * count)
    return np.arange(wanted) * count // max(wanted, 1)


class Guards:
    """Baselines, smoothing and alarms. State is a function of the metrics seen: ``replay`` rebuilds it on resume.

    A threshold of ``config`` that is None is watched without alarm.
    ``monitors``: names of rewards with ``role: monitor``; their metric ``reward/<name>`` may not fall by more than
    ``monitor_drop``, and neither may any ``eval/...`` value, which is compared without smoothing.
    """

    def __init__(self, config: GuardsConfig, monitors: Sequence[str] = ()) -> None:
        self._config = config
        held_out = "a score that is not trained on is falling; the trained reward is being bought with it"
        self._watches = (
            *_WATCHES,
            *(_Watch(f"reward/{name}", "monitor_drop", "drop", held_out) for name in monitors),
        )
        self._first: dict[str, list[float]] = {}
        self._recent: dict[str, deque[float]] = {}
        self._active: set[str] = set()

    def check(self, step: int, metrics: Mapping[str, float | None]) -> list[Alarm]:
        """Takes one step's metrics; returns an alarm for each metric that leaves its band at this step.

        A metric raises no second alarm until it has come back. Metrics that are missing or not finite are skipped.
        """
        evaluated = (
            _Watch(name, "monitor_drop", "drop", "this task is paying for the others; add its prompts or a KL term")
            for name in metrics
            if name.startswith(EVAL_PREFIX)
        )
        alarms = [self._check_one(watch, step, metrics.get(watch.metric)) for watch in (*self._watches, *evaluated)]
        return [alarm for alarm in alarms if alarm is not None]

    def replay(self, history: Iterable[tuple[int, Mapping[str, float | None]]]) -> None:
        """(step, metrics) of every step before the resumed one, in order: the state is then as if never stopped."""
        for step, metrics in history:
            self.check(step, metrics)

    def _check_one(self, watch: _Watch, step: int, value: float | None) -> Alarm | None:
        if value is None or not math.isfinite(value):
            return None
        window = 1 if watch.metric.startswith(EVAL_PREFIX) else WINDOW
        first = self._first.setdefault(watch.metric, [])
        recent = self._recent.setdefault(watch.metric, deque(maxlen=window))
        if watch.kind != "maximum" and len(first) < window:
            first.append(value)
            return None
        recent.append(value)
        allowed: float | None = getattr(self._config, watch.threshold)
        if allowed is None or len(recent) < window:
            return None
        baseline = sum(first) / len(first) if first else 0.0
        smoothed = sum(recent) / len(recent)
        if not _outside(watch.kind, baseline, smoothed, allowed):
            self._active.discard(watch.metric)
            return None
        if watch.metric in self._active:
            return None
        self._active.add(watch.metric)
        return Alarm(watch.metric, step, baseline, smoothed, _sentence(watch, step, baseline, smoothed, allowed))


def _outside(kind: str, baseline: float, value: float, allowed: float) -> bool:
    change = value - baseline
    if kind == "change":
        return abs(change) > allowed
    if kind in ("rise", "maximum"):  # a maximum is a rise above 0
        return change > allowed
    if kind == "drop":
        return -change > allowed
    return -change > allowed * abs(baseline)


def _sentence(watch: _Watch, step: int, baseline: float, value: float, allowed: float) -> str:
    name = watch.metric.removeprefix(PREFIX).replace("_", " ")
    key = f"guards.{watch.threshold}"
    if watch.kind == "maximum":
        return f"{name} is {value:.3g} at step {step + 1} ({key}: {allowed:.3g}): {watch.advice}"
    verb = "rose" if value > baseline else "fell"
    limit = f"{allowed:.0%}" if watch.kind == "relative drop" else f"{allowed:.3g}"
    return f"{name} {verb} from {baseline:.3g} to {value:.3g} by step {step + 1} ({key}: {limit}): {watch.advice}"
