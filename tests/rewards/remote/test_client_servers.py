from __future__ import annotations

import re
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from rewards.pool.pool import RewardPool
from rewards.remote.client import Remote, greet
from rl.config.schema import RewardComponent
from rl.types import UserError
from tests.rewards.pool.test_pool import samples
from tests.rewards.remote.network import A, B, Handler, Wire, echo, many, offer, remote
from tests.rewards.serve.live_server import BRIGHT, metric, serving


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
