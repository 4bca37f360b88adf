from __future__ import annotations

import json
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.library.vlm_judge.reward import VlmJudge
from rl.types import Sample, UserError
from tests.rewards.library.vlm_judge.judging import always, by_level, one, sample, sequence, yes
from tests.rewards.library.vlm_judge.vlm_server import MODEL, Answer, FakeEndpoint, chat, picture_of

pytestmark = pytest.mark.usefixtures("no_back_off")


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
