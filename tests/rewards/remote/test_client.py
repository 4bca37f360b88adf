from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from rewards.library.similarity import Similarity
from rewards.pictures import decode
from rewards.pool.pool import RewardPool
from rewards.remote.client import Remote, greet
from rewards.remote.http import RetryingClient
from rewards.remote.request_pictures import PromptPictures, RequestPictures
from rewards.remote.servers import Endpoints, NoAnswer
from rewards.remote.wire import RequestError, RequestLimits, encode_sample, parse_request, to_sample
from rl.config.schema import RewardComponent
from rl.data.pictures import Picture
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.pool.test_pool import samples
from tests.rewards.serve.live_server import BRIGHT, metric, serving

Handler = Callable[[httpx.Request], httpx.Response]
Rows = list[dict[str, object]]
Change = Callable[[Rows], object]
A, B = "http://a:1", "http://b:2"
LIMITS = {"max_bytes": 10**6, "max_pixels": 10**6, "max_batch": 100}


def many(count: int, group: int = 2) -> list[Sample]:
    picture = np.zeros((8, 8, 3), np.uint8)
    return [Sample(f"s{i}", f"g{i // group}", Prompt(f"p{i // group}", "x"), picture) for i in range(count)]


class Wire:
    """The network: answers by ``handler``, and remembers who was asked what and how long was slept."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.url.host}{request.url.path}")
        return self.handler(request)

    def endpoints(self, *urls: str, retries: int = 3) -> Endpoints:
        client = RetryingClient(
            token=None,
            timeout_s=5.0,
            retries=retries,
            largest_answer=2**20,
            transport=httpx.MockTransport(self),
            sleep=self.sleep,
            clock=lambda: self.now,
        )
        return Endpoints(urls, client)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def remote(wire: Wire, *urls: str, retries: int = 3, batch_size: int = 32) -> Remote:
    reward = object.__new__(Remote)
    reward.reward, reward.batch_size, reward.encoding = "bright", batch_size, "npy"
    reward._connect(wire.endpoints(*urls, retries=retries))
    wire.asked.clear()
    return reward


def offer(**limits: int) -> httpx.Response:
    rewards = {"bright": {"use": "x:bright", "options": {}}}
    return httpx.Response(200, json={"rewards": rewards, "limits": LIMITS | limits})


def echo(request: httpx.Request, change: Change = lambda rows: rows) -> httpx.Response:
    """A server whose score is the number in the sample's id."""
    if request.url.path != "/score":
        return offer()
    rows = [
        {"id": row["id"], "value": float(row["id"][1:]), "passed": 1.0, "failure": None, "details": {"n": 1}}
        for row in json.loads(request.content)["samples"]
    ]
    return httpx.Response(200, json={"reward": "bright", "scores": change(rows)})


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


