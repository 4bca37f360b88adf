"""Rows of a step: the same for the same seed and step, sorted by length, without the pictures that can't be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.pictures.inline import PLACEHOLDER
from policy.pictures.view import square_view
from rl.config.sections.supervised import ConditionDrop, LossWeights, SupervisedConfig
from rl.data.examples.contract import Example
from rl.data.examples.order import NumberedStream
from rl.data.pictures import Picture
from rl.data.shapes.examples import examples
from rl.data.shapes.questions.prompts import question_prompts
from rl.supervised.batch import PictureBatch
from rl.supervised.collect import BAD_FILE, Dataset
from rl.supervised.rows import RowMaker
from rl.types import Prompt, UserError
from tests.policy.reading import reading_policy


class Some:
    """Examples of which some have a broken picture."""

    endless, notes = True, ()

    def __init__(self, bad: set[int]) -> None:
        self.bad, self.good = bad, examples(seed=3)

    def __len__(self) -> int:
        return len(self.good)

    def __getitem__(self, index: int, /) -> Example:
        one = self.good[index]
        return Example(one.prompt, Picture(b"no picture")) if index in self.bad else one

    def of_run(self, seed: int) -> Some:
        return self

    def digest(self) -> str:
        return ""


def a_dataset(policy: Policy, folder: Path, bad: set[int], told: list[str], max_bad: float = 0.05) -> Dataset:
    options = SupervisedConfig(heads={"code": 128, "place": 16, "ground": 5, "figure": 6})
    stream = NumberedStream(Some(bad), per_step=8, seed=0)
    return Dataset(stream, RowMaker(policy, options, seed=5), folder, max_bad, 4, told.append)


@pytest.fixture(scope="module")
def policy(tiny_policy: Path) -> Policy:
    return Policy.load(tiny_policy)


def test_a_bad_picture_is_left_out_counted_and_named(policy: Policy, tmp_path: Path) -> None:
    told: list[str] = []
    lessons = list(a_dataset(policy, tmp_path, {3, 12}, told).collect(0, 3))
    assert [len(lesson.batch) for lesson in lessons] == [7, 7, 8]
    assert [lesson.metrics["bad_rows"] for lesson in lessons] == [1.0, 1.0, 0.0]
    noted = [json.loads(line) for line in (tmp_path / BAD_FILE).read_text().splitlines()]
    assert [(one["step"], one["id"]) for one in noted] == [(0, "shapes-3-3"), (1, "shapes-3-12")]
    assert "cannot identify image file" in noted[0]["why"]
    assert told[0].startswith("note: prompt 'shapes-3-3'") and "is left out: the picture can't be read" in told[0]


def test_steps_that_are_done_anew_are_noted_once(policy: Policy, tmp_path: Path) -> None:
    list(a_dataset(policy, tmp_path, {3, 12}, []).collect(0, 2))
    list(a_dataset(policy, tmp_path, {3, 12}, []).collect(1, 2))
    assert [json.loads(line)["step"] for line in (tmp_path / BAD_FILE).read_text().splitlines()] == [0, 1]


def test_too_many_stop_the_run(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        list(a_dataset(policy, tmp_path, {1, 2, 9, 17}, []).collect(0, 4))
    assert str(caught.value) == (
        "supervised.examples: 4 of the 24 rows so far can't be used, which is more than "
        f"supervised.max_bad_rows 0.05 allows; they are named in {tmp_path}/{BAD_FILE}"
    )
    with pytest.raises(UserError, match="none of the 8 rows of step 1 can be used, first prompt"):
        list(a_dataset(policy, tmp_path, set(range(8)), [], max_bad=1.0).collect(0, 1))


def test_a_prompt_that_is_too_long_is_left_out_too(policy: Policy) -> None:
    make = RowMaker(policy, SupervisedConfig(), seed=5)
    long = Example(Prompt("x", "red circle " * 70), examples()[0].picture)
    assert make.problem(examples()[0]) is None
    assert make.problem(long) == "its prompt has 142 tokens, and there is room for 111"


def test_rows_are_a_function_of_seed_and_step(policy: Policy, tmp_path: Path) -> None:
    first, again = (a_dataset(policy, tmp_path, set(), []) for _ in range(2))
    one, other, next_one = first(4).batch, again(4).batch, first(5).batch
    for name in ("tokens_BT", "states", "timestep_B", "keep_B", "target", "labels_BTH"):
        assert getattr(one, name).equal(getattr(other, name)), name
    assert list(one.prompt_ids) == list(other.prompt_ids)
    assert not one.timestep_B.equal(next_one.timestep_B)
    lengths = [len(ids) for ids in one.prompt_ids]
    assert lengths == sorted(lengths)
    # a row's own noise leads from its picture to its noisy latents
    sigma = one.timestep_B[0] / 1000
    clean = one.states[0] - sigma * one.target[0]
    torch.testing.assert_close(clean, one.states[0] + (1 - sigma) * one.target[0] - one.target[0])


def test_labels_say_what_stands_at_each_token(policy: Policy, tmp_path: Path) -> None:
    batch = a_dataset(policy, tmp_path, set(), [])(0).batch
    assert batch.labels_BTH is not None and batch.heads is not None
    assert batch.heads.names == ("code", "place", "ground", "figure")
    assert batch.labels_BTH[..., 0].equal(batch.tokens_BT - policy.layout.image.start)
    assert batch.labels_BTH[2, :, 1].tolist() == list(range(16))
    wrong = RowMaker(policy, SupervisedConfig(heads={"place": 15}), seed=5)
    with pytest.raises(UserError, match="supervised.heads.place: is 15, and an example has the label 15; make it at"):
        wrong([examples()[0]], examples()[0].picture.pixels[None], 0)


def test_conditions_are_dropped_by_their_share(policy: Policy) -> None:
    pixels = np.stack([examples()[0].picture.pixels] * 400)
    make = RowMaker(policy, SupervisedConfig(drop=ConditionDrop(condition=0.25)), seed=5)
    kept = make([examples()[0]] * 400, pixels, 0).keep_B
    assert set(kept.tolist()) == {0.0, 1.0} and 0.18 < 1 - kept.mean().item() < 0.32


def test_tokens_that_differ_from_the_prompts_picture_count_more(policy: Policy) -> None:
    example = examples()[0]
    image = policy.layout.image
    tokens_BT = torch.full((2, image.most), image.start)
    tokens_BT[0, :4] += 1
    make = RowMaker(policy, SupervisedConfig(changed_weight=5.0), seed=5)
    edit = (1, *[image.start] * image.most, 2)
    weights_BT = make._changed([edit, policy.text_ids(example.prompt.text)], tokens_BT)
    assert weights_BT[0].tolist() == pytest.approx([2.5] * 4 + [0.5] * 12)
    assert weights_BT[1].tolist() == [1.0] * 16


def test_a_wide_picture_is_learnt_as_the_model_reads_it(policy: Policy, tmp_path: Path) -> None:
    """The same middle, resized in the same way: a picture to be changed and the changed one must not differ by that."""
    side = policy.decoder.picture_side
    wide = np.random.default_rng(0).integers(0, 256, (3 * side, 5 * side, 3), np.uint8)
    found = a_dataset(policy, tmp_path, set(), [])._pixels(Example(examples()[0].prompt, Picture(wide)))
    assert isinstance(found, np.ndarray) and (found == square_view(wide, side)).all()


def test_examples_of_the_shapes_world_show_what_they_say(policy: Policy) -> None:
    found = examples(split=["train"], tags=["colors"], mismatched=0.5, seed=1)
    rows = [found[index] for index in range(40)]
    wrong = [row for row in rows if row.weights.get("image") == 0.0]
    assert 10 < len(wrong) < 30 and found[7].prompt == rows[7].prompt
    assert {row.prompt.metadata["tag"] for row in rows if not row.weights} == {"colors"}
    with pytest.raises(UserError, match="unknown task 'colour'"):
        examples(tags=["colour"])


class Questions(Some):
    """Each about a picture of its own."""

    def __init__(self) -> None:
        super().__init__(set())
        self.prompts = question_prompts("ask_shade", ["train"], 64)

    def __getitem__(self, index: int, /) -> Example:
        return Example(self.prompts[index], self.prompts[index].pictures[0])


def test_some_questions_read_features_and_the_others_codes(tmp_path: Path) -> None:
    """The same ones again when the step is asked for again, whatever the order of the rows."""
    policy = Policy.load(reading_policy(tmp_path))
    options = SupervisedConfig(features=0.5, trained=("ar",), losses=LossWeights(flow=0.0))

    def batch(options: SupervisedConfig) -> PictureBatch:
        make = RowMaker(policy, options, seed=5)
        lesson = next(Dataset(NumberedStream(Questions(), 64, 0), make, tmp_path, 0.0, 4).collect(0, 1))
        assert isinstance(lesson.batch, PictureBatch)
        return lesson.batch

    some, again = batch(options), batch(options)
    assert some.features is not None and some.features == again.features and some.pixels_B3HW is not None
    assert 20 < sum(one is not None for one in some.features) < 44
    pad = policy.tokenizer.convert_tokens_to_ids(PLACEHOLDER)
    for ids, one, pixels in zip(some.prompt_ids, some.features, some.pixels_B3HW, strict=True):
        assert (one is None) == (pad not in ids)
        shown = next(p for p in Questions().prompts if torch.equal(_seen(policy, p), pixels))
        assert one is None or one.digest == shown.pictures[0].digest
    none = batch(options.model_copy(update={"features": 0.0}))
    assert none.features is None and none.pixels_B3HW is None


def _seen(policy: Policy, prompt: Prompt) -> torch.Tensor:
    return policy.understanding.pixels(prompt.pictures[0].pixels[None].copy())[0]
