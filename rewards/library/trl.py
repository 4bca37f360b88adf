"""The ``trl`` reward: a function written for TRL's GRPOTrainer, ``f(prompts, completions, **columns)``, as it is.

``prompts``: B texts; ``completions``: B pictures as RGB ``PIL.Image``; every metadata key of the batch is a column of B
values, ``None`` where a prompt lacks it, as TRL passes the columns of a data set. An option hides a column of its name,
``prompts`` and ``completions`` do so too. Coroutines are run to their end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping, Sequence

from PIL import Image

from rl.registry import resolve
from rl.types import Sample, UserError


class TrlReward:
    """``{use: trl, options: {function: my_rewards:aesthetic, options: {target: 5}}}``."""

    def __init__(self, function: str, options: Mapping[str, object] | None = None) -> None:
        """Raises ``UserError`` if ``function`` (``module:attr``) cannot be found or is not callable."""
        self._function, self._options = resolve("rewards", function), dict(options or {})
        if inspect.isclass(self._function) or not callable(self._function):
            raise UserError(f"trl.options.function: {function!r} is not a function of prompts and completions")
        for name in ("prompts", "completions"):
            if name in self._options:
                raise UserError(f"trl.options.options.{name}: the function gets the run's own {name}; drop the entry")

    def __call__(self, samples: Sequence[Sample]) -> object:
        """Whatever the function answers for the B samples; it is checked like any other reward's answer."""
        keys = dict.fromkeys(key for sample in samples for key in sample.prompt.metadata)
        columns = {key: [sample.prompt.metadata.get(key) for sample in samples] for key in keys}
        given = columns | self._options  # by precedence, so that no name comes twice
        given["prompts"] = [sample.prompt.text for sample in samples]
        given["completions"] = [Image.fromarray(sample.picture) for sample in samples]
        answer = self._function(**given)
        return asyncio.run(answer) if inspect.iscoroutine(answer) else answer
