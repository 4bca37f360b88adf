from __future__ import annotations

import numpy as np
import pytest

from rewards.library.vlm_judge.reward import VlmJudge
from rl.registry import resolve
from rl.types import Prompt, Sample
from tests.rewards.library.vlm_judge.judging import CRITERIA, always, one, sample, sequence, yes
from tests.rewards.library.vlm_judge.vlm_server import MODEL, chat, picture_of, text_of

pytestmark = pytest.mark.usefixtures("no_back_off")


def test_it_is_in_the_registry() -> None:
    assert resolve("rewards", "vlm_judge") is VlmJudge


@pytest.mark.parametrize(
    ("top", "value"),
    [
        ([{"Yes": 0.6, "No": 0.2}], 0.75),
        # .5 + .1 + .05 against .2 + .05; `Nope` and `yesterday` are other words
        ([{"Yes": 0.5, " no": 0.2, " yes": 0.1, "YES": 0.05, "No": 0.05, "Nope": 0.05, "yesterday": 0.05}], 0.65 / 0.9),
        ([{"No": 0.9, "Maybe": 0.1}], 0.0),
        ([{"▁Yes": 0.3, "ĠNo": 0.6}], 1 / 3),
        ([{"\n": 0.9, "Yes": 0.1}, {"No": 0.8, "Yes": 0.2}], 0.2),  # the answer begins after the blank
    ],
)
def test_the_probability_of_yes_by_hand(top: list[dict[str, float]], value: float) -> None:
    with always(chat("...", top)) as server:
        score = one(VlmJudge(server.url, MODEL))
    assert (score.value, score.passed) == (pytest.approx(value), float(value >= 0.5))
    assert score.details["p_yes"] / (score.details["p_yes"] + score.details["p_no"]) == pytest.approx(value)
    assert (score.details["answer"], score.details["asked"], score.details["cached"]) == ("...", 1, False)


def test_what_is_sent() -> None:
    with always(yes()) as server:
        one(VlmJudge(server.url, MODEL, seed=7))
        (body,) = server.asked
        assert server.listings == 1
    assert np.array_equal(picture_of(body), sample().picture)
    assert text_of(body) == "Does this picture show: two red circles? Answer yes or no."
    rest = {key: value for key, value in body.items() if key != "messages"}
    assert rest == {
        "model": MODEL, "temperature": 0, "seed": 7, "max_tokens": 4, "logprobs": True, "top_logprobs": 20,
    }  # fmt: skip


def test_large_pictures_are_sent_smaller() -> None:
    with always(yes()) as server:
        picture = np.zeros((40, 100, 3), np.uint8)
        one(VlmJudge(server.url, MODEL, max_side=50), Sample("s", "g", Prompt("p", "x"), picture))
        assert picture_of(server.asked[0]).shape == (20, 50, 3)


def test_the_question_is_a_template_and_a_prompt_without_its_key_is_not_applicable() -> None:
    with always(yes()) as server:
        judge = VlmJudge(server.url, MODEL, question='Is "{text}" written in {{this}} {prompt}, {count} times, {list}?')
        metadata = {"text": "HALLO", "count": 2, "list": ["ä", 1]}
        with_keys = Sample("s", "g", Prompt("a", "sign", metadata), sample().picture)
        scores = judge([with_keys, sample(name="b", count=2)])
        (body,) = server.asked
    assert text_of(body) == 'Is "HALLO" written in {this} sign, 2 times, ["ä", 1]?'
    assert [(score.value, score.failure) for score in scores] == [(pytest.approx(0.9), None), (None, None)]


def test_no_logprobs_is_a_failure_that_names_the_way_out() -> None:
    with always(chat("Yes")) as server:
        score = one(VlmJudge(server.url, MODEL))
        assert len(server.asked) == 1
    assert (score.value, score.failure) == (
        None,
        "the endpoint gave no `top_logprobs` with its answer; set `logprobs: false` (a plain yes or no) "
        "or `mode: rubric`",
    )


@pytest.mark.parametrize(("text", "value"), [("Yes", 1.0), (" **no**, it is blue", 0.0), ("YES.", 1.0), ("No", 0.0)])
def test_a_plain_yes_or_no(text: str, value: float) -> None:
    with always(chat(text)) as server:
        score = one(VlmJudge(server.url, MODEL, logprobs=False))
        assert "logprobs" not in server.asked[0]
    assert (score.value, score.passed, score.details["answer"]) == (value, value, text)


