"""Samples on a shelf: their pictures, and the arrays in their metadata, by shared memory; the rest is pickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rewards.shelf import Place, Shelf, View
from rl.types import Prompt, Sample


@dataclass(frozen=True)
class Item:
    """A sample of which ``place`` holds the picture; arrays in the prompt's metadata are ``Place``s as well."""

    id: str
    group: str
    prompt: Prompt
    place: Place


def shelve(sample: Sample, shelf: Shelf, known: dict[int, Place]) -> Item:
    """``known``: arrays of metadata that are on the shelf already, by ``id``; a group shares its reference."""
    arrays = {key: value for key, value in sample.prompt.metadata.items() if _is_plain(value)}
    for array in arrays.values():
        if id(array) not in known:
            known[id(array)] = shelf.put(array)
    prompt = sample.prompt
    if arrays:
        places = {key: known[id(array)] for key, array in arrays.items()}
        prompt = replace(prompt, metadata={**prompt.metadata, **places})
    return Item(sample.id, sample.group, prompt, shelf.put(sample.picture))


def take_down(items: Sequence[Item], fd: int) -> tuple[list[Sample], View]:
    """The samples, their arrays read-only over the memory behind ``fd``, and the view to close after use."""
    view = View(fd, [place for item in items for place in _places(item)])
    return [Sample(item.id, item.group, _prompt(item, view), view.array(item.place)) for item in items], view


def _is_plain(value: object) -> bool:
    return type(value) is np.ndarray and value.dtype.kind in "biufc"


def _places(item: Item) -> Iterator[Place]:
    yield item.place
    yield from (value for value in item.prompt.metadata.values() if isinstance(value, Place))


def _prompt(item: Item, view: View) -> Prompt:
    arrays: dict[str, Any] = {
        key: view.array(value) for key, value in item.prompt.metadata.items() if isinstance(value, Place)
    }
    return replace(item.prompt, metadata={**item.prompt.metadata, **arrays}) if arrays else item.prompt
