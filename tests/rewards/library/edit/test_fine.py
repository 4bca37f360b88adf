"""Edits below the codebook: done by the oracle, not by a copy, and not by whoever changes other details as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rewards.library.edit.asked import metadata_problem, parse_edit
from rewards.library.edit.looks import with_looks
from rl.data.pictures import Picture
from rl.data.shapes.edits.contents import FINE_EDIT_TAGS
from rl.data.shapes.edits.prompts import edit_examples
from rl.data.shapes.looks import FIGURES, GROUNDS
from rl.data.shapes.world import class_of, picture
from rl.tracking.guards.editing import edit_metrics
from rl.types import Prompt, Rollout
from tests.rewards.library.edit.test_reward import _scores

_EACH = 40


@pytest.mark.parametrize("tag", FINE_EDIT_TAGS)
def test_the_oracle_passes_and_a_copy_does_not(tag: str) -> None:
    examples = [one for split in ("train", "heldout") for one in edit_examples(tag, [split], _EACH)]
    done = _scores(examples, [one.after for one in examples])
    assert np.mean([one.value == one.passed == 1.0 for one in done]) >= 0.98
    rng = np.random.default_rng(0)
    noisy = [np.clip(one.after + rng.normal(0, 5, one.after.shape), 0, 255).astype(np.uint8) for one in examples]
    assert np.mean([one.passed for one in _scores(examples, noisy)]) >= 0.98
    copies = _scores(examples, [one.before for one in examples])
    assert {one.value for one in copies} == {0.0} and all(one.details["copied"] for one in copies)


def test_what_is_kept_is_kept_in_its_details() -> None:
    """The asked shade, with everything else plain: executed, and nothing with a detail of its own is as it was."""
    examples = list(edit_examples("fine_shade", ["rl"], _EACH))
    answers, lost = [], []
    for one in examples:
        assert one.looks is not None
        before, after = one.looks
        (place,) = np.flatnonzero(before != after) if (before != after).any() else (None,)
        others = (class_of(one.source) >= 0) & (np.arange(16) != place)
        answers.append(picture(one.target, np.where(others, after // len(FIGURES) * len(FIGURES), after)))
        lost.append(bool((answers[-1] != one.after).any()))
    scores = _scores(examples, answers)
    assert sum(lost) > _EACH // 2 and all(one.details["executed"] for one in scores)
    assert all((one.value < 1.0) == gone for one, gone in zip(scores, lost, strict=True))
    assert any("lost: " in str(one.details["reason"]) for one in scores)


def test_the_ground_must_stay_unless_another_is_asked_for() -> None:
    one = next(edit_examples("fine_outline", ["rl"], 1))
    assert one.looks is not None
    after = one.looks[1]
    other = (after // len(FIGURES) + 1) % len(GROUNDS) * len(FIGURES) + after % len(FIGURES)
    (score,) = _scores([one], [picture(one.target, other)])
    assert score.details["executed"] and score.value is not None and 0 < score.value < 1 and score.passed == 0
    assert f"the ground became {GROUNDS[other[0] // len(FIGURES)]}" in score.details["reason"]
    ground = next(edit_examples("fine_ground", ["rl"], 1))
    blurred = np.asarray(Image.fromarray(ground.after).filter(ImageFilter.GaussianBlur(4)))
    (score,) = _scores([ground], [blurred])
    assert score.value == 0 and "expected a" in score.details["reason"]


def test_the_ten_operations_may_count_details_too() -> None:
    one = next(edit_examples("edit_recolour", ["rl"], 1))
    looks = np.full(16, len(FIGURES))  # striped
    metadata = one.metadata()
    asked = parse_edit({"edit": {**metadata["edit"], "looks": True}})
    assert asked is not None and asked.looks and not parse_edit(metadata).looks  # type: ignore[union-attr]
    striped = replace(one, looks=(looks, looks))
    plain = replace(one, looks=(looks, looks * 0))
    assert [score.value for score in _scores([striped], [striped.after])] == [1.0]
    (score,) = _scores([striped], [plain.after])
    assert score.value is not None and score.value < 1.0


def test_details_are_read_in_the_shapes_world_alone() -> None:
    with pytest.raises(ValueError, match="the picture is 80 x 48 pixels; details are read in the shapes world,"):
        with_looks([], np.zeros((48, 80, 3), np.uint8))
    for clause, said in (
        ({"ground": "wavy"}, "edit.clauses[0].ground is 'wavy': it must be one of plain, striped, dotted, checked"),
        ({"holds": "star", "shade": "light"}, "edit.clauses[0].shade is 'light': it must be one of normal, pale, dark"),
        ({"holds": "star", "outlined": "yes"}, "edit.clauses[0].outlined is 'yes': it must be true or false"),
    ):
        assert metadata_problem({"edit": {"clauses": [clause]}}) == said
    assert metadata_problem({"edit": {"looks": 1}}) == "edit.looks is 1: it must be true or false"


def test_a_right_answer_has_the_tokens_of_the_picture_and_is_no_copy() -> None:
    class Means:
        def encode(self, pictures: np.ndarray) -> np.ndarray:
            return np.zeros((len(pictures), 16), np.int64)

    examples = [next(edit_examples(tag, ["rl"], 1)) for tag in FINE_EDIT_TAGS]
    prompts = tuple(Prompt(one.tag, "x", one.metadata(), (Picture(one.before),)) for one in examples)
    tokens = np.zeros((3, 16), np.int64)
    rollout = Rollout(prompts, 1, ((1,),) * 3, tokens, np.zeros((3, 16), np.float32), (0, 1, 2), 1.0, 0)
    for answers, share in (("after", 0.0), ("before", 1.0)):
        shown = np.stack([getattr(one, answers) for one in examples])
        assert edit_metrics(rollout, shown, Means())["guard/copied"] == share  # type: ignore[arg-type]
