"""The ``edit`` reward: is done what the instruction asks for, and is all else as it was?

Card. Objects are found in the answer and in the picture that was to be changed (the prompt's own first picture), by any
detector of ``geneval``; ``metadata["edit"]`` says what must hold and what may change (``rewards.library.edit.asked``).
e is 1 if every clause holds and nothing stands where something may change that nobody asked for, else 0. J is the
Jaccard index of the objects that must stay (``rewards.library.edit.rules``). Value by ``form``, in [0, 1]:

- ``product`` (default): ``e * J``. A copy gets 0, and so does a new picture of what was asked for alone.
- ``bonus``: ``e * (weight + (1 - weight) * J)``: obeying pays without keeping anything.
- ``sum``: ``weight * e + (1 - weight) * J``. Pays ``1 - weight`` for doing nothing: here to show what becomes of it.

``passed`` is 1 if e and J are 1 and no object has a colour between two. The same object: of one class, of one colour if
both are named, in boxes that overlap by ``overlap`` or more (intersection over union; so size and place count).
``colors`` as for ``geneval``; objects that the detector scores below ``threshold`` are not looked at, unless the
detector itself says from where it is ``sure``: what it is not sure of counts as changed.

Where the metadata says ``looks`` or asks for a detail, the shapes world's details count: objects that must stay keep
their shade and outline, and the ground is one more thing that must stay.

**Blind to** whatever the detector does not find, and to details where they do not count: ground, style, light,
background, faces. Combine it with ``similarity`` (``outside``) for photographs. Instructions that change the whole
picture have no objects that must stay: ask ``vlm_judge`` (``source: true``). Weights and licence: those of the
detector; ``shapes`` needs none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rewards.golden import Golden
from rewards.library.edit.asked import AskedEdit, parse_edit
from rewards.library.edit.looks import with_looks
from rewards.library.edit.objects import PlacedObject, placed
from rewards.library.edit.rules import EditVerdict, judge_edit
from rewards.library.geneval.colors import load_colors
from rewards.library.geneval.contract import Detection
from rewards.library.geneval.detectors.load import detect, load_detector, unknown_class
from rewards.library.geneval.detectors.shapes import UNCLEAR
from rl.data.pictures import Picture
from rl.data.shapes.edits.prompts import edit_examples
from rl.data.shapes.prompts import prompts
from rl.types import Prompt, Sample, Score, UserError

EditForm = Literal["product", "bonus", "sum"]
Pixels = NDArray[np.uint8]
_LETTER = "letter "  # found beside its classes by a detector that reads


class Edit:
    """Scores answers to instructions. A prompt without ``edit`` in its metadata is not applicable; one without a
    picture fails."""

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    metadata = ("edit",)
    shown = ("executed", "kept", "copied", "redrawn")
    metadata_problem = "rewards.library.edit.asked:metadata_problem"
    parts = {"detector": "detectors", "colors": "color_classifiers"}  # noqa: RUF012

    def __init__(
        self,
        detector: str = "shapes",
        form: EditForm = "product",
        weight: float = 0.5,
        overlap: float = 0.7,
        threshold: float = 0.3,
        detector_options: Mapping[str, object] | None = None,
        colors: str | None = None,
        colors_options: Mapping[str, object] | None = None,
    ) -> None:
        if form not in ("product", "bonus", "sum"):
            raise UserError(f"edit.options.form is {form!r}: it must be 'product', 'bonus' or 'sum'")
        for name, value in (("weight", weight), ("overlap", overlap), ("threshold", threshold)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise UserError(f"edit.options.{name} is {value!r}: it must be a number from 0 to 1")
        self.form, self.weight, self.overlap = form, weight, overlap
        self.detector = load_detector(detector, detector_options, reward="edit")
        self.colors = load_colors(colors, colors_options, detector=self.detector, reward="edit")
        own: float | None = getattr(self.detector, "sure", None)
        self._sure, self._least = (threshold, threshold) if own is None else (own, 0.0)

    def golden(self) -> list[Golden]:
        """An exact edit and a copy, for detectors that know the shapes world; none for others."""
        if "circle" not in getattr(self.detector, "classes", ()):
            return []
        one = next(edit_examples("edit_recolour", ["rl"], 1))
        prompt = Prompt("golden", one.instruction, one.metadata(), (Picture(one.before),))
        copy, done = Sample("copy", "golden", prompt, one.before), Sample("done", "golden", prompt, one.after)
        return [Golden(copy, at_most=0.99), Golden(done, at_least=1.0, above_previous=True)]

    def trial_prompts(self) -> list[Prompt]:
        """Prompts for trying the reward out."""
        return prompts("rl", 2, ("edit_recolour", "edit_move"))

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores; what is asked for and can't be judged fails, with the reason."""
        parsed = [self._parsed(sample) for sample in samples]
        asked = {i: one for i, one in enumerate(parsed) if isinstance(one, AskedEdit)}
        after = self._objects([samples[i].picture for i in asked], [asked[i].labels for i in asked])
        before = self._sources({i: (samples[i].prompt.pictures[0], asked[i].labels) for i in asked})
        judged = {i: self._judged(samples[i], asked[i], before[i], one) for i, one in zip(asked, after, strict=True)}
        return [one if isinstance(one, Score) else judged[i] for i, one in enumerate(parsed)]

    def _judged(
        self, sample: Sample, asked: AskedEdit, before: Sequence[PlacedObject], after: Sequence[PlacedObject]
    ) -> Score:
        if not asked.looks:
            return self._score(judge_edit(asked, before, after, self.overlap), after)
        try:
            was, now = with_looks(before, sample.prompt.pictures[0].pixels), with_looks(after, sample.picture)
        except ValueError as error:
            return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
        grounds = was.ground, now.ground
        return self._score(judge_edit(asked, was.objects, now.objects, self.overlap, grounds), now.objects)

    def _parsed(self, sample: Sample) -> AskedEdit | Score:
        prompt = sample.prompt
        try:
            asked = parse_edit(prompt.metadata)
            if asked is None:
                return Score(None)
            if not prompt.pictures:
                raise ValueError("it asks for an edit and holds no picture")
            _ = prompt.pictures[0].pixels
        except (ValueError, UserError) as error:
            return Score(None, failure=f"prompt {prompt.id!r}: {error}")
        problem = unknown_class(self.detector, [one for one in asked.labels if not one.startswith(_LETTER)])
        problem = problem or self._unknown_color(asked)
        return asked if problem is None else Score(None, failure=f"prompt {prompt.id!r}: {problem}")

    def _unknown_color(self, asked: AskedEdit) -> str | None:
        """Why these colours can't be judged: one that is never said would look like an edit that was not made."""
        own = getattr(self.detector, "colors", ())
        named = own if self.colors is None else getattr(self.colors, "colors", None)
        lost = [color for color in asked.colors if named is not None and color not in (*own, *named)]
        if not lost:
            return None
        known = ", ".join(dict.fromkeys((*own, *(named or ())))) or "none; set the option `colors`"
        return f"no object is ever called {lost[0]!r} (the colours are: {known})"

    def _sources(self, asked: Mapping[int, tuple[Picture, Sequence[str]]]) -> dict[int, list[PlacedObject]]:
        """The objects of the pictures that were to be changed; a group shares its own, which is looked at once."""
        first: dict[tuple[str, Sequence[str]], int] = {}
        keys = {i: (picture.digest, labels) for i, (picture, labels) in asked.items()}
        for i, key in keys.items():
            first.setdefault(key, i)
        distinct = list(first.values())
        found = self._objects([asked[i][0].pixels for i in distinct], [asked[i][1] for i in distinct])
        objects = dict(zip(first, found, strict=True))
        return {i: objects[key] for i, key in keys.items()}

    def _objects(self, pictures: Sequence[Pixels], labels: Sequence[Sequence[str]]) -> list[list[PlacedObject]]:
        found = detect(self.detector, pictures, labels)
        if self.colors is not None:
            found = self._colored(pictures, found)
        return [
            placed(row, picture.shape[0], picture.shape[1], self._sure, self._least)
            for picture, row in zip(pictures, found, strict=True)
        ]

    def _colored(self, pictures: Sequence[Pixels], found: Sequence[Sequence[Detection]]) -> list[list[Detection]]:
        """With a colour for whatever counts and has none."""
        assert self.colors is not None
        rows = [[one for one in row if one.score >= self._least] for row in found]
        bare = [(picture, one) for picture, row in zip(pictures, rows, strict=True) for one in row if one.color is None]
        names = iter(self.colors.classify([picture for picture, _ in bare], [one for _, one in bare]) if bare else ())
        return [[one if one.color is not None else replace(one, color=next(names)) for one in row] for row in rows]

    def _score(self, verdict: EditVerdict, after: Sequence[PlacedObject]) -> Score:
        clear = all(one.color != UNCLEAR for one in after)
        return Score(
            edit_value(float(verdict.executed), verdict.kept, self.form, self.weight),
            details={
                "executed": verdict.executed,
                "kept": verdict.kept,
                "copied": verdict.copied,
                "redrawn": verdict.redrawn,
                "reason": verdict.reason if clear else "; ".join(filter(None, [verdict.reason, "a colour is unclear"])),
                "clauses": [{"asked": c.asked, "holds": c.holds, "reason": c.reason} for c in verdict.clauses],
                "found": [str(one) for one in after],
            },
            passed=float(verdict.executed and verdict.kept == 1.0 and clear),
        )


def edit_value(executed: float, kept: float, form: EditForm, weight: float) -> float:
    """The reward of an answer, from what was done and what was kept, both in [0, 1]."""
    match form:
        case "product":
            return executed * kept
        case "bonus":
            return executed * (weight + (1 - weight) * kept)
        case "sum":
            return weight * executed + (1 - weight) * kept
