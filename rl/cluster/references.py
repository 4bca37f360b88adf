"""Pictures that are to be changed, as painters get them: they lie in Ray's object store, and messages name them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from policy.pictures.view import square_view
from rl.data.pictures import Picture
from rl.types import Prompt

_FETCH_S = 60.0


class ReferenceLost(Exception):
    """A picture that is to be changed can't be had; the job is to be sent once more."""


class StoredReferences:
    """Those of the steps under way, each laid down when it is first needed and as the decoder looks at it. One thread
    asks, another one may forget."""

    def __init__(self, side: int) -> None:
        """``side``: of the decoder's pictures."""
        self._side = side
        self._steps: dict[int, dict[Picture, Any]] = defaultdict(dict)

    def of(self, step: int, prompts: Sequence[Prompt]) -> tuple[Any, ...]:
        """Of each prompt the reference of its pixels, ``None`` where nothing is to be changed. Raises: RayError if the
        object store is full."""
        stored = self._steps[step]
        found = []
        for prompt in prompts:
            picture = next(iter(prompt.pictures), None)
            if picture is not None and picture not in stored:
                stored[picture] = ray.put(square_view(picture.pixels, self._side))
            found.append(None if picture is None else stored[picture])
        return tuple(found)

    def forget(self, step: int) -> None:
        """Ray removes them when nobody has a name of them any more; who asks again gets new ones."""
        self._steps.pop(step, None)


def with_references(prompts: Sequence[Prompt], stored: Sequence[Any]) -> tuple[Prompt, ...]:
    """In a painter: prompts with the pixels that lie under these names. Raises: ReferenceLost."""
    if not stored:
        return tuple(prompts)
    return tuple(
        prompt if name is None else replace(prompt, pictures=(Picture(_fetched(prompt, name)),))
        for prompt, name in zip(prompts, stored, strict=True)
    )


def _fetched(prompt: Prompt, name: Any) -> Any:
    try:
        return ray.get(name, timeout=_FETCH_S)
    except GetTimeoutError as error:
        raise ReferenceLost(
            f"the picture that prompt {prompt.id!r} changes has not come from Ray's object store within {_FETCH_S:g} s"
        ) from error
    except RayError as error:
        raise ReferenceLost(
            f"the picture that prompt {prompt.id!r} changes is gone from Ray's object store ({type(error).__name__})"
        ) from error
