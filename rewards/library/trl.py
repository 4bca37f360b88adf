"""The ``trl`` reward: a function written for TRL's GRPOTrainer, ``f(prompts, completions, **columns)``, as it is.

``prompts``: B texts; ``completions``: B pictures as RGB ``PIL.Image``; every metadata key of the batch is a column of B
values, ``None`` where a prompt lacks it, as TRL passes the columns of a data set. What TRL itself adds is there too:
``log_extra(column, values)`` and ``log_metric(name, value)`` put what they are told into the scores' details;
``completion_ids`` and ``trainer_state`` may be named, and say that pictures have none as soon as they are looked into.
An option hides a column of its name, and what TRL passes does so too. A function without ``**columns`` gets those
that it names. Coroutines are run to their end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn, overload

from PIL import Image

from rewards.base import normalise
from rl.config.declared import OptionNames
from rl.registry import resolve
from rl.types import Sample, Score, UserError

_PASSED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class TrlReward:
    """``{use: trl, options: {function: my_rewards:aesthetic, options: {target: 5}}}``."""

    def __init__(self, function: str, options: Mapping[str, object] | None = None) -> None:
        """Raises ``UserError`` if ``function`` (``module:attr``) cannot be found, is not callable or does not take
        the options."""
        self._function, self._options = resolve("rewards", function), dict(options or {})
        if inspect.isclass(self._function) or not callable(self._function):
            raise UserError(f"trl.options.function: {function!r} is not a function of prompts and completions")
        for name in _PASSED:
            if name in self._options:
                raise UserError(f"trl.options.options.{name}: the function gets the run's own {name}; drop the entry")
        self._takes = _Parameters(self._function)
        for option, near in self._takes.unknown(self._options):
            raise UserError(f"trl.options.options.{option}: {function!r} takes no such argument{near}")

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores. Raises ``ValueError`` for an argument that the function needs and nothing here has."""
        keys = dict.fromkeys(key for sample in samples for key in sample.prompt.metadata)
        columns = {key: [sample.prompt.metadata.get(key) for sample in samples] for key in keys}
        told = _Told(len(samples))
        given = columns | self._options | _passed(samples, told)  # by precedence, so that no name comes twice
        answer = self._function(**self._takes.of(given))
        scores = normalise(asyncio.run(answer) if inspect.iscoroutine(answer) else answer, samples)
        details = zip(scores, told.rows, strict=True)
        return [replace(score, details={**more, **score.details}) if more else score for score, more in details]


class _Parameters:
    """What the function takes by name."""

    def __init__(self, function: Callable[..., object]) -> None:
        parameters = list(inspect.signature(function).parameters.values())
        self._any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
        named = [p for p in parameters if p.kind in _NAMED]
        required = (p.name for p in named if p.default is inspect.Parameter.empty)
        self._names = OptionNames(takes=tuple(p.name for p in named), needs=tuple(required))

    def unknown(self, options: Mapping[str, object]) -> list[tuple[str, str]]:
        return [] if self._any else self._names.unknown(options)

    def of(self, given: Mapping[str, object]) -> dict[str, object]:
        """Those of ``given`` that it takes. Raises ``ValueError`` if one is missing."""
        for name in self._names.missing(given):
            raise ValueError(
                f"the function needs {name!r}, which no prompt of the batch has in its metadata; give it a default, an "
                f"entry in options.options, or `metadata: [{name}]` to the reward, for prompts that have it alone"
            )
        return {name: value for name, value in given.items() if self._any or name in self._names.takes}


class _Told:
    """What the function logs, as details of each sample."""

    def __init__(self, samples: int) -> None:
        self.rows: list[dict[str, object]] = [{} for _ in range(samples)]

    def extra(self, column: str, values: Sequence[object]) -> None:
        """TRL's ``log_extra``: one value for each sample."""
        for row, value in zip(self.rows, values, strict=True):
            row[column] = value

    def metric(self, name: str, value: float) -> None:
        """TRL's ``log_metric``: one value for the batch."""
        for row in self.rows:
            row[name] = value


def _passed(samples: Sequence[Sample], told: _Told) -> dict[str, object]:
    return {
        "prompts": [sample.prompt.text for sample in samples],
        "completions": [Image.fromarray(sample.picture) for sample in samples],
        "completion_ids": [_NoTokens() for _ in samples],
        "trainer_state": _NoState(),
        "log_extra": told.extra,
        "log_metric": told.metric,
    }


class _NoTokens(Sequence[int]):
    """May be passed around; whoever looks into it is told, rather than given an empty completion."""

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> NoReturn:
        raise _absent()

    def __len__(self) -> NoReturn:
        raise _absent()

    def __iter__(self) -> NoReturn:
        raise _absent()


def _absent() -> TypeError:
    return TypeError("it looks into `completion_ids`, and the completions here are pictures without token ids")


class _NoState:
    """As above, for the state of TRL's trainer."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise TypeError(f"it looks at `trainer_state.{name}`, and a reward here knows nothing of its trainer")
