"""Answers in words among the rows of a step: where they stand, what counts, and what stops them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policy.base import Policy
from policy.shapes.vocabulary import ANSWER_TEMPLATE as SHAPES
from policy.shapes.vocabulary import with_answers
from policy.supervised.network import PictureAnswer
from policy.understanding.untrained import ANSWER_TEMPLATE as QWEN
from policy.words import END, of_further_turn, without_picture
from rl.algorithm.terms import total_loss
from rl.config.sections.supervised import LossWeights, SupervisedConfig
from rl.data.examples.contract import Example
from rl.data.examples.files import jsonl
from rl.data.examples.order import NumberedStream
from rl.data.shapes.mixed import mixed
from rl.supervised.answers import AnswerRows
from rl.supervised.batch import PictureBatch
from rl.supervised.collect import Dataset
from rl.supervised.objective import SupervisedObjective
from rl.supervised.reconstruct import ReconstructionRows
from rl.supervised.rows import RowMaker
from rl.types import Forward, Prompt, UserError
from tests.policy.editing import editing_policy

OPTIONS = SupervisedConfig(softmax="all", heads={"place": 16}, losses=LossWeights(flow=0.0, answer=0.5))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return with_answers(Policy.load(editing_policy(tmp_path_factory.mktemp("answers"))))


def a_batch(policy: Policy, folder: Path) -> PictureBatch:
    stream = NumberedStream(mixed(shares={"draw": 1, "edit": 1, "answer": 2}, seed=1), per_step=12, seed=0)
    found = Dataset(stream, RowMaker(policy, OPTIONS, seed=5), folder, 0.0, 12)(0).batch
    assert isinstance(found, PictureBatch)
    return found


def test_words_and_their_end_stand_in_place_of_a_picture(policy: Policy) -> None:
    rows, end = AnswerRows(policy, "all"), policy.tokenizer.convert_tokens_to_ids("<|im_end|>")
    asked = mixed(shares={"answer": 1}, answer={"shares": {"ask_position": 1.0}})[0]
    drawn = Example(Prompt("d", "a red ring"), asked.picture)
    given = torch.full((2, 16), 90)
    tokens_BT, counted_BT = rows.put([drawn, Example(asked.prompt, asked.picture, answer="left of")], given)
    assert counted_BT is not None
    assert tokens_BT[0].tolist() == [90] * 16 and counted_BT[0].tolist() == [0] * 16
    words = policy.tokenizer.convert_tokens_to_ids(["left", "of"])
    assert tokens_BT[1].tolist() == [*words, *[end] * 14] and counted_BT[1].tolist() == [1] * 3 + [0] * 13
    assert given.eq(90).all() and rows.put([drawn], given)[1] is None


def test_an_answer_counts_in_its_own_loss_alone(policy: Policy, tmp_path: Path) -> None:
    batch = a_batch(policy, tmp_path)
    assert batch.answer_BT is not None and batch.labels_BTH is not None
    answered_B = batch.answer_BT.any(1)
    assert 2 <= int(answered_B.sum()) <= 10
    assert (batch.image_B == (~answered_B).float()).all() and (batch.flow_B == batch.image_B).all()
    assert (batch.labels_BTH[answered_B] == -100).all() and (batch.labels_BTH[~answered_B] >= 0).all()
    objective = SupervisedObjective(LossWeights(image=2.0, answer=0.5, flow=0.0, heads=0.0), policy.layout.image)
    logprobs_BT = -torch.rand(batch.tokens_BT.shape, generator=torch.Generator().manual_seed(0))
    found = PictureAnswer(Forward(torch.zeros(12, 17, 3), logprobs_BT, -logprobs_BT), None, {})
    prepared = objective.prepare(batch)
    loss = total_loss(objective(found, prepared), objective.weights(prepared))
    images, words = -logprobs_BT[~answered_B].mean(), -logprobs_BT[batch.answer_BT > 0].mean()
    torch.testing.assert_close(loss, 2.0 * images + 0.5 * words)
    parts = [list(range(5)), list(range(5, 12))]
    cut = [
        total_loss(
            objective(
                PictureAnswer(Forward(torch.zeros(len(part), 17, 3), logprobs_BT[part], -logprobs_BT[part]), None, {}),
                prepared.take(part),
            ),
            objective.weights(prepared.take(part)),
        )
        for part in parts
    ]
    torch.testing.assert_close(sum(cut), loss)


def test_a_template_without_its_picture_and_behind_an_answer() -> None:
    assert without_picture(SHAPES) == "{prompt} answer :" == of_further_turn(SHAPES)
    system = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>"
    turn = "\n<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    assert without_picture(QWEN) == system + turn  # Qwen3's chat template
    assert of_further_turn(QWEN) == turn  # behind <|im_end|>, with which an answer ends


def test_of_a_conversation_the_answers_and_their_ends_are_learnt(policy: Policy) -> None:
    asked = mixed(shares={"answer": 1})[0]
    talk = Example(asked.prompt, asked.picture, answer="left of", further=(("what color ?", "red"),))
    tokens_BT, counted_BT = AnswerRows(policy, "all").put([talk], torch.full((1, 16), 90))
    said = ["left", "of", END, "what", "color", "?", "answer", ":", "red", END]
    ids = policy.tokenizer.convert_tokens_to_ids([*said, *[END] * 6])
    assert counted_BT is not None and tokens_BT[0].tolist() == ids
    assert counted_BT[0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 1, 1] + [0] * 6
    long = Example(asked.prompt, asked.picture, answer="red", further=(("what color ?", "red"),) * 2)
    said_of_it = "what follows its first question has 16 tokens, and there is room for 16"
    assert RowMaker(policy, OPTIONS, seed=5).problem(long) is None
    longer = Example(asked.prompt, asked.picture, answer="red red", further=long.further)
    assert RowMaker(policy, OPTIONS, seed=5).problem(longer) == said_of_it.replace("has 16", "has 17")


def test_a_row_of_text_alone_is_learnt_from_its_words(policy: Policy, tmp_path: Path) -> None:
    """``what color ? answer : red <end>``, beside a drawing: it counts in the losses of words, and in no other."""
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"conversations": [{"from": "human", "value": "what color ?"}, {"from": "gpt", "value": "red"}]})
    )
    drawing = mixed(shares={"draw": 1})[0]

    class Two:
        def at(self, step: int) -> list[Example]:
            return [jsonl(path=str(tmp_path / "rows.jsonl"))[0], drawing]

        def state(self) -> dict[str, object]:
            return {}

        def restore(self, state: object) -> None: ...

    options = OPTIONS.model_copy(update={"losses": LossWeights(flow=1.0)})
    lesson = Dataset(Two(), RowMaker(policy, options, seed=5), tmp_path, 0.0, 2)(0)
    batch, vocabulary = lesson.batch, policy.tokenizer.convert_tokens_to_ids
    assert isinstance(batch, PictureBatch) and batch.answer_BT is not None and batch.labels_BTH is not None
    assert lesson.metrics["images"] == 1 and lesson.metrics["bad_rows"] == 0
    [row] = batch.answer_BT.any(1).nonzero()[:, 0].tolist()
    assert list(batch.prompt_ids[row]) == vocabulary(["what", "color", "?", "answer", ":"])
    assert batch.tokens_BT[row].tolist() == vocabulary(["red", *[END] * 15])
    assert batch.answer_BT[row].tolist() == [1, 1] + [0] * 14
    assert (batch.image_B[row], batch.flow_B[row], batch.text_B[row]) == (0, 0, 1)
    assert (batch.labels_BTH[row] == -100).all() and batch.image_B.sum() == batch.flow_B.sum() == 1
    redraws = options.model_copy(update={"losses": LossWeights(reading=1.0)})
    alone = Two().at(0)[0]
    assert RowMaker(policy, redraws, seed=5).problem(alone) == (
        "it is text alone, and an understanding branch that learns redraws the picture of every row"
    )
    assert ReconstructionRows(policy.decoder, 5).problem(alone) == (
        "it is text alone, and an autoencoder learns from pictures"
    )
    with pytest.raises(UserError, match="is a question, and this policy does not answer in words"):
        RowMaker(replace(policy, task_templates={}), OPTIONS, seed=5).problem(alone)


def test_an_example_without_a_picture_has_an_answer() -> None:
    with pytest.raises(ValueError, match="an example without a picture is text alone"):
        Example(Prompt("a", "red"), None)
    with pytest.raises(ValueError, match="stands behind an answer in words"):
        Example(Prompt("a", "red"), mixed(shares={"draw": 1})[0].picture, further=(("why ?", "no"),))


def test_what_can_not_be_learnt_is_told(policy: Policy) -> None:
    asked = mixed(shares={"answer": 1})[0]
    with pytest.raises(UserError) as caught:
        RowMaker(policy, SupervisedConfig(), seed=5).problem(asked)
    assert str(caught.value) == (
        f"supervised.softmax: is image, and prompt 'questions-0-0' ({asked.prompt.text!r}, questions:0) is answered in "
        "words, which are no image tokens; set all"
    )
    long = Example(asked.prompt, asked.picture, answer="red " * 16)
    assert RowMaker(policy, OPTIONS, seed=5).problem(asked) is None
    assert RowMaker(policy, OPTIONS, seed=5).problem(long) == "its answer has 17 tokens, and there is room for 16"