def test_groups_stay_whole_in_requests_that_keep_to_the_limits() -> None:
    sent: list[list[str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/score":
            return offer(**limits)
        sent.append([row["id"] for row in json.loads(request.content)["samples"]])
        return echo(request)

    given = many(7)
    one = len(encode_sample(given[0], "npy", PromptPictures())) + 2
    for batch_size, limits, expected in (
        (4, {}, [4, 3]),
        (1, {}, [2, 2, 2, 1]),
        (32, {"max_batch": 3}, [3, 2, 2]),
        (32, {"max_pixels": 4 * 64}, [4, 3]),
        (32, {"max_bytes": 1024 + 5 * one}, [4, 3]),
        (32, {}, [7]),
    ):
        sent.clear()
        scores = remote(Wire(handler), A, batch_size=batch_size)(given)
        assert [score.value for score in scores] == [float(i) for i in range(7)]
        assert sorted(map(len, sent), reverse=True) == expected, (batch_size, limits)
    assert remote(Wire(handler), A)([]) == []


def test_metadata_that_is_no_json_fails_its_sample_only() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    given = [
        Sample("s1", "g", Prompt("p", "x", {"box": np.zeros(2)}), picture),
        Sample("s2", "g", Prompt("p", "x", {"n": float("nan")}), picture),
        Sample("s3", "g", Prompt("p", "x", {"n": [1, None, "é"]}), picture),
    ]
    first, second, third = remote(Wire(echo), A)(given)
    assert first.failure == "prompt 'p' can't be sent as JSON: Object of type ndarray is not JSON serializable"
    assert second.failure is not None
    assert second.failure.startswith("prompt 'p' can't be sent as JSON: Out of range float values")
    assert third.value == 3.0


def test_pictures_in_the_metadata_are_sent_once_and_references_by_path_too(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/score":
            bodies.append(json.loads(request.content))
        return echo(request)

    picture, other = np.zeros((8, 8, 3), np.uint8), np.full((4, 6, 3), 200, np.uint8)
    Image.fromarray(other).save(tmp_path / "before.png")
    by_path = Prompt("p", "x", {"reference": str(tmp_path / "before.png"), "n": 1})
    by_array = Prompt("q", "x", {"reference": other, "mask": picture, "n": 2})
    none = Prompt("r", "x", {"reference": None})
    given = [
        *(Sample(f"s{i}", "g", by_path, picture) for i in range(3)),
        Sample("s3", "h", by_array, picture),
        Sample("s4", "i", none, picture),
    ]
    assert [score.value for score in remote(Wire(handler), A)(given)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    (sent,) = bodies
    assert len(sent["pictures"]) == 2  # the file and the array are the same picture
    prompts = [row["prompt"] for row in sent["samples"]]
    assert prompts[0] == prompts[1] == prompts[2]
    assert [prompt["metadata"] for prompt in prompts[2:]] == [{"n": 1}, {"n": 2}, {"reference": None}]
    assert prompts[4]["pictures"] == {}
    assert prompts[3]["pictures"]["reference"] == prompts[0]["pictures"]["reference"] != prompts[3]["pictures"]["mask"]


def test_shared_pictures_count_towards_the_limits() -> None:
    sent: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/score":
            return offer(**limits)
        sent.append(len(json.loads(request.content)["samples"]))
        return echo(request)

    shared = {"reference": np.zeros((16, 16, 3), np.uint8)}
    given = [replace(sample, prompt=replace(sample.prompt, metadata=shared)) for sample in many(6)]
    (shared,) = RequestPictures("npy").of(given[0].prompt).all
    one = len(encode_sample(given[0], "npy", PromptPictures({"reference": shared}))) + 2
    for limits, expected in (
        ({"max_pixels": 4 * 64 + 256}, [4, 2]),
        ({"max_pixels": 4 * 64 + 255}, [2, 2, 2]),
        ({"max_bytes": 1024 + 4 * one + len(shared.data) + 128}, [4, 2]),
        ({"max_bytes": 1024 + 4 * one + len(shared.data)}, [2, 2, 2]),
    ):
        sent.clear()
        remote(Wire(handler), A)(given)
        assert sorted(sent, reverse=True) == expected, limits


def test_the_pictures_of_prompts_travel_once_and_arrive_in_order(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/score":
            bodies.append(request.content)
        return echo(request)

    rng = np.random.default_rng(0)
    cat, hat = (rng.integers(0, 256, (4, 6, 3), np.uint8) for _ in range(2))
    Image.fromarray(cat).save(tmp_path / "cat.png")
    edit = Prompt("p", "x", {"n": 1}, (Picture(tmp_path / "cat.png"), Picture(hat)), "p.jsonl:4")
    lost = Prompt("q", "x", pictures=(Picture(tmp_path / "dog.png"),))
    given = [*(Sample(f"s{i}", "g", edit, cat) for i in range(3)), Sample("s3", "h", lost, cat), *many(5)[4:]]
    scores = remote(Wire(handler), A)(given)
    assert [score.value for score in scores] == [0.0, 1.0, 2.0, None, 4.0]
    assert str(scores[3].failure).startswith(f"prompt 'q': the picture '{tmp_path}/dog.png' can't be read: [Errno 2]")
    (sent,) = (parse_request(body, RequestLimits()) for body in bodies)
    assert len(sent.pictures) == 2 and "images" not in json.loads(bodies[0])["samples"][3]["prompt"]
    decoded = {name: decode(one.content(), one.encoding, 100) for name, one in sent.pictures.items()}
    back = to_sample(sent.samples[1], cat, decoded).prompt
    assert [one.pixels.tolist() for one in back.pictures] == [cat.tolist(), hat.tolist()]
    assert [one.digest for one in back.pictures] == [one.digest for one in edit.pictures]
    assert (back.id, back.text, back.metadata, back.source) == ("p", "x", {"n": 1}, "")
    row = json.loads(bodies[0])
    row["samples"][0]["prompt"]["images"] = ["nowhere"]
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps(row).encode(), RequestLimits())
    assert (caught.value.status, str(caught.value)) == (
        422, "prompt 'p': its `images` name 'nowhere', which the request does not carry"
    )  # fmt: skip


def test_a_reference_that_cannot_be_read_fails_its_sample_only() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    wrong: list[object] = ["nowhere.png", np.zeros((2, 2), np.uint8), 7]
    given = [Sample(f"s{i}", f"g{i}", Prompt("p", "x", {"reference": one}), picture) for i, one in enumerate(wrong)]
    scores = remote(Wire(echo), A)([*given, Sample("s3", "g3", Prompt("p", "x"), picture)])
    assert [score.failure for score in scores] == [
        "prompt 'p': there is no reference file 'nowhere.png'",
        "prompt 'p': reference is a uint8 array of 2 x 2, it must be uint8 of H x W x 3",
        "prompt 'p': reference is of type int, it must be a path or a uint8 array",
        None,
    ]
    assert scores[3].value == 3.0


def test_an_edit_is_compared_with_its_reference_at_a_real_server(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 256, (12, 12, 3), np.uint8) for _ in range(2))
    Image.fromarray(before).save(tmp_path / "before.png")
    given = [
        Sample("same", "g", Prompt("p", "x", {"reference": str(tmp_path / "before.png")}), before),
        Sample("other", "h", Prompt("q", "x", {"reference": before}), after),
        Sample("none", "i", Prompt("r", "x"), after),
    ]
    with serving("--reward", "similarity", "--option", "measure=ssim") as server:
        there = Remote([server.url], "similarity")(given)
    here = Similarity("ssim")(given)
    assert [score.value for score in there] == [score.value for score in here]
    assert there[0].value == 1.0 and there[2] == Score(None)


def test_an_edit_is_compared_with_its_prompts_picture_at_a_real_server(tmp_path: Path) -> None:
    before, after = (np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8) for seed in range(2))
    Image.fromarray(before).save(tmp_path / "before.png")
    edit = Prompt("p", "x", pictures=(Picture(tmp_path / "before.png"),))
    given = [Sample("same", "g", edit, before), Sample("other", "g", edit, after), *samples(1)]
    with serving("--reward", "similarity", "--option", "reference=picture") as server:
        there = Remote([server.url], "similarity")(given)
    here = Similarity(reference="picture")(given)
    assert [score.value for score in there] == [score.value for score in here]
    assert there[0].value == 1.0 and there[2] == Score(None)


def test_batches_spread_over_the_servers() -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        time.sleep(0.05 if request.url.path == "/score" else 0)
        return echo(request)

    wire = Wire(slow)
    began = time.monotonic()
    remote(wire, A, B, batch_size=2)(many(16))
    assert time.monotonic() - began < 8 * 0.05  # one after the other it would be 0.4 s
    assert wire.asked.count("a/score") == wire.asked.count("b/score") == 4


def test_a_dead_server_is_left_out_and_comes_back() -> None:
    dead = {"a"}

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host in dead:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"status": "ok"}) if request.url.path == "/health" else echo(request)

    wire = Wire(handler)
    endpoints = wire.endpoints(A, B)
    for _ in range(4):
        assert endpoints.post("/score", b'{"samples": []}').status_code == 200
    assert wire.asked == ["a/score", "b/score", "b/score", "b/score", "b/score"]
    assert wire.slept == [0.0]  # there was another to turn to at once
    wire.asked.clear()
    wire.now += 10.1  # its rest is over: a health check, not a batch, finds out that it is still away
    endpoints.post("/score", b'{"samples": []}')
    assert wire.asked == ["a/health", "b/score"]
    endpoints.post("/score", b'{"samples": []}')
    assert wire.asked == ["a/health", "b/score", "b/score"]
    wire.asked.clear()
    dead.clear()
    wire.now += 10.1
    for _ in range(4):
        endpoints.post("/score", b'{"samples": []}')
    assert wire.asked[0] == "a/health"
    assert sorted(wire.asked[1:]) == ["a/score", "a/score", "b/score", "b/score"]


