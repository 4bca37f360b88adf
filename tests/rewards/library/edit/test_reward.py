"""The edit reward: exact on the world's own edits, and what becomes of a sum where a product is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rewards.golden import prove
from rewards.library.edit.reward import Edit, EditForm, edit_value
from rewards.library.geneval.contract import Detection
from rewards.load import load_reward
from rl.data.pictures import Picture
from rl.data.shapes.edits.contents import EDIT_TAGS, PROBE_TAGS
from rl.data.shapes.edits.example import EditExample
from rl.data.shapes.edits.prompts import edit_examples
from rl.data.shapes.world import picture
from rl.types import Prompt, Sample, Score, UserError

Pixels = NDArray[np.uint8]


def _prompt(one: EditExample) -> Prompt:
    return Prompt(one.instruction, one.instruction, one.metadata(), (Picture(one.before),))


def _scores(examples: Sequence[EditExample], answers: Sequence[Pixels], **options: object) -> list[Score]:
    pairs = zip(examples, answers, strict=True)
    samples = [Sample(str(i), "g", _prompt(one), answer) for i, (one, answer) in enumerate(pairs)]
    return Edit(**options)(samples)  # type: ignore[arg-type]


@pytest.mark.parametrize("tag", [*EDIT_TAGS, *PROBE_TAGS])
def test_the_oracle_passes_and_a_copy_does_not(tag: str) -> None:
    examples = list(edit_examples(tag, ["heldout"], 40))
    done = _scores(examples, [one.after for one in examples])
    assert [(one.value, one.passed) for one in done] == [(1.0, 1.0)] * 40, done[0].details
    copies = _scores(examples, [one.before for one in examples])
    assert {one.value for one in copies} == {1.0 if tag == "edit_keep" else 0.0}
    assert all(one.details["copied"] for one in copies)


def test_blurred_and_noisy_edits_pass_as_sharp_ones_do() -> None:
    rng = np.random.default_rng(0)
    examples = [one for tag in EDIT_TAGS for one in edit_examples(tag, ["rl"], 12)]
    soft = [np.asarray(Image.fromarray(one.after).filter(ImageFilter.GaussianBlur(0.7))) for one in examples]
    noisy = [np.clip(one.after + rng.normal(0, 12, one.after.shape), 0, 255).astype(np.uint8) for one in examples]
    for answers in (soft, noisy):
        assert np.mean([score.passed for score in _scores(examples, answers)]) >= 0.98


def test_details_say_what_is_wrong_clause_by_clause() -> None:
    one = next(edit_examples("edit_move", ["rl"], 1))
    (score,) = _scores([one], [one.before])
    assert score.details["executed"] is False and score.details["kept"] == 1.0
    assert [clause["holds"] for clause in score.details["clauses"]] == [False, False]
    assert score.details["clauses"][0]["reason"].startswith("expected nothing in [")
    blank = picture(np.zeros(16, np.int64))
    (score,) = _scores([one], [blank])
    assert (score.value, score.details["kept"], score.details["redrawn"]) == (0.0, 0.0, True)
    assert "lost: " in score.details["reason"]


def _mean(examples: Sequence[EditExample], answers: Sequence[Pixels], form: EditForm) -> float:
    return float(np.mean([score.value for score in _scores(examples, answers, form=form)]))


def test_a_sum_is_hacked_by_copies_and_a_bonus_by_redraws_and_a_product_by_neither() -> None:
    """Three answers: one that does what is asked in six cases of ten and breaks one kept thing in half of them, as a
    policy that is learning; the picture as it was; and a new picture that shows what is asked and nothing else."""
    examples = [one for tag in ("edit_recolour", "edit_replace", "edit_add") for one in edit_examples(tag, ["rl"], 30)]
    learning = [_clumsy(one, number) for number, one in enumerate(examples)]
    copies, redraws = [one.before for one in examples], [_alone(one) for one in examples]
    means = {
        form: [_mean(examples, a, form) for a in (learning, copies, redraws)] for form in ("product", "bonus", "sum")
    }
    assert means["product"][0] > 0.35 and means["product"][1] == 0.0 and means["product"][2] < 0.1
    assert means["sum"][1] == 0.5 and means["sum"][2] >= 0.5
    assert means["bonus"][1] == 0.0 and means["bonus"][2] >= 0.5 > means["product"][2]
    # what a group of mixed answers is taught: under a sum to copy rather than to try and fail, under a product never
    failed = [_broken(one) for one in examples]
    assert _mean(examples, copies, "sum") > _mean(examples, failed, "sum") + 0.1
    assert _mean(examples, copies, "product") == _mean(examples, failed, "product") == 0.0


def _clumsy(one: EditExample, number: int) -> Pixels:
    if number % 10 >= 6:
        return one.before
    return _broken(one, one.target) if number % 2 else one.after


def _broken(one: EditExample, scene: NDArray[np.int64] | None = None) -> Pixels:
    """One of the things that must stay is gone."""
    cells = (one.source if scene is None else scene).copy()
    kept = [place for place in np.flatnonzero(cells) if one.source[place] == one.target[place]]
    if kept:
        cells[kept[0]] = 0
    return picture(cells)


def _alone(one: EditExample) -> Pixels:
    cells = one.target.copy()
    cells[one.source == one.target] = 0
    return picture(cells)


@pytest.mark.parametrize(
    ("form", "wanted"), [("product", 0.25), ("bonus", 0.5 * (0.4 + 0.6 * 0.5)), ("sum", 0.4 * 0.5 + 0.6 * 0.5)]
)
def test_forms(form: EditForm, wanted: float) -> None:
    assert edit_value(0.5, 0.5, form, 0.4) == pytest.approx(wanted)


class Sees:
    """Any other detector: bright squares of a photograph are cats, with boxes in pixels and no colours."""

    classes = ("cat", "dog")
    asked: list[Sequence[str]] = []  # noqa: RUF012

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        found = []
        for one in pictures:
            rows, columns = np.nonzero(one[..., 0] > 200)
            box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
            found.append([Detection("cat", 0.9, box)] if len(rows) else [])
        return found


def test_other_detectors_judge_photographs_by_boxes_in_shares_of_them(tmp_path: Path) -> None:
    before = np.zeros((40, 80, 3), np.uint8)
    after = before.copy()
    after[10:20, 50:60] = 255
    before[10:20, 10:20] = 255
    Image.fromarray(before).save(tmp_path / "cat.png")
    edit = {"clauses": [{"empty": True, "in": [0, 0, 0.5, 1]}, {"holds": "cat", "in": [0.5, 0, 1, 1]}]}
    metadata = {"edit": {**edit, "editable": [[0, 0, 1, 1]]}}
    prompt = Prompt("p", "move the cat right", metadata, (Picture(tmp_path / "cat.png"),))
    reward = load_reward("mine", "edit", {"detector": f"{__name__}:Sees"})
    scores = reward([Sample(str(i), "p", prompt, one) for i, one in enumerate((after, before))])
    assert [one.value for one in scores] == [1.0, 0.0]  # type: ignore[attr-defined]


def test_what_cannot_be_judged_fails_with_its_reason(tmp_path: Path) -> None:
    one = next(edit_examples("edit_recolour", ["rl"], 1))
    (tmp_path / "no.png").write_text("no picture")
    edit = one.metadata()
    prompts = (
        Prompt("drawing", "two rings", {"tag": "counting"}),
        Prompt("bare", "make it blue", edit),
        Prompt("broken", "make it blue", edit, (Picture(tmp_path / "no.png"),)),
        Prompt("odd", "make it blue", {"edit": {"clauses": [{"holds": "cat"}]}}, (Picture(one.before),)),
        Prompt("pink", "", {"edit": {"clauses": [{"holds": "ring", "color": "pink"}]}}, (Picture(one.before),)),
        Prompt("bad", "make it blue", {"edit": []}, (Picture(one.before),)),
    )
    scores = Edit()([Sample(prompt.id, prompt.id, prompt, one.after) for prompt in prompts])
    assert scores[0] == Score(None)
    reasons = [str(score.failure) for score in scores[1:]]
    assert reasons[0] == "prompt 'bare': it asks for an edit and holds no picture"
    assert reasons[1].startswith(f"prompt 'broken': the picture '{tmp_path}/no.png' can't be read")
    assert reasons[2].startswith("prompt 'odd': the detector knows no class 'cat'")
    assert reasons[3].startswith("prompt 'pink': no object is ever called 'pink' (the colours are: red, ")
    assert reasons[4].startswith("prompt 'bad': edit is []")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "mean"}, "rewards.mine.options.form is 'mean': it must be 'product', 'bonus' or 'sum'"),
        ({"weight": 2}, "rewards.mine.options.weight is 2: it must be a number from 0 to 1"),
        ({"detector": "shape"}, "rewards.mine.options.detector.use: there is no 'shape' among the detectors"),
        ({"colors_options": {"a": 1}}, "rewards.mine.options.colors_options is set but"),
    ],
)
def test_options_are_checked(options: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_reward("mine", "edit", options)
    assert words in str(caught.value)


def test_its_own_pictures_prove_it_alive() -> None:
    reward = Edit()
    assert prove(reward) and len(reward.trial_prompts()) == 4
    assert Edit(detector=f"{__name__}:Sees").golden() == []
