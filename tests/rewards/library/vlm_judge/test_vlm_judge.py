"""The judge against a real server on the loopback: what it asks, how answers become values, what is never a zero."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.library.vlm_judge.reward import VlmJudge
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.registry import resolve
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.library.vlm_judge.vlm_server import MODEL, Answer, FakeEndpoint, chat, picture_of, text_of

CRITERIA = {"objects": "all objects of the request are there", "colours": "they have the colours asked for"}


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.remote.http._BACK_OFF_S", 0.0)


def sample(level: int = 128, name: str = "p0", text: str = "two red circles", **metadata: object) -> Sample:
    return Sample(f"s-{name}", "g", Prompt(name, text, metadata), np.full((8, 12, 3), level, np.uint8))


def yes(p: float = 0.9) -> Answer:
    return chat("Yes", [{"Yes": p, "No": 1 - p}])


def always(answer: Answer) -> FakeEndpoint:
    return FakeEndpoint(lambda number, body: answer)


def sequence(*answers: Answer) -> FakeEndpoint:
    return FakeEndpoint(lambda number, body: answers[min(number, len(answers)) - 1])


def by_level(number: int, body: Mapping[str, Any]) -> Answer:
    """P(yes) is the picture's brightness."""
    p = float(picture_of(body).mean()) / 256
    return chat("Yes", [{"Yes": p, "No": 1 - p}])


def one(judge: VlmJudge, asked: Sample | None = None) -> Score:
    (score,) = judge([asked or sample()])
    return score


# --- yes or no ------------------------------------------------------------------------------------------------------


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


# --- rubric ---------------------------------------------------------------------------------------------------------


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


# --- failures, limits -----------------------------------------------------------------------------------------------


def test_a_mixed_batch_keeps_its_order_and_its_good_ones() -> None:
    def answer(number: int, body: dict[str, Any]) -> Answer:
        level = int(picture_of(body)[0, 0, 0])
        if level == 10:
            return Answer(b"out of memory", 500)
        if level == 20:
            return Answer({"error": "picture too small"}, 400)
        if level == 30:
            return Answer(how="hang")
        return by_level(number, body)

    levels = [64, 10, 128, 20, 192, 30]
    with FakeEndpoint(answer) as server:
        judge = VlmJudge(server.url, MODEL, timeout_s=0.5, retries=1)
        scores = judge([sample(level, str(level)) for level in levels])
        assert len(server.asked) == 3 + 2 + 1 + 2  # good, 500, 400, hang
    where = f"{server.url}/chat/completions"
    assert [score.value for score in scores] == [0.25, None, 0.5, None, 0.75, None]
    assert [score.failure for score in scores] == [
        None,
        f"{where} answered HTTP 500: out of memory, asked 2 times",
        None,
        f'{where} answered HTTP 400: {{"error": "picture too small"}}',
        None,
        f"{server.url} does not answer (nothing complete within 0.5 s), asked 2 times",
    ]


def test_a_server_that_went_away_is_a_failure_and_not_a_zero() -> None:
    with always(yes()) as server:
        judge = VlmJudge(server.url, MODEL, retries=1)
    scores = judge([sample(), sample(name="b")])
    assert [score.value for score in scores] == [None, None]
    for score in scores:
        assert score.failure is not None
        assert score.failure.startswith(f"{server.url} does not answer (ConnectError")


def test_as_many_requests_at_once_as_allowed_and_no_more() -> None:
    together = threading.Barrier(3)  # every answer waits until three are asked for

    def answer(number: int, body: dict[str, Any]) -> Answer:
        together.wait(timeout=10)
        return by_level(number, body)

    with FakeEndpoint(answer) as server:
        scores = VlmJudge(server.url, MODEL, concurrency=3)([sample(20 * i + 1, str(i)) for i in range(12)])
        assert (len(server.asked), server.most_in_flight) == (12, 3)
    assert [score.value for score in scores] == [pytest.approx((20 * i + 1) / 256) for i in range(12)]


def test_one_at_a_time() -> None:
    with FakeEndpoint(by_level) as server:
        VlmJudge(server.url, MODEL, concurrency=1)([sample(20 * i + 1, str(i)) for i in range(5)])
        assert (len(server.asked), server.most_in_flight) == (5, 1)