def test_a_server_that_only_fails_quickly_does_not_draw_all_batches() -> None:
    wire = Wire(lambda request: httpx.Response(500) if request.url.host == "a" else echo(request))
    endpoints = wire.endpoints(A, B)
    for _ in range(6):
        assert endpoints.post("/score", b'{"samples": []}').status_code == 200
    assert wire.asked == ["a/score"] + ["b/score"] * 6


def test_when_all_are_dead_each_is_tried_and_the_reason_is_told() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if alive:
            return echo(request)
        raise httpx.ConnectError("refused", request=request)

    alive = True
    wire = Wire(handler)
    reward = remote(wire, A, B)
    alive = False
    scores = reward(samples())
    assert sorted(wire.asked) == ["a/score", "a/score", "b/score", "b/score"]
    assert [score.value for score in scores] == [None] * 4
    assert re.fullmatch(r"http://[ab]:[12]: ConnectError: refused \(4 attempts\)", str(scores[0].failure))
    alive = True
    assert [score.failed for score in reward(samples())] == [False] * 4


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (
            lambda r: httpx.Response(401, json={"detail": "the token is not this server's"}),
            "http://a:1 answered 401: the token is not this server's; set `token_env` to a variable with its token",
        ),
        (
            lambda r: httpx.Response(502, text="<html>bad gateway</html>"),
            "no reward server answers (http://a:1 answered 502: <html>bad gateway</html>); correct `urls`, or start "
            "one that offers 'brigth' and wait until it says `serving`: `python -m rewards.serve --reward "
            "brigth=MODULE:ATTRIBUTE`",
        ),
        (
            lambda r: httpx.Response(200, json=[1]),
            "the answer of http://a:1/rewards is not that of a reward server: Input",
        ),
        (lambda r: offer(), "http://a:1 has no reward 'brigth', did you mean 'bright'? (it has: bright)"),
    ],
)
def test_a_server_that_cannot_be_used_is_said_at_once(handler: Handler, message: str) -> None:
    with pytest.raises(UserError) as caught:
        greet(Wire(handler).endpoints(A), "brigth")
    assert str(caught.value).startswith(message)