def test_an_answer_that_is_neither_is_asked_for_once_more() -> None:
    with sequence(chat("Nowhere"), chat("no")) as server:
        score = one(VlmJudge(server.url, MODEL, logprobs=False))
        first, second = server.asked
    assert (score.value, score.details["asked"]) == (0.0, 2)
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1]["content"] == "Nowhere"
    assert second["messages"][2]["content"] == (
        "That answer does not fit: 'Nowhere' is neither yes nor no. Answer with one word: yes or no."
    )


def test_neither_among_the_likeliest_tokens_is_a_failure_after_the_second_asking() -> None:
    with always(chat("The", [{"The": 0.9, "A": 0.1}])) as server:
        score = one(VlmJudge(server.url, MODEL))
        assert len(server.asked) == 2
    assert score.failure == ("no usable answer, asked twice: 'The': neither yes nor no is among the 2 likeliest tokens")


def test_a_rubric_by_hand_and_what_is_sent() -> None:
    with always(chat('{"objects": 4, "colours": 2}')) as server:
        score = one(VlmJudge(server.url, MODEL, mode="rubric", criteria=CRITERIA))
        (body,) = server.asked
    assert score.value == pytest.approx((3 / 4 + 1 / 4) / 2)
    assert (score.passed, score.details["grades"]) == (None, {"objects": 4, "colours": 2})
    assert text_of(body) == (
        "This picture was made for the request: two red circles\n"
        "Grade it by each criterion with a whole number from 1 (not at all) to 5 (fully):\n"
        "- objects: all objects of the request are there\n"
        "- colours: they have the colours asked for\n"
        'Answer with nothing but a JSON object with the keys "objects", "colours".'
    )
    wanted = body["response_format"]
    assert (wanted["type"], wanted["json_schema"]["strict"]) == ("json_schema", True)
    schema = wanted["json_schema"]["schema"]
    assert (schema["type"], schema["additionalProperties"], schema["required"]) == (
        "object", False, ["objects", "colours"],
    )  # fmt: skip
    assert {k: (v["type"], v["minimum"], v["maximum"]) for k, v in schema["properties"].items()} == dict.fromkeys(
        CRITERIA, ("integer", 1, 5)
    )


def test_a_rubric_of_another_scale_with_templates_and_any_names() -> None:
    criteria = {"is it {there}?": "{thing} is there", "schema": "it is sharp"}
    with always(chat('```json\n{"is it {there}?": 10, "schema": 0}\n```')) as server:
        judge = VlmJudge(server.url, MODEL, mode="rubric", question="Look.", criteria=criteria, scale=[0, 10])
        scores = judge([sample(thing="a cat"), sample(name="without")])
        (body,) = server.asked
    assert [score.value for score in scores] == [0.5, None]
    assert not scores[1].failed
    assert "- is it {there}?: a cat is there\n- schema: it is sharp\n" in text_of(body)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("It is a good picture.", "Invalid JSON"),
        ('{"objects": 4, "colours": 2', "Invalid JSON"),
        ("", "Invalid JSON"),
        ('{"objects": 4}', "colours Field required"),
        ('{"objects": 4, "colours": 2, "style": 3}', "style Extra inputs are not permitted"),
        ('{"objects": 6, "colours": 2}', "objects Input should be less than or equal to 5"),
        ('{"objects": 0, "colours": 2}', "objects Input should be greater than or equal to 1"),
        ('{"objects": 3.5, "colours": 2}', "objects Input should be a valid integer"),
        ('{"objects": "4", "colours": 2}', "objects Input should be a valid integer"),
        ('{"objects": true, "colours": 2}', "objects Input should be a valid integer"),
        ('{"objects": null, "colours": 2}', "objects Input should be a valid integer"),
        ("[4, 2]", "Input should be an object"),
    ],
)
def test_grades_that_do_not_fit_the_schema(text: str, why: str) -> None:
    with always(chat(text)) as server:
        score = one(VlmJudge(server.url, MODEL, mode="rubric", criteria=CRITERIA))
        assert len(server.asked) == 2  # once more, and no more
        assert why in server.asked[1]["messages"][2]["content"]
    assert score.value is None
    assert score.failure is not None
    assert score.failure.startswith(f"no usable answer, asked twice: {text!r} (")
    assert why in score.failure


def test_malformed_then_good() -> None:
    with sequence(chat("five and two"), chat('{"objects": 5, "colours": 5}')) as server:
        score = one(VlmJudge(server.url, MODEL, mode="rubric", criteria=CRITERIA))
        assert len(server.asked) == 2
        assert server.asked[1]["response_format"] == server.asked[0]["response_format"]
    assert (score.value, score.details["asked"]) == (1.0, 2)