def test_the_rate_limit_reaches_the_requests() -> None:
    with FakeEndpoint(by_level) as server:
        judge = VlmJudge(server.url, MODEL, max_requests_per_second=4.0)
        slept: list[float] = []
        judge._endpoint._pace._sleep = slept.append
        judge._endpoint._pace._clock = lambda: 0.0
        judge._endpoint._pace._next = 0.0
        judge([sample(20 * i + 1, str(i)) for i in range(5)])
        assert len(server.asked) == 5
    assert sorted(slept) == [0.25, 0.5, 0.75, 1.0]


def test_an_empty_batch() -> None:
    with always(yes()) as server:
        assert VlmJudge(server.url, MODEL)([]) == []


# --- cache ----------------------------------------------------------------------------------------------------------


def test_answers_are_kept_by_picture_and_question(tmp_path: Path) -> None:
    folder = str(tmp_path / "answers")
    with FakeEndpoint(by_level) as server:
        first = one(VlmJudge(server.url, MODEL, cache=folder))
        again = one(VlmJudge(server.url, MODEL, cache=folder), sample(name="another id"))
        assert len(server.asked) == 1
        assert (again.value, again.passed, again.failure) == (first.value, first.passed, None)
        assert again.details == {**first.details, "cached": True}
        for changed, options in (
            (sample(129), {}),
            (sample(text="three red circles"), {}),
            (sample(), {"seed": 1}),
            (sample(), {"question": "Is it {prompt}?"}),
            (sample(), {"max_side": 4}),
            (sample(), {"model": "other"}),
            (Sample("s", "g", sample().prompt, np.full((12, 8, 3), 128, np.uint8)), {}),  # same bytes, other shape
        ):
            before = len(server.asked)
            judge = VlmJudge(**{"url": server.url, "model": MODEL, "cache": folder, **options})
            assert one(judge, changed).details["cached"] is False, (changed, options)
            assert len(server.asked) == before + 1
    with FakeEndpoint(by_level) as server:  # another one, which may serve another version under the same name
        assert one(VlmJudge(server.url, MODEL, cache=folder)).details["cached"] is False
    with sqlite3.connect(tmp_path / "answers" / "cache.db") as database:
        rows = database.execute("SELECT value FROM Cache").fetchall()
    assert len([json.loads(value) for (value,) in rows]) == 9  # JSON, nothing pickled


def test_a_damaged_answer_is_asked_for_again_and_a_broken_cache_costs_no_score(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with always(yes()) as server:
        judge = VlmJudge(server.url, MODEL, cache=str(tmp_path))
        whole = one(judge)
        for damage in ("{", "[1, 2]", sqlite3.Binary(b"\x80\x04"), 7):
            with sqlite3.connect(tmp_path / "cache.db") as database:
                database.execute("UPDATE Cache SET value = ?", (damage,))
            assert one(judge) == whole
            assert one(judge).details["cached"] is True
        with sqlite3.connect(tmp_path / "cache.db") as database:
            database.execute("DROP TABLE Cache")
        assert [score.value for score in judge([sample(1), sample(2)])] == [whole.value] * 2
    assert "vlm_judge.options.cache: " in caplog.text and "this run goes on without it" in caplog.text


def test_failures_are_not_kept(tmp_path: Path) -> None:
    options: dict[str, Any] = {"logprobs": False, "retries": 0, "cache": str(tmp_path)}
    with sequence(Answer(b"", 500), chat("Hm."), chat("Hm."), chat("Yes")) as server:
        judge = VlmJudge(server.url, MODEL, **options)
        scores = [one(judge) for _ in range(4)]
        assert len(server.asked) == 4
    assert [score.failed for score in scores] == [True, True, False, False]
    assert [score.value for score in scores[2:]] == [1.0, 1.0]
    assert [score.details["cached"] for score in scores[2:]] == [False, True]


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    with always(yes()) as server, pytest.raises(UserError) as caught:
        VlmJudge(server.url, MODEL, cache=str(file))
    assert str(caught.value).startswith(f"vlm_judge.options.cache: the folder {str(file)!r} cannot be used (")


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "score"}, "mode is 'score': it must be 'yes_no', 'rubric', 'stated', 'atoms'"),
        ({"criteria": CRITERIA}, "criteria belongs to `mode: rubric`, and the mode is 'yes_no'; set one or drop one"),
        ({"logprobs": "no"}, "logprobs is 'no': it must be true or false"),
        ({"retries": 4}, "retries is 4: it must be 0, 1, 2 or 3"),
        ({"retries": True}, "retries is True: it must be 0, 1, 2 or 3"),
        ({"timeout_s": 0}, "timeout_s is 0: it must be a number above 0"),
        ({"timeout_s": "5"}, "timeout_s is '5': it must be a number above 0"),
        ({"max_requests_per_second": -1}, "max_requests_per_second is -1: it must be a number above 0"),
        ({"max_requests_per_second": float("nan")}, "max_requests_per_second is nan: it must be a number above 0"),
        ({"concurrency": 0}, "concurrency is 0: it must be a whole number of at least 1"),
        ({"max_side": 2.5}, "max_side is 2.5: it must be a whole number of at least 1"),
        ({"question": " "}, "question is ' ': it must be a text"),
        ({"question": "Is {prompt"}, "question: expected '}' before end of string; write {{ or }} for a brace"),
        (
            {"question": "Is {prompt.text}?"},
            "question: `{prompt.text}` must be {prompt} or one plain metadata key; write {{ or }} for a brace",
        ),
        (
            {"question": "Is {} there?"},
            "question: `{}` must be {prompt} or one plain metadata key; write {{ or }} for a brace",
        ),
        ({"mode": "rubric", "criteria": {"a": 3}}, "criteria.a is 3: it must be a text"),
        (
            {"mode": "rubric"},
            "criteria is None: mode rubric needs a mapping, "
            "such as {objects: all the objects are there, style: it looks like a photo}",
        ),
        (
            {"mode": "rubric", "criteria": ["sharp"]},
            "criteria is ['sharp']: mode rubric needs a mapping, "
            "such as {objects: all the objects are there, style: it looks like a photo}",
        ),
        *(
            (
                {"mode": "rubric", "criteria": CRITERIA, "scale": scale},
                f"scale is {scale!r}: it must be two whole numbers, lowest first, such as [1, 5]",
            )
            for scale in (5, [1], [5, 1], [1, 1], [0.5, 2], [True, 5])
        ),
    ],
)
def test_wrong_options_are_named_before_anything_is_asked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        VlmJudge("http://127.0.0.1:9/v1", MODEL, **options)
    at = "vlm_judge.options."
    assert str(caught.value) == at + message


