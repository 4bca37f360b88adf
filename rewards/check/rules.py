"""What a reward must keep to be trusted with a run, each rule tried on samples and answered with one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rewards.base import describe_exception, normalise
from rewards.check.samples import resized, trial_samples
from rewards.load import load_and_prove
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.data.prompt_list import keys_of
from rl.types import Prompt, Sample, Score, UserError

Level = Literal["ok", "warning", "error"]
_TOLERANCE = 1e-4  # batched matrix products differ in the last digits
_SIZES = ((32, 32), (96, 48), (256, 256))
_ROUNDS = 3


@dataclass(frozen=True)
class Finding:
    """One rule and how the reward stands to it."""

    level: Level
    subject: str
    sentence: str


class _Trial:
    """One reward with the answers that the rules compare with."""

    def __init__(self, reward: Callable[[Sequence[Sample]], object], samples: Sequence[Sample]) -> None:
        self.reward, self.samples = reward, samples
        self.scores = self.score(samples)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """As in a worker, except that the samples may be changed: a rule of its own finds that."""
        try:
            return normalise(self.reward(samples), samples)
        except Exception as error:  # a plug-in may raise anything
            return [Score(None, failure=describe_exception(error))] * len(samples)


def findings(
    use: str, options: Mapping[str, object], *, prompts: Sequence[Prompt] | None = None, processes: bool
) -> Iterator[Finding]:
    """The rules in order; stops early if there are no answers to compare. Raises ``UserError`` if it can't be loaded.

    ``prompts``: those of the trial, else the reward's own by ``trial_prompts()``, else some of many kinds. Loading
    includes the golden probe. ``processes``: also try it in a worker process, as a run does.
    """
    reward, proven = load_and_prove("check", use, options)
    probed = "with its reference pictures scored" if proven else "no reference pictures of its own"
    yield Finding("ok", "loading", f"loaded, {probed}")
    unseen: Level = "warning" if proven else "error"  # what the trial does not show, its own pictures may have shown
    own = getattr(reward, "trial_prompts", None)
    samples = trial_samples(prompts or (own and own()))
    untouched = deepcopy(list(samples))
    trial = _Trial(reward, samples)
    answers = _answers(trial)
    yield answers
    if answers.level == "error":
        return
    yield _mutation(samples, untouched)
    determinism = _determinism(trial)
    yield determinism
    yield _alive(trial, unseen)
    for rule in (_empty, _sizes, _speed):
        yield rule(trial)
    if determinism.level != "ok":  # nothing can be compared
        return
    for rule in (_order, _one_by_one, _threads):
        yield rule(trial)
    if processes:
        yield _process(trial, use, options)


def _answers(trial: _Trial) -> Finding:
    failed = [score.failure for score in trial.scores if score.failure]
    if failed:
        return Finding("error", "answers", f"{len(failed)} of {len(trial.scores)} samples fail: {failed[0]}")
    return Finding("ok", "answers", f"one finite number or None for each of {len(trial.scores)} samples")


def _mutation(samples: Sequence[Sample], untouched: Sequence[Sample]) -> Finding:
    for now, before in zip(samples, untouched, strict=True):
        if not np.array_equal(now.picture, before.picture):
            return Finding("error", "mutation", "it changes the pictures it judges; copy them first (picture.copy())")
        if now.prompt != before.prompt:
            return Finding("error", "mutation", "it changes the metadata, which other rewards read; copy it first")
    return Finding("ok", "mutation", "pictures and metadata are left as they are")


def _alive(trial: _Trial, unseen: Level) -> Finding:
    """Whether it tells pictures apart at all."""
    values = [score.value for score in trial.scores if score.value is not None]
    applies = f"it applies to {len(values)} of {len(trial.scores)} samples"
    if not values:
        held = keys_of([sample.prompt for sample in trial.samples])
        told = f"give prompts it is for with --prompts (these hold {held})"
        return Finding(unseen, "values", f"{applies}, so nothing is known of it; {told}")
    if len(set(values)) == 1:
        constant = f"{applies} and gives {values[0]:g} to each: a constant teaches nothing"
        return Finding(unseen, "values", f"{constant}; if it is none, show that by `golden()` or prompts of --prompts")
    return Finding("ok", "values", f"{applies}, with values from {min(values):g} to {max(values):g}")


def _order(trial: _Trial) -> Finding:
    backwards = trial.score(trial.samples[::-1])[::-1]
    if worst := _differences(trial, backwards):
        return Finding("error", "order", f"a batch in reverse order gets other scores: {worst}")
    return Finding("ok", "order", "the order of the batch changes nothing")


def _determinism(trial: _Trial) -> Finding:
    if worst := _differences(trial, trial.score(trial.samples), tolerance=0.0):
        told = (
            f"the same samples get other scores the second time: {worst}; seed it (the rules that compare are left out)"
        )
        return Finding("warning", "determinism", told)
    return Finding("ok", "determinism", "the same samples get the same scores")


def _one_by_one(trial: _Trial) -> Finding:
    alone = [score for sample in trial.samples for score in trial.score([sample])]
    if worst := _differences(trial, alone):
        return Finding("error", "batching", f"a sample alone gets another score than in a batch: {worst}")
    return Finding("ok", "batching", "a sample alone scores as in a batch")


def _empty(trial: _Trial) -> Finding:
    try:
        count = len(list(trial.reward([])))  # type: ignore[call-overload]
    except Exception as error:  # a plug-in may raise anything
        return Finding("warning", "empty batch", f"raises {describe_exception(error)}; return [] for no samples")
    if count:
        return Finding("error", "empty batch", f"returns {count} values for no samples")
    return Finding("ok", "empty batch", "no samples, no values")


def _sizes(trial: _Trial) -> Finding:
    for height, width in _SIZES:
        for score in trial.score(resized(trial.samples, height, width)):
            if score.failure:
                return Finding("warning", "sizes", f"{height} x {width} pictures fail: {score.failure}")
    return Finding("ok", "sizes", "pictures of " + ", ".join(f"{h} x {w}" for h, w in _SIZES) + " are scored")


def _threads(trial: _Trial) -> Finding:
    with ThreadPoolExecutor(2) as threads:
        rounds = list(threads.map(lambda _: trial.score(trial.samples), range(2 * _ROUNDS)))
    for scores in rounds:
        if worst := _differences(trial, scores):
            return Finding("warning", "threads", f"two threads at once change scores: {worst}; runs use processes")
    return Finding("ok", "threads", "two threads at once get the same scores")


def _speed(trial: _Trial) -> Finding:
    began = time.perf_counter()
    for _ in range(_ROUNDS):
        trial.score(trial.samples)
    batched = _ROUNDS * len(trial.samples) / (time.perf_counter() - began)
    began = time.perf_counter()
    for sample in trial.samples:
        trial.score([sample])
    alone = len(trial.samples) / (time.perf_counter() - began)
    return Finding(
        "ok", "speed", f"{batched:.0f} pictures/s in batches of {len(trial.samples)}, {alone:.0f} one by one"
    )


def _process(trial: _Trial, use: str, options: Mapping[str, object]) -> Finding:
    try:
        with RewardPool({"check": RewardComponent(use=use, options=dict(options))}) as pool:
            scores = pool.score(trial.samples)["check"]
    except UserError as error:
        return Finding("error", "process", f"cannot be loaded in a worker process: {error}")
    if worst := _differences(trial, scores):
        return Finding("error", "process", f"a worker process gives other scores: {worst}")
    return Finding("ok", "process", "a worker process gives the same scores")


def _differences(trial: _Trial, scores: Sequence[Score], tolerance: float = _TOLERANCE) -> str:
    """The first sample whose score is not the first answer, in words; empty if there is none."""
    for sample, before, now in zip(trial.samples, trial.scores, scores, strict=True):
        if now.failure is not None:
            return f"{sample.id} fails ({now.failure})"
        if before.value is None or now.value is None:
            same = before.value is now.value
        else:
            same = abs(now.value - before.value) <= tolerance * max(1.0, abs(before.value))
        if not same:
            return f"{sample.id} got {_value(before)}, then {_value(now)}"
    return ""


def _value(score: Score) -> str:
    return "None" if score.value is None else f"{score.value:.6g}"