def test_a_server_that_takes_the_connection_and_says_nothing_is_not_waited_for_long() -> None:
    seen: list[object] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"]["read"])
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(UserError, match=r"\(http://a:1: ReadTimeout\); correct `urls`, .* --reward ocr`$"):
        greet(Wire(handler).endpoints(A), "ocr")
    assert seen == [5.0]


def test_the_strictest_limits_hold_and_one_server_that_answers_is_enough() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host == "c":
            raise httpx.ConnectError("refused", request=request)
        return offer(max_batch=5) if request.url.host == "a" else offer(max_bytes=77)

    limits = greet(Wire(handler).endpoints(A, B, "http://c:3"), "bright")
    assert (limits.max_batch, limits.max_bytes, limits.max_pixels) == (5, 77, 10**6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"urls": "http://a:1"},
            "`urls` is 'http://a:1'; it must be a list of servers such as [http://127.0.0.1:8000]",
        ),
        ({"urls": []}, "`urls` is []; it must be a list of servers such as [http://127.0.0.1:8000]"),
        ({"urls": ["a:1"]}, "`urls`: 'a:1' is not an address such as http://127.0.0.1:8000"),
        ({"urls": ["ftp://a"]}, "`urls`: 'ftp://a' is not an address such as http://127.0.0.1:8000"),
        ({"urls": [7]}, "`urls`: 7 is not an address such as http://127.0.0.1:8000"),
        ({"retries": 4}, "`retries` is 4; it must be 0, 1, 2 or 3"),
        ({"batch_size": 0}, "`batch_size` is 0; it must be a whole number from 1"),
        ({"timeout_s": float("nan")}, "`timeout_s` is nan; it must be a number of seconds above 0"),
        ({"encoding": "jpeg"}, "`encoding` is 'jpeg'; it must be png or npy"),
        ({"token_env": "NOT_SET"}, "`token_env`: the environment variable NOT_SET is not set, or empty"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        Remote(**{"urls": [A], "reward": "ocr"} | options)  # type: ignore[arg-type]


def test_through_the_pool_to_two_real_servers_one_of_which_dies_and_returns() -> None:
    given = [replace(sample, picture=sample.picture + np.uint8(17 * i)) for i, sample in enumerate(many(8))]
    expected = [17 * i / 255 for i in range(8)]
    with serving("--reward", BRIGHT) as stays:
        with serving("--reward", BRIGHT) as dies:
            urls = [stays.url, dies.url]
            options = {"urls": urls, "reward": "bright", "batch_size": 2}
            with RewardPool({"far": RewardComponent(use="remote", options=options)}) as pool:
                assert [score.value for score in pool.score(given)["far"]] == pytest.approx(expected)
                asked = [metric(url, 'easel_reward_pictures_total{reward="bright"}') for url in urls]
                assert sum(asked) == 8
                assert all(asked)
            reward = Remote(**options)  # type: ignore[arg-type]
            reward._endpoints.rest_s = 0.5
            port = dies.port
            dies.process.kill()
            dies.process.wait()
            assert [score.value for score in reward(given)] == pytest.approx(expected)
        with serving("--reward", BRIGHT, port=port) as back:
            time.sleep(0.6)
            assert [score.value for score in reward(given)] == pytest.approx(expected)
            assert metric(back.url, 'easel_reward_pictures_total{reward="bright"}') > 0


def test_a_token_that_no_header_can_carry_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "s3c\nret")
    with pytest.raises(UserError) as caught:
        Remote(["http://127.0.0.1:1"], "bright", token_env="MINE")
    assert str(caught.value) == (
        "`token_env`: the token in MINE may hold ASCII letters, digits and signs only, no spaces"
    )


def test_a_real_server_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("--reward", BRIGHT, "--token-env", "TEST_REWARD_TOKEN", token="s3cret") as server:
        with pytest.raises(UserError, match="answered 401: this server wants a token"):
            Remote([server.url], "bright")
        monkeypatch.setenv("MINE", "s3cret")
        scores = Remote([server.url], "bright", token_env="MINE", encoding="npy")(samples())
        assert [score.value for score in scores] == pytest.approx([0.0, 0.2, 0.4, 0.6])
