from __future__ import annotations

import httpx
import pytest

from rewards.remote.servers import NoAnswer
from rl.types import Score
from tests.rewards.pool.test_pool import samples
from tests.rewards.remote.network import A, Change, Handler, Rows, Wire, echo, offer, remote


def raw(content: bytes, headers: dict[str, str]) -> httpx.Response:
    """An answer as it comes over the wire, not decoded yet."""
    return httpx.Response(200, headers=headers, stream=httpx.ByteStream(content))


def failing(status: int, **headers: str) -> Handler:
    return lambda request: (
        offer() if request.url.path != "/score" else httpx.Response(status, json={"detail": "no"}, headers=headers)
    )


@pytest.mark.parametrize(
    ("status", "attempts"),
    [(400, 1), (401, 1), (404, 1), (413, 1), (422, 1), (302, 1), (408, 4), (429, 4), (500, 4), (503, 4)],
)
def test_only_408_429_and_5xx_are_tried_again_and_at_most_three_times(status: int, attempts: int) -> None:
    wire = Wire(failing(status))
    scores = remote(wire, A)(samples())
    assert wire.asked == ["a/score"] * attempts
    assert len(wire.slept) == attempts - 1
    ending = " (4 attempts)" if attempts > 1 else ""
    assert scores == [Score(None, failure=f"http://a:1 answered {status}: no{ending}")] * 4


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.WriteError])
def test_transport_errors_are_tried_again(error: type[httpx.TransportError]) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/score":
            raise error("gone", request=request)
        return offer()

    wire = Wire(handler)
    scores = remote(wire, A)(samples())
    assert wire.asked.count("a/score") == 4
    assert scores == [Score(None, failure=f"http://a:1: {error.__name__}: gone (4 attempts)")] * 4
    once = remote(wire, A, retries=0)(samples())
    assert once == [Score(None, failure=f"http://a:1: {error.__name__}: gone")] * 4


def test_an_answer_that_is_too_large_or_broken_is_a_failure_at_once() -> None:
    large = Wire(lambda r: offer() if r.url.path != "/score" else httpx.Response(200, content=b" " * (2**20 + 1)))
    assert (
        remote(large, A)(samples()) == [Score(None, failure="http://a:1: AnswerTooLarge: answered more than 1 MiB")] * 4
    )
    assert large.asked == ["a/score"]
    broken = {"content": b"no gzip", "headers": {"content-encoding": "gzip"}}
    scores = remote(Wire(lambda r: offer() if r.url.path != "/score" else raw(**broken)), A)(samples())
    assert all(score.failure and score.failure.startswith("http://a:1: DecodingError: ") for score in scores)


def test_what_works_the_second_time_is_scored() -> None:
    answers = iter([503, 500, 200])
    wire = Wire(lambda r: echo(r) if r.url.path != "/score" or (s := next(answers)) == 200 else httpx.Response(s))
    scores = remote(wire, A)(samples())
    assert wire.asked.count("a/score") == 3
    assert scores == [Score(float(i), details={"n": 1}, passed=1.0) for i in range(4)]


def test_pauses_grow_with_jitter_and_follow_retry_after_up_to_30_s() -> None:
    wire = Wire(failing(500))
    for _ in range(20):
        with pytest.raises(NoAnswer):
            wire.endpoints(A).post("/score", b"")
    for nth, (low, high) in enumerate([(0.25, 0.5), (0.5, 1.0), (1.0, 2.0)]):
        pauses = wire.slept[nth::3]
        assert all(low <= pause <= high for pause in pauses)
        assert len(set(pauses)) > 10
    for said, waited in (("7", 7.0), ("99999", 30.0), ("soon", 0.5)):
        wire = Wire(failing(503, **{"retry-after": said}))
        with pytest.raises(NoAnswer):
            wire.endpoints(A, retries=1).post("/score", b"")
        assert wire.slept == [waited] if said != "soon" else 0.25 <= wire.slept[0] <= waited


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows[::-1], "is for other samples than were sent ('s3' instead of 's0')"),
        (lambda rows: rows[:3], "is for other samples than were sent (3 scores for 4 samples)"),
        (lambda rows: [rows[0], *rows[:3]], "is for other samples than were sent ('s0' instead of 's1')"),
        (lambda rows: "none", "is no answer of a reward server: scores: Input should be a valid array"),
        (
            lambda rows: [{**rows[0], "value": "1"}],
            "is no answer of a reward server: scores[0].value: Input should be a",
        ),
    ],
)
def test_an_answer_for_other_samples_is_a_failure(change: Change, reason: str) -> None:
    scores = remote(Wire(lambda request: echo(request, change)), A)(samples())
    assert [score.value for score in scores] == [None] * 4
    assert all(score.failure and score.failure.startswith(f"the answer of http://a:1/ {reason}") for score in scores)


def test_failures_and_not_applicable_come_through() -> None:
    def change(rows: Rows) -> object:
        rows[1] |= {"value": None, "passed": None, "failure": "timed out after 60 s"}
        rows[2] |= {"value": None, "passed": None}
        return rows

    scores = remote(Wire(lambda request: echo(request, change)), A)(samples())
    assert [(s.value, s.failure) for s in scores] == [
        (0.0, None),
        (None, "timed out after 60 s"),
        (None, None),
        (3.0, None),
    ]
