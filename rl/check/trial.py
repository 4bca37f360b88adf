"""A function of the algorithm, asked with small made-up inputs, and the rules that hold for several kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.check.rules import Finding
from rl.algorithm.answers import CHECKS, Answering
from rl.algorithm.terms import total_loss
from rl.check.kinds import KINDS
from rl.config.schema import Component
from rl.registry import resolve
from rl.types import UserError

TOLERANCE = 1e-5


@dataclass(frozen=True)
class Trial:
    """One function with the inputs of its kind."""

    key: str
    ask: Answering
    inputs: tuple[Any, ...]
    declared: Mapping[str, object]
    """What it says about itself with ``@declares``."""

    @property
    def trainer(self) -> str:
        """Whose micro-batches cut the rows."""
        return "decoder" if self.key.startswith("decoder") else "train"

    def again(self) -> Any:
        return self.ask(*deepcopy(self.inputs))


def bound(key: str, chosen: Component) -> Answering:
    """As a run calls it."""
    function = resolve(KINDS[key], chosen.use)
    return Answering(key, chosen.use, _Options(function, chosen.options), CHECKS[KINDS[key]])


@dataclass(frozen=True)
class _Options:
    func: Callable[..., Any]
    options: Mapping[str, object]

    def __call__(self, *arguments: Any) -> Any:
        return self.func(*arguments, **self.options)


def error(subject: str, sentence: str) -> Finding:
    return Finding("error", subject, sentence)


def warning(subject: str, sentence: str) -> Finding:
    return Finding("warning", subject, sentence)


def ok(subject: str, sentence: str) -> Finding:
    return Finding("ok", subject, sentence)


def answers(trial: Trial) -> Finding:
    """The first question: type and shape of the answer, or what it raises."""
    try:
        answer = trial.again()
    except UserError as wrong:
        return error("answer", str(wrong))
    return ok("answer", f"{_told(answer)}, as {trial.key} needs it")


def general(trial: Trial) -> Iterator[Finding]:
    """Rules that have nothing to do with what the function is for."""
    given, before = deepcopy(trial.inputs), deepcopy(trial.inputs)
    first = flat(trial.ask(*given))
    if differ(flat(given), flat(before)):
        yield error("inputs", "it changes what it was given, which others read; work on a copy (.clone())")
    else:
        yield ok("inputs", "left as they are")
    if differ(first, flat(trial.again())):
        yield warning("determinism", "the same inputs get another answer the second time: a resumed run will differ")
    else:
        yield ok("determinism", "the same inputs get the same answer")


def penalty(trial: Trial, take: Callable[[Any], tuple[Any, ...]], weights: Tensor) -> Iterator[Finding]:
    """Of a :class:`rl.algorithm.terms.Term`, whose entries ``weights`` weigh."""
    answer = trial.again()
    total_loss({trial.key: answer}, weights)  # raises on a wrong shape
    if not all(np.isfinite(one).all() for one in flat(answer)):
        yield error("finite", "its loss or what it shows is not finite")
    else:
        yield ok("finite", "loss and what it shows are finite")
    yield rows_alone(trial, take, len(weights))
    if any(shown.values.requires_grad for shown in answer.shown.values()):
        yield warning("shown", "what it shows carries the gradient; .detach() it")


def rows_alone(trial: Trial, take: Callable[[Sequence[int]], tuple[Any, ...]], count: int) -> Finding:
    """Batches are cut into micro-batches and spread over ranks: a row must not depend on its neighbours."""
    whole = flat(trial.again())
    for row in range(count):
        alone = flat(trial.ask(*take([row])))
        if any(differ_arrays(one[row : row + 1], other) for one, other in zip(whole, alone, strict=True) if one.ndim):
            return error(
                "rows",
                f"row {row} alone gets another answer than in the batch: results would depend on {trial.trainer}."
                "micro_batch and on the number of GPUs",
            )
    return ok("rows", "a row alone gets the same answer as in a batch")


def flat(value: object) -> list[np.ndarray]:
    """All arrays in an answer, in order."""
    if isinstance(value, Tensor):
        return [value.detach().double().numpy()]
    if isinstance(value, (np.ndarray, float)):
        return [np.asarray(value)]
    if isinstance(value, Mapping):
        return [array for one in value.values() for array in flat(one)]
    if isinstance(value, (list, tuple)):
        return [array for one in value for array in flat(one)]
    if is_dataclass(value):
        return [array for field in fields(value) for array in flat(getattr(value, field.name))]
    return []


def differ(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
    return len(one) != len(other) or any(differ_arrays(*pair) for pair in zip(one, other, strict=True))


def differ_arrays(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape != other.shape or not np.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def gradient(loss: Tensor, source: Tensor) -> Tensor:
    """d sum(loss) / d source; zeros where it does not depend on it."""
    (found,) = torch.autograd.grad(loss.sum(), source, allow_unused=True)
    return torch.zeros_like(source) if found is None else found


def _told(answer: object) -> str:
    shape = f" of shape {tuple(answer.shape)}" if isinstance(answer, (Tensor, np.ndarray)) else ""
    return f"a {type(answer).__name__}{shape}"
