"""Reward-hacking monitors: alarms when what is logged and never trained on leaves its band.

A policy trained on a text reward alone darkened its pictures from .45 to .93 dark pixels and lost 60 % of its
edges in 100 steps while the reward rose. Here the first steps set a baseline per metric, and a smoothed metric
that leaves the band around its baseline raises one alarm.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from rl.config.sections.guards import Action, GuardsConfig
from rl.run_folder.records import Alarm
from rl.tracking.guards.agreement import PREFIX as AGREEMENT
from rl.tracking.guards.agreement import Disagreement
from rl.tracking.guards.chance import fall_of_share, fall_over_steps
from rl.tracking.guards.departure import DISTANCE, STEPS, Departure, compared_over
from rl.tracking.guards.watches import WATCHES, MetricWatch, outside, sentence

EVAL_PREFIX = "eval/"


class Guards:
    """Baselines, smoothing and alarms. State is a function of the metrics seen: ``replay`` rebuilds it on resume.

    A threshold of ``config`` that is None is watched without alarm.
    ``monitors``: names of rewards with ``role: monitor``; their metric ``reward/<name>`` may not fall by more than
    ``monitor_drop`` and than by chance, and neither may any ``eval/...`` value, which is compared without smoothing.
    """

    def __init__(
        self,
        config: GuardsConfig,
        monitors: Sequence[str] = (),
        decoder_steps: int | None = None,
        held_out: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """``decoder_steps``: in which a decoder learns; ``None``: more than can be told. ``held_out``: pictures of each
        task in an evaluation, ``overall`` among them."""
        self._config, self._held_out = config, held_out
        bought = "a score that is not trained on is falling; the trained reward is being bought with it"
        self._watches = (
            *WATCHES,
            *(MetricWatch(f"reward/{name}", "monitor_drop", "drop", bought) for name in monitors),
        )
        self._first: dict[str, list[float]] = {}
        self._recent: dict[str, deque[float]] = {}
        self._active: set[str] = set()
        self._disagreement = Disagreement(monitors, config.disagreement)
        self._departure = Departure(
            config.reference_rise, STEPS if decoder_steps is None else compared_over(decoder_steps)
        )

    def foresee(self, step: int, metrics: Mapping[str, float | None]) -> list[Alarm]:
        """What is known before the step's update, and is obeyed before it: that the update would cost a monitor."""
        return self._disagreement.check(step, metrics)

    def check(self, step: int, metrics: Mapping[str, float | None]) -> list[Alarm]:
        """Takes one step's metrics; returns an alarm for each metric that leaves its band at this step.

        A metric raises no second alarm until it has come back. Metrics that are missing or not finite are skipped.
        """
        paying = "this task is paying for the others; add its prompts or a KL term"
        evaluated = (
            MetricWatch(name, "monitor_drop", "drop", paying, window=1)
            for name in metrics
            if name.startswith(EVAL_PREFIX)
        )
        watches = [watch for watch in (*self._watches, *evaluated) if watch.unless not in metrics]
        alarms = [self._check_one(watch, step, metrics.get(watch.metric)) for watch in watches]
        alarms.append(self._departure.check(step, metrics))
        return [alarm for alarm in alarms if alarm is not None]

    def action(self, alarm: Alarm) -> tuple[Action, str]:
        """What an alarm does, and the key that says so."""
        guard = self._guard_of(alarm.metric)
        if guard in self._config.actions:
            return self._config.actions[guard], f"guards.actions.{guard}"
        return self._config.action, "guards.action"

    def _guard_of(self, metric: str) -> str:
        """The field of ``guards`` that its alarm is about."""
        if metric.startswith(AGREEMENT):
            return "disagreement"
        if metric == DISTANCE:
            return "reference_rise"
        return next((watch.threshold for watch in self._watches if watch.metric == metric), "monitor_drop")

    def replay(self, history: Iterable[tuple[int, Mapping[str, float | None]]]) -> None:
        """(step, metrics) of every step before the resumed one, in order: the state is then as if never stopped."""
        for step, metrics in history:
            self.foresee(step, metrics)
            self.check(step, metrics)

    def _check_one(self, watch: MetricWatch, step: int, value: float | None) -> Alarm | None:
        if value is None or not math.isfinite(value):
            return None
        first = self._first.setdefault(watch.metric, [])
        recent = self._recent.setdefault(watch.metric, deque(maxlen=watch.window))
        if watch.has_baseline and len(first) < watch.window:
            first.append(value)
            return None
        recent.append(value)
        allowed: float | None = getattr(self._config, watch.threshold)
        if allowed is None or len(recent) < watch.window:
            return None
        baseline = sum(first) / len(first) if first else 0.0
        smoothed = sum(recent) / len(recent)
        if not outside(watch.kind, baseline, smoothed, max(allowed, self._by_chance(watch, first, recent))):
            self._active.discard(watch.metric)
            return None
        if watch.metric in self._active:
            return None
        self._active.add(watch.metric)
        return Alarm(watch.metric, step, baseline, smoothed, sentence(watch, step, baseline, smoothed, allowed))

    def _by_chance(self, watch: MetricWatch, first: Sequence[float], recent: Sequence[float]) -> float:
        if watch.threshold != "monitor_drop":
            return 0.0
        if watch.window > 1:
            return fall_over_steps(first, recent)
        task = watch.metric.rpartition("/")[2]
        return fall_of_share(first[0], recent[-1], self._held_out.get(task))
