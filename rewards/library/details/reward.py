"""The ``details`` reward: are the shade, the outline and the ground painted that the caption asks for?

Card. For the embedded shapes world: details that no image token holds, so that the decoder alone decides them. The
picture is read cell by cell, by the nearest of all cells of the world in all looks; a detail counts where it is at
least .7 of the way from every other value (half an outline, pale stripes and a shade between two are none).

A caption has one *slot* for the ground and two (shade, outline) for each object it names; what it does not mention
means plain, normal, none. A slot's value: the share of the 16 cells that have the ground, or of the class's objects
in the picture that are drawn so (0 if there is none). The score is the mean over the slots that the caption mentions
and those that it does not and the picture gets wrong: in [0, 1], an outline everywhere pays for nobody. ``passed`` is 1
if every slot holds (the ground in 15 cells of 16 or more) and the objects are right by GenEval's strict rules.
Blind to colours, places and counts in the score (those are the tokens', and in ``passed``), and to whatever is no cell
of the world. No weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rewards.golden import Golden
from rewards.library.details.asked import AskedDetails, AskedObject, parse_details
from rewards.library.details.reader import SeenObject, SeenPicture, read_picture
from rewards.library.geneval.rules import Requirements, judge, parse
from rl.data.shapes import world
from rl.data.shapes.looks import GROUNDS, SHADES
from rl.data.shapes.prompts import prompts
from rl.data.shapes.sprites import SIDE
from rl.types import Prompt, Sample, Score

_GROUND = 15 / 16  # of the cells must have it


@dataclass(frozen=True)
class Slot:
    """One detail: ``mentioned`` by the caption or not, ``value`` the share of it that is there."""

    name: str
    mentioned: bool
    value: float
    holds: bool

    @property
    def counts(self) -> bool:
        return self.mentioned or not self.holds


class Details:
    """Scores pictures of the shapes world by the details of their captions.

    A prompt without ``details`` in its metadata is not applicable. Malformed metadata and a picture that is not
    64 x 64 fail.
    """

    metadata = ("details",)
    metadata_problem = "rewards.library.details.asked:metadata_problem"

    def golden(self) -> list[Golden]:
        """A scene drawn as asked, with one of its three details, and with none."""
        content = world.Content("look_attr", ("outlined", "circle", "pale", "star", "striped"))
        cells = world.draw_scene(content, np.random.default_rng(0))
        halved = world.Content("look_attr", ("outlined", "circle", "", "star", "plain"))
        prompt = Prompt("golden", content.caption(0), content.metadata())
        drawn = (
            ("as asked", world.picture(cells, world.looks_of(content, cells)), 1.0, 1.0),
            ("an outline alone", world.picture(cells, world.looks_of(halved, cells)), 0.3, 0.4),
            ("without details", world.picture(cells), 0.0, 0.0),
        )
        return [Golden(Sample(name, "golden", prompt, picture), low, high) for name, picture, low, high in drawn]

    def trial_prompts(self) -> list[Prompt]:
        """Prompts for trying the reward out."""
        return prompts("rl", 2, world.DETAIL_TAGS)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores."""
        return [_score(sample) for sample in samples]


def _score(sample: Sample) -> Score:
    try:
        asked, objects = parse_details(sample.prompt.metadata), parse(sample.prompt.metadata)
    except ValueError as error:
        return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
    if asked is None:
        return Score(None)
    height, width = sample.picture.shape[:2]
    if (height, width) != (SIDE, SIDE):
        return Score(
            None, failure=f"the picture is {width} x {height} pixels; details reads the shapes world, {SIDE} x {SIDE}"
        )
    return grade(asked, objects, read_picture(sample.picture))


def grade(asked: AskedDetails, objects: Requirements | None, seen: SeenPicture) -> Score:
    """``objects``: GenEval's clauses, which ``passed`` needs too; None where the prompt has none."""
    slots = [_ground(asked.ground, seen), *(slot for one in asked.objects for slot in _drawn(one, seen.objects))]
    counted = [slot for slot in slots if slot.counts]
    verdict = None if objects is None else judge(objects, [one.detection for one in seen.objects])
    missing = [f"{slot.name}: {slot.value:.2f}" for slot in slots if not slot.holds]
    passed = not missing and (verdict is None or verdict.strict)
    return Score(
        math.fsum(slot.value for slot in counted) / len(counted),
        details={
            "slots": {slot.name: slot.value for slot in counted},
            "objects": None if verdict is None else verdict.strict,
            "reason": "; ".join([*missing, *([verdict.reason] if verdict is not None and verdict.reason else [])]),
        },
        passed=float(passed),
    )


def _ground(asked: str, seen: SeenPicture) -> Slot:
    share = seen.grounds.count(asked) / len(seen.grounds)
    return Slot(f"{asked} ground", asked != GROUNDS[0], share, share >= _GROUND)


def _drawn(asked: AskedObject, objects: Sequence[SeenObject]) -> list[Slot]:
    """Shade and outline; of a class that is not there only what the caption mentions counts."""
    found = [one for one in objects if one.detection.label == asked.label]
    outline = "outlined" if asked.outlined else "not outlined"
    wanted = (
        (f"{asked.shade} {asked.label}", asked.shade != SHADES[0], [one.shade == asked.shade for one in found]),
        (f"{outline} {asked.label}", asked.outlined, [one.outlined == asked.outlined for one in found]),
    )
    return [
        Slot(name, mentioned, sum(right) / len(right) if right else 0.0, bool(right) and all(right))
        for name, mentioned, right in wanted
        if right or mentioned
    ]
