"""Judges by configuration: a stated score, and questions with right answers taken from the prompt's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.golden import prove
from rewards.library.vlm_judge.reward import VlmJudge
from rl.config.load import load
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.library.vlm_judge.vlm_server import MODEL, Answer, FakeEndpoint, chat, picture_of, text_of

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
ATOMS = [["How many cups are there?", "two"], ["Are the cups red?", "Yes"]]


def configured(name: str, tmp_path: Path) -> dict[str, Any]:
    """The options of ``configs/rewards/<name>.yaml``, but for its server."""
    run = tmp_path / "run.yaml"
    run.write_text(f"extends: [{CONFIGS}/base.yaml, {CONFIGS}/rewards/{name}.yaml]\n")
    reward = load(run).rewards[name]
    assert reward.use == "vlm_judge"
    return {key: value for key, value in reward.options.items() if key not in ("url", "model")}


def sample(**metadata: object) -> Sample:
    return Sample("s", "g", Prompt("p", "two red cups", metadata), np.full((8, 12, 3), 128, np.uint8))


def one(server: FakeEndpoint, options: Mapping[str, Any], asked: Sample) -> Score:
    (score,) = VlmJudge(server.url, MODEL, **options)([asked])
    return score


def always(answer: Answer) -> FakeEndpoint:
    return FakeEndpoint(lambda number, body: answer)


def by_question(**answers: Mapping[str, float]) -> FakeEndpoint:
    """To a question that holds a word, the likeliest tokens."""

    def answer(number: int, body: dict[str, Any]) -> Answer:
        (top,) = [top for word, top in answers.items() if word in text_of(body)]
        return chat(next(iter(top)), [top])

    return FakeEndpoint(answer)


# --- stated ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Final Score: 4", 0.75),
        ("two cups (object): 1\nred (attribute): 0\nFinal Score: 2.5", 0.375),
        ("I begin with Final Score: 1, but then: Final Score:\n5", 1.0),
        ("Final Score: 1", 0.0),
    ],
)
def test_unified_reward_reads_the_stated_score(text: str, value: float, tmp_path: Path) -> None:
    with always(chat(text)) as server:
        score = one(server, configured("unified_reward", tmp_path), sample())
        (body,) = server.asked
    assert (score.value, score.passed, score.details["answer"]) == (pytest.approx(value), None, text)
    assert "caption [two red cups]" in text_of(body) and "Final Score: " in text_of(body)
    assert body["max_tokens"] == 512 and "logprobs" not in body


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("A fine picture.", r"'A fine picture.' does not match 'Final Score:\\s*(\\d+(?:\\.\\d+)?)'"),
        ("Final Score: 7", "the score 7 is not from 1 to 5"),
        ("Final Score: 0", "the score 0 is not from 1 to 5"),
    ],
)
def test_an_unreadable_score_is_a_failure_and_no_zero(text: str, why: str, tmp_path: Path) -> None:
    with always(chat(text)) as server:
        score = one(server, configured("unified_reward", tmp_path), sample())
        assert len(server.asked) == 2
    assert (score.value, score.failure) == (None, f"no usable answer, asked twice: {why}")


def test_one_of_several_stated_scores() -> None:
    text = "Alignment Score (1-5): 2.5\nCoherence Score (1-5): 5\n"
    options = {"mode": "stated", "question": "{prompt}?", "answer": r"Alignment Score \(1-5\): ([\d.]+)"}
    with always(chat(text)) as server:
        assert one(server, options, sample()).value == 0.375


def test_another_pattern_or_scale_is_another_answer_in_the_cache(tmp_path: Path) -> None:
    options: dict[str, Any] = {"mode": "stated", "question": "{prompt}?", "cache": str(tmp_path)}
    with always(chat("Final Score: 4, or 2")) as server:
        values = [
            one(server, {**options, **more}, sample()).value
            for more in ({}, {"scale": [0, 8]}, {"answer": r"or (\d)"}, {})
        ]
        assert len(server.asked) == 3
    assert values == [0.75, 0.5, 0.25, 0.75]


# --- atoms ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "value"), [("geometric", (0.8 * 0.2) ** 0.5), ("arithmetic", 0.5)])
def test_the_mean_of_the_right_answers_by_hand(mean: str, value: float, tmp_path: Path) -> None:
    options = {**configured("geneval2_judge", tmp_path), "mean": mean}
    many = {"two": 0.5, " Two": 0.2, "2": 0.1, "three": 0.15, "twofold": 0.05}
    with by_question(many=many, red={"No": 0.8, "Yes": 0.15, "yes": 0.05}) as server:
        score = one(server, options, sample(vqa_list=ATOMS))
        assert [text_of(body) for body in server.asked] == [
            "How many cups are there? Answer with one word, a number as a word.",
            "Are the cups red? Answer with one word, a number as a word.",
        ]
    assert score.value == pytest.approx(value)
    atoms = score.details["atoms"]
    assert [atom["right"] for atom in atoms] == ["two", "yes"]
    assert [atom["p"] for atom in atoms] == pytest.approx([0.8, 0.2])


def test_a_right_answer_that_is_not_likely_makes_the_geometric_mean_zero() -> None:
    with by_question(many={"five": 1.0}, red={"Yes": 1.0}) as server:
        assert one(server, {"mode": "atoms"}, sample(vqa_list=ATOMS)).value == 0.0
        assert one(server, {"mode": "atoms", "mean": "arithmetic"}, sample(vqa_list=ATOMS)).value == 0.5


def test_without_logprobs_right_answers_are_counted() -> None:
    answers = {"many": "2 cups.", "red": "**No**"}
    with FakeEndpoint(lambda number, body: chat(next(a for w, a in answers.items() if w in text_of(body)))) as server:
        options = {
            "mode": "atoms",
            "mean": "arithmetic",
            "logprobs": False,
            "questions": "asked",
            "question": "{question}",
        }
        assert one(server, options, sample(asked=[*ATOMS, ["Are they not red?", "no"]])).value == pytest.approx(2 / 3)
        assert text_of(server.asked[0]) == "How many cups are there?"


def test_a_prompt_without_questions_is_not_applicable() -> None:
    with always(chat("yes")) as server:
        for metadata in ({}, {"vqa_list": None}, {"vqa_list": []}):
            score = one(server, {"mode": "atoms"}, sample(**metadata))
            assert (score.value, score.failure) == (None, None)
        assert server.asked == []


@pytest.mark.parametrize(
    ("questions", "why"),
    [
        ("Is it red?", "`vqa_list` is 'Is it red?': it must be [[question, right answer], ...]"),
        (["Is it red?"], "`vqa_list` 1 is 'Is it red?': it must be [question, right answer]"),
        ([*ATOMS, ["Is it red?", True]], "`vqa_list` 3 is ['Is it red?', True]: it must be [question, right answer]"),
        ([["Which colour?", "red"]], "`vqa_list` 1: the right answer 'red' must be yes, no or a number from 0 to 9"),
    ],
)
def test_questions_that_cannot_be_asked_fail_before_anything_is_asked(questions: object, why: str) -> None:
    with always(chat("yes")) as server:
        score = one(server, {"mode": "atoms"}, sample(vqa_list=questions))
        assert server.asked == []
    assert (score.value, score.failure) == (None, why)


def test_a_judge_that_says_something_else_is_a_failure_and_no_zero() -> None:
    with by_question(many={"two": 1.0}, red={"The": 0.9, "These": 0.1}) as server:
        score = one(server, {"mode": "atoms"}, sample(vqa_list=ATOMS))
    assert (score.value, score.failure) == (
        None,
        "`vqa_list` 2: no usable answer, asked twice: 'The' begins with neither yes nor no nor a number",
    )


def test_the_same_question_with_another_right_answer_is_asked_anew(tmp_path: Path) -> None:
    options = {"mode": "atoms", "cache": str(tmp_path)}
    with by_question(red={"Yes": 0.75, "No": 0.25}) as server:
        values = [
            one(server, options, sample(vqa_list=[["Is it red?", right]])).value for right in ("yes", "no", "Yes")
        ]
        assert len(server.asked) == 2
    assert values == [0.75, 0.25, 0.75]


def test_the_probe_asks_for_a_red_circle() -> None:
    def sees(number: int, body: dict[str, Any]) -> Answer:
        red = picture_of(body)[128, 128, 1] < 100
        return chat("yes", [{"yes": 0.9, "no": 0.1} if red else {"yes": 0.1, "no": 0.9}])

    with FakeEndpoint(sees) as server:
        assert prove(VlmJudge(server.url, MODEL, mode="atoms"))
    with always(chat("yes", [{"yes": 0.9, "no": 0.1}])) as server, pytest.raises(UserError):
        prove(VlmJudge(server.url, MODEL, mode="atoms"))


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"answer": "(.)"}, "answer belongs to `mode: stated`, and the mode is 'yes_no'; set one or drop one"),
        ({"mode": "rubric", "mean": "geometric"}, "mean belongs to `mode: atoms`, and the mode is 'rubric'; "),
        ({"mode": "stated"}, "question is missing: `mode: stated` has no question of its own; "),
        ({"mode": "stated", "question": "?", "answer": "("}, "answer is '(': it is no regular expression ("),
        ({"mode": "stated", "question": "?", "answer": "x"}, "answer is 'x': it must be a regular expression with one"),
        ({"mode": "stated", "question": "?", "answer": 3}, "answer is 3: it must be a regular expression with one"),
        ({"mode": "stated", "question": "?", "scale": [5, 1]}, "scale is [5, 1]: it must be two whole numbers"),
        ({"mode": "atoms", "questions": 3}, "questions is 3: it must be the key of the prompts' metadata"),
        ({"mode": "atoms", "mean": "harmonic"}, "mean is 'harmonic': it must be 'geometric' or 'arithmetic'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        VlmJudge("http://127.0.0.1:9/v1", MODEL, **options)
    assert str(caught.value).startswith(f"vlm_judge.options.{message}")
