"""Captioned pictures of the shapes world, as many as one likes: each is a function of its number."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rl.data.examples.contract import NOT_ASKED, Example
from rl.data.pictures import Picture
from rl.data.shapes.looks import FIGURES
from rl.data.shapes.scenes import Scene, dense_cells, dense_looks, random_scene, showing, with_details_of
from rl.data.shapes.sprites import CLASSES
from rl.data.shapes.world import DETAIL_TAGS, TAGS, Content, class_of, looks_of, picture
from rl.types import Prompt, UserError


@dataclass(frozen=True)
class ShapesExamples:
    """See :func:`examples`."""

    split: tuple[str, ...]
    tags: tuple[str, ...] | None
    mislabelled: float
    disobeyed: float
    bad_from: int
    mismatched: float
    dense: float
    detailed: float
    any_looks: bool
    seed: int
    endless: bool = True
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int, /) -> Example:
        rng = np.random.default_rng([self.seed, index])
        scene, bad = self._scene(rng), index >= self.bad_from
        asked = random_scene(rng, scene.content.tag, self.split) if bad and rng.random() < self.mislabelled else scene
        cells, obeyed = self._cells(scene, rng)
        asked = random_scene(rng, None, self.split) if not obeyed and cells is scene.cells_T else asked
        shown = _with_other_details(asked.content, rng, self.split, self.disobeyed if bad else 0.0)
        looks = dense_looks(rng, 1)[0] if self.any_looks else looks_of(shown, cells)
        return Example(
            Prompt(f"shapes-{self.seed}-{index}", asked.caption, asked.content.metadata(), source=f"shapes:{index}"),
            Picture(picture(cells, looks)),
            weights={} if obeyed else {"image": 0.0, "text": 0.0},
            labels=_details(asked.content, cells),
        )

    def of_run(self, seed: int) -> ShapesExamples:
        return replace(self, seed=self.seed + seed)

    def digest(self) -> str:
        return f"endless:{hashlib.sha256(repr(self).encode()).hexdigest()}"

    def _scene(self, rng: Generator) -> Scene:
        tag = None if self.tags is None else self.tags[int(rng.integers(len(self.tags)))]
        if self.detailed and rng.random() < self.detailed:
            tag = str(rng.choice(DETAIL_TAGS))
        return random_scene(rng, tag, self.split)

    def _cells(self, scene: Scene, rng: Generator) -> tuple[NDArray[np.int64], bool]:
        """What is painted, and whether it is what the caption asks for."""
        drawn = rng.random()
        if drawn < self.dense:
            return showing(scene.content, dense_cells(rng, 1)[0], rng), False
        return scene.cells_T, drawn >= self.dense + self.mismatched


def examples(
    *,
    split: str | list[str] = "train",
    tags: list[str] | None = None,
    mislabelled: float = 0.0,
    disobeyed: float = 0.0,
    bad_from: int = 0,
    mismatched: float = 0.0,
    dense: float = 0.0,
    detailed: float = 0.0,
    any_looks: bool = False,
    seed: int = 0,
) -> ShapesExamples:
    """Captions with pictures that show what they ask for; ``tags``: of these tasks alike, in place of the usual shares.

    From row ``bad_from`` on, a share ``mislabelled`` has another caption of the same task, and of those that ask for
    details a share ``disobeyed`` has others. A share ``mismatched`` has the caption of any other picture, a share
    ``dense`` many objects more than the caption asks for: they count nothing in ``image`` and ``text``, and teach the
    decoder (and the heads) to go by the tokens. A share ``detailed`` asks for details, beside those that do so anyway;
    with ``any_looks`` pictures have details at random, whatever is asked for. Raises UserError on an unknown
    split or task.
    """
    for tag in tags or ():
        if tag not in TAGS:
            raise UserError(f"shapes: unknown task {tag!r}; choose among {', '.join(TAGS)}")
    found = ShapesExamples(
        (split,) if isinstance(split, str) else tuple(split),
        None if tags is None else tuple(tags),
        mislabelled,
        disobeyed,
        bad_from,
        mismatched,
        dense,
        detailed,
        any_looks,
        seed,
    )
    found[0]
    return found


def _with_other_details(asked: Content, rng: Generator, splits: tuple[str, ...], share: float) -> Content:
    if not share or asked.tag not in DETAIL_TAGS or rng.random() >= share:
        return asked
    return with_details_of(random_scene(rng, asked.tag, splits).content, asked)


def _details(asked: Content, cells_T: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    """Ground and figure that a caption asks for at each cell; no figure where it asks for no object of that class."""
    looks_T = looks_of(asked, cells_T)
    named = [CLASSES.index(name) for name in asked.figures()]
    figures_T = np.where(np.isin(class_of(cells_T), named), looks_T % len(FIGURES), NOT_ASKED)
    return {"ground": looks_T // len(FIGURES), "figure": figures_T}