# --- the golden probe and the pool ----------------------------------------------------------------------------------


def sees_red(number: int, body: Mapping[str, Any]) -> Answer:
    red, green, _ = picture_of(body).astype(int).transpose(2, 0, 1)
    return yes(0.9 if (red - green > 100).any() else 0.1)


def load(url: str, **options: Any) -> object:
    return load_reward("judge", "vlm_judge", {"url": url, "model": MODEL, **options})


def test_the_golden_probe_asks_about_a_red_disc_and_none() -> None:
    with FakeEndpoint(sees_red) as server:
        load(server.url)
        assert len(server.asked) == 2
        load(server.url, question="Is it sharp?")
        assert len(server.asked) == 3  # what is right is not known here, only that there must be an answer
        load(server.url, question="Is {text} in it?")
        assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        (yes(), {}, "on its reference picture 'nothing' it scores 0.9, a working one at most 0.5"),
        (yes(0.1), {}, "on its reference picture 'red disc' it scores 0.1, a working one at least 0.5"),
        (chat("Yes"), {"question": "Is it sharp?"}, "it fails: the endpoint gave no `top_logprobs` with its answer"),
        (chat("5"), {"mode": "rubric", "criteria": CRITERIA}, "it fails: no usable answer, asked twice: '5'"),
    ],
)
def test_a_judge_that_cannot_judge_stops_the_run_at_its_start(
    answer: Answer, options: dict[str, Any], message: str
) -> None:
    with always(answer) as server, pytest.raises(UserError) as caught:
        load(server.url, **options)
    assert str(caught.value).startswith("rewards.judge: the golden probe found it dead or wrong: ")
    assert message in str(caught.value)


def test_in_the_pool() -> None:
    options = {"model": MODEL, "question": "Is it bright?"}
    with FakeEndpoint(by_level) as server:
        with RewardPool({"judge": RewardComponent(use="vlm_judge", options={**options, "url": server.url})}) as pool:
            scores = pool.score([sample(64, "a"), sample(192, "b")])["judge"]
        with pytest.raises(UserError) as caught:
            RewardPool({"judge": RewardComponent(use="vlm_judge", options={"url": server.url, "model": "judge-7B"})})
    assert [(score.value, score.passed) for score in scores] == [(0.25, 0.0), (0.75, 1.0)]
    assert str(caught.value) == (
        f"rewards.judge.options.model: {server.url} serves no 'judge-7B', did you mean 'judge-7b'? "
        "(it serves: judge-7b, other)"
    )
