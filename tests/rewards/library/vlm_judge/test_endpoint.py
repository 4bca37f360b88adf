"""The HTTP side of the judge against a real server on the loopback, with a clock that only moves when told."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from rewards.library.vlm_judge.endpoint import Endpoint, EndpointFailed, Pace
from rl.types import UserError
from tests.rewards.library.vlm_judge.vlm_server import MODEL, Answer, FakeEndpoint, chat


class Clock:
    """Time that passes only in ``sleep``."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def connect(url: str, clock: Clock | None = None, **options: Any) -> Endpoint:
    clock = Clock() if clock is None else clock
    settings: dict[str, Any] = {
        "token_env": None,
        "timeout_s": 5.0,
        "retries": 2,
        "max_requests_per_second": None,
        **options,
    }
    return Endpoint(url, MODEL, clock=clock, sleep=clock.sleep, **settings)


def sequence(*answers: Answer) -> FakeEndpoint:
    """Answers in turn, the last one for ever."""
    return FakeEndpoint(lambda number, body: answers[min(number, len(answers)) - 1])


@pytest.mark.parametrize(
    ("bad", "slept"),
    [
        (Answer(b"busy", 429, {"Retry-After": "3"}), 3.0),
        (Answer(b"busy", 429), 0.5),
        (Answer(b"busy", 429, {"Retry-After": "soon"}), 0.5),
        (Answer(b"late", 408), 0.5),
        (Answer(b"oops", 500), 0.5),
        (Answer(b"down", 503, {"Retry-After": "0"}), 0.0),
        (Answer(how="drop"), 0.5),
    ],
)
def test_what_passes_is_asked_again_after_the_time_the_server_wants(bad: Answer, slept: float) -> None:
    clock = Clock()
    with sequence(bad, chat("Yes")) as server:
        assert connect(server.url, clock).complete({}).text == "Yes"
        assert (len(server.asked), clock.slept) == (2, [slept])


def test_retry_after_may_be_a_date() -> None:
    clock = Clock()
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    with sequence(Answer(b"busy", 429, {"Retry-After": date}), chat("Yes")) as server:
        assert connect(server.url, clock).complete({}).text == "Yes"
    assert clock.slept == [pytest.approx(30, abs=3)]


def test_a_server_that_wants_an_hour_is_not_waited_for() -> None:
    clock = Clock()
    with sequence(Answer(b"quota", 429, {"Retry-After": "3600"})) as server:
        with pytest.raises(EndpointFailed) as caught:
            connect(server.url, clock).complete({})
        assert str(caught.value) == (f"{server.url}/chat/completions answered HTTP 429: quota, and asks to wait 3600 s")
        assert (len(server.asked), clock.slept) == (1, [])


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_500_for_ever_ends_after_the_retries(retries: int) -> None:
    clock = Clock()
    with sequence(Answer(b"out of memory", 500)) as server:
        with pytest.raises(EndpointFailed) as caught:
            connect(server.url, clock, retries=retries).complete({})
        asked = f", asked {retries + 1} times" if retries else ""
        assert str(caught.value) == f"{server.url}/chat/completions answered HTTP 500: out of memory{asked}"
        assert len(server.asked) == retries + 1
    assert clock.slept == [0.5, 1.0, 2.0][:retries]


@pytest.mark.parametrize("status", [301, 400, 404, 409, 413, 422])
def test_what_a_retry_cannot_mend_is_asked_once(status: int) -> None:
    with sequence(Answer({"error": {"message": "image too large"}}, status)) as server:
        with pytest.raises(EndpointFailed) as caught:
            connect(server.url).complete({})
        assert str(caught.value) == (
            f'{server.url}/chat/completions answered HTTP {status}: {{"error": {{"message": "image too large"}}}}'
        )
        assert len(server.asked) == 1


def test_a_refusal_after_a_retry_is_told_as_it_is() -> None:
    with sequence(Answer(b"busy", 429), Answer(b"no", 400)) as server:
        with pytest.raises(EndpointFailed) as caught:
            connect(server.url).complete({})
        assert str(caught.value) == f"{server.url}/chat/completions answered HTTP 400: no"
        assert len(server.asked) == 2


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_an_answer_that_does_not_come_or_drips_is_given_up(how: str) -> None:
    slow = Answer(chat("Yes").body, how=how)
    with sequence(slow) as server:
        endpoint = Endpoint(
            server.url,
            MODEL,
            token_env=None,
            timeout_s=0.3,
            retries=1,
            max_requests_per_second=None,
            sleep=lambda s: None,
        )
        with pytest.raises(EndpointFailed) as caught:
            endpoint.complete({})
        assert str(caught.value) == (f"{server.url} does not answer (nothing complete within 0.3 s), asked 2 times")
        assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"<html>", "answered HTTP 200 with something that is not JSON"),
        (b"", "answered HTTP 200 with something that is not JSON"),
        ({"choices": []}, 'the endpoint answered something that is no chat completion: {"choices": []}'),
        ([1], "the endpoint answered something that is no chat completion: [1]"),
        ({"choices": [{"message": "Yes"}]}, "the endpoint answered something that is no chat completion"),
        (b" " * (5 << 20), "answered more than 4 MiB"),
    ],
)
def test_a_broken_200_is_a_failure_and_asked_once(body: object, message: str) -> None:
    with sequence(Answer(body)) as server:
        with pytest.raises(EndpointFailed) as caught:
            connect(server.url).complete({})
        assert message in str(caught.value)
        assert len(server.asked) == 1


def test_an_answer_without_words_is_an_empty_text() -> None:
    with sequence(chat(None)) as server:
        assert connect(server.url).complete({}).text == ""


def test_the_token_is_sent_and_a_wrong_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeEndpoint(lambda number, body: chat("Yes"), token="s3cret") as server:
        monkeypatch.setenv("JUDGE_KEY", " s3cret\n")
        endpoint = connect(server.url, token_env="JUDGE_KEY")
        endpoint.check()
        assert endpoint.complete({}).text == "Yes"
        monkeypatch.setenv("JUDGE_KEY", "wrong")
        with pytest.raises(EndpointFailed) as failed:
            connect(server.url, token_env="JUDGE_KEY").complete({})
        with pytest.raises(UserError) as caught:
            connect(server.url).check()
    refused = "refused the API key (HTTP 401); set `token_env` to the name of the environment variable that holds it"
    assert str(failed.value) == f"{server.url}/chat/completions {refused}"
    assert str(caught.value) == f"vlm_judge.options.token_env: {server.url}/models {refused}"


def test_a_token_that_is_missing_or_odd_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(UserError) as caught:
        connect("http://localhost/v1", token_env="JUDGE_KEY")
    assert str(caught.value) == ("vlm_judge.options.token_env: the environment variable JUDGE_KEY is not set, or empty")
    monkeypatch.setenv("JUDGE_KEY", "s3c\nret")
    with pytest.raises(UserError) as caught:
        connect("http://localhost/v1", token_env="JUDGE_KEY")
    assert str(caught.value) == (
        "vlm_judge.options.token_env: the token in JUDGE_KEY may hold ASCII letters, digits and signs only, no spaces"
    )


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "http://", "", "http://host:port/v1", 7])
def test_an_address_that_is_none(url: Any) -> None:
    with pytest.raises(UserError) as caught:
        connect(url)
    assert str(caught.value) == f"vlm_judge.options.url is {url!r}: it must look like http://localhost:8000/v1"


def test_check_names_what_is_wrong() -> None:
    hint = "it must be the address of an OpenAI-compatible server, such as http://localhost:8000/v1"
    with sequence(chat("Yes")) as server:
        connect(server.url + "/").check()
        assert server.listings == 1
        endpoint = connect(server.url)
        endpoint.model = "judge-72b"
        with pytest.raises(UserError) as caught:
            endpoint.check()
        assert str(caught.value) == (
            f"vlm_judge.options.model: {server.url} serves no 'judge-72b', did you mean 'judge-7b'? "
            "(it serves: judge-7b, other)"
        )
        short = server.url.removesuffix("/v1")
        with pytest.raises(UserError) as caught:
            connect(short).check()
        assert str(caught.value) == (
            f'vlm_judge.options.url: {short}/models answered HTTP 404: {{"detail": "Not Found"}}; {hint}'
        )
    with pytest.raises(UserError) as caught:  # nobody listens any more
        connect(server.url, retries=1).check()
    assert str(caught.value).startswith(f"vlm_judge.options.url: {server.url} does not answer (ConnectError: ")
    assert str(caught.value).endswith(f"asked 2 times; {hint}")


def test_the_pace_by_hand() -> None:
    clock = Clock()
    pace = Pace(4.0, clock, clock.sleep)
    starts = []
    for _ in range(4):
        pace.wait()
        starts.append(clock.now)
    assert starts == [100.0, 100.25, 100.5, 100.75]
    clock.now += 10  # an idle time earns no burst
    for _ in range(2):
        pace.wait()
        starts.append(clock.now)
    assert starts[4:] == [110.75, 111.0]
    assert clock.slept == [0.25] * 4


def test_the_pace_gives_every_thread_a_turn_of_its_own() -> None:
    turns: list[float] = []
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            turns.append(seconds)

    pace = Pace(10.0, lambda: 0.0, sleep)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(40):
            threads.submit(pace.wait)
    assert sorted(turns) == pytest.approx([0.1 * turn for turn in range(1, 40)])


def test_retries_keep_the_pace_too() -> None:
    clock = Clock()
    with sequence(Answer(b"", 500, {"Retry-After": "0"}), chat("Yes"), chat("No")) as server:
        endpoint = connect(server.url, clock, max_requests_per_second=2.0)
        assert [endpoint.complete({}).text for _ in range(2)] == ["Yes", "No"]
        assert len(server.asked) == 3
    assert clock.slept == [0.0, 0.5, 0.5]  # Retry-After, then the turns of the second and the third request
