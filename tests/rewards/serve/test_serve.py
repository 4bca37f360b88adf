from __future__ import annotations

import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from rewards.remote.wire import RequestLimits
from rewards.serve.__main__ import bind, main, read_token
from rewards.serve.app import create_app
from rewards.serve.metrics import ServerMetrics
from rl.types import UserError
from tests.rewards.pool.test_pool import samples
from tests.rewards.serve.live_server import BRIGHT, SLEEP, body, metric, post, serving


def test_scores_come_back_in_order_and_are_counted() -> None:
    with serving(
        "--reward", BRIGHT, "--option", "scale=0.5", "--reward", f"tag={BRIGHT[:-6]}only_tag", "--option", "tag=ocr"
    ) as server:
        rewards = httpx.get(f"{server.url}/rewards", trust_env=False).json()
        assert rewards["rewards"] == {
            "bright": {"use": BRIGHT, "options": {"scale": 0.5}},
            "tag": {"use": "tests.rewards.plugins:only_tag", "options": {"tag": "ocr"}},
        }
        answer = post(server, body("bright", samples())).json()
        assert answer["reward"] == "bright"
        assert [row["id"] for row in answer["scores"]] == ["s0", "s1", "s2", "s3"]
        assert [row["value"] for row in answer["scores"]] == pytest.approx([0.0, 0.1, 0.2, 0.3])
        assert [set(row) for row in answer["scores"]] == [{"id", "value", "passed", "failure", "details"}] * 4
        tagged = post(server, body("tag", samples())).json()["scores"]
        assert [(row["value"], row["failure"]) for row in tagged] == [(1.0, None)] * 2 + [(None, None)] * 2
        assert post(server, b"[").status_code == 400
        assert metric(server.url, 'easel_reward_pictures_total{reward="bright"}') == 4
        assert metric(server.url, 'easel_reward_failures_total{reward="bright"}') == 0
        assert metric(server.url, 'easel_reward_seconds_count{reward="tag"}') == 1
        assert metric(server.url, 'easel_reward_requests_total{status="200"}') == 2
        assert metric(server.url, 'easel_reward_requests_total{status="400"}') == 1
        assert metric(server.url, 'easel_reward_resident_bytes{process="server"}') > 2**20
        page = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
        schema = page["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ScoreRequest"}
        assert {"ScoreRequest", "SampleIn", "PictureIn", "ScoreAnswer"} <= set(page["components"]["schemas"])
        assert httpx.get(f"{server.url}/docs", trust_env=False).status_code == 200


def test_a_hanging_reward_answers_failures_and_the_next_request_is_scored(tmp_path: Path) -> None:
    hang = (
        "--reward",
        "hang=tests.rewards.plugins:Misbehave",
        "--option",
        "how=hang",
        "--option",
        f"once={tmp_path}/x",
    )
    with serving(*hang, "--timeout", "0.4") as server:
        first = post(server, body("hang", samples())).json()["scores"]
        assert [row["value"] for row in first] == [1.0] * 4  # the pool's second attempt
        assert metric(server.url, 'easel_reward_restarts_total{reward="hang"}') == 1
    with serving(*hang[:4], "--timeout", "0.4") as server:
        rows = post(server, body("hang", samples())).json()["scores"]
        assert [(row["value"], row["failure"]) for row in rows] == [(None, "timed out after 0.4 s (2 attempts)")] * 4
        assert metric(server.url, 'easel_reward_failures_total{reward="hang"}') == 4


def test_a_full_queue_is_a_503_and_the_event_loop_stays_free() -> None:
    with serving("--reward", SLEEP, "--option", "seconds=0.7", "--queue", "2") as server:
        with ThreadPoolExecutor(3) as threads:
            answers = [threads.submit(post, server, body("sleep", samples())) for _ in range(3)]
            time.sleep(0.3)
            began = time.monotonic()
            assert httpx.get(f"{server.url}/health", trust_env=False).json() == {"status": "ok"}
            assert time.monotonic() - began < 0.3
            got = sorted((future.result() for future in answers), key=lambda answer: answer.status_code)
        assert [answer.status_code for answer in got] == [200, 200, 503]
        assert got[2].json() == {"detail": "2 requests are waiting for 'sleep'"}
        assert got[2].headers["retry-after"] == "1"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "my.host"])
def test_other_addresses_need_a_token(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reward", BRIGHT, "--host", host]) == 2
    assert capsys.readouterr().err == (
        f"error: --host {host} can be reached from other machines, so a token is needed: put a long random one into an "
        f"environment variable and name it, for example --token-env EASEL_TOKEN\n"
    )


def test_tokens_are_checked_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [read_token(host, None) for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost")] == [None] * 4
    monkeypatch.setenv("T", "k8-s_x=")
    assert read_token("0.0.0.0", "T") == "k8-s_x="
    for value, message in (
        ("", "--token-env T: the environment variable T is not set, or empty"),
        ("two words", "--token-env T: the token in T may hold ASCII letters, digits and signs only, no spaces"),
        ("half\nhalf", "--token-env T: the token in T may hold ASCII letters, digits and signs only, no spaces"),
        ("schlüssel", "--token-env T: the token in T may hold ASCII letters, digits and signs only, no spaces"),
    ):
        monkeypatch.setenv("T", value)
        with pytest.raises(UserError, match=re.escape(message)):
            read_token("127.0.0.1", "T")


def test_mistakes_are_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--reward", BRIGHT, "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --host 127.0.0.1 --port {port} can't be used: ")
    assert said.endswith("; name another --port, or 0 for a free one\n")
    ports = "a whole number up to 65535, 0 for a free one"
    assert main(["--reward", BRIGHT, "--option", "scal=1", "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: rewards.bright.options.scal: ")
    assert main(["--reward", "ocr", "--reward", "ocr"]) == 2
    assert capsys.readouterr().err == (
        "error: --reward: two rewards are called 'ocr'; name one otherwise: --reward other=ocr\n"
    )
    for wrong, message in (
        (["--option", "a=1", "--reward", "ocr"], "--option a=1: must come after the --reward that it belongs to"),
        (
            ["--reward", "ocr", "--option", "a"],
            "--option 'a' is not of the form key=value, for example --option batch_size=16",
        ),
        (["--reward", "ocr", "--option", "a=1", "--option", "a=2"], "--option a=2: a is given twice for ocr"),
        (["--reward", "=ocr"], "--reward =ocr: must read USE or NAME=USE, for example ocr or words=ocr"),
        (["--reward", "ocr", "--timeout", "nan"], "argument --timeout: 'nan' is not a number above 0"),
        *(
            (["--reward", "ocr", f"--port={port}"], f"argument --port: {port!r} is not a port: {ports}")
            for port in ("-1", "65536", "99999", "8000.0", "0x50", "http", "", " 80", "\u0663")
        ),
        (
            ["--reward", "ocr", "--host", " "],
            "argument --host: it is empty; name an address to listen on, such as 127.0.0.1",
        ),
        (["--reward", "ocr", "--max-batch", "0"], "argument --max-batch: '0' is not a whole number from 1"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(wrong)
        assert stopped.value.code == 2
        assert capsys.readouterr().err.endswith(f"error: {message}\n")


def test_a_port_is_taken_while_the_rewards_still_load() -> None:
    """Both sockets would bind, and the second server be told after minutes of loading."""
    with bind("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=f"--port {port} can't be used: .* in use; name another --port, or 0"):
            bind("127.0.0.1", port)
    bind("127.0.0.1", port).close()


def test_an_address_of_another_machine() -> None:
    with pytest.raises(UserError, match=r"--host 192.0.2.1 --port 0 can't be used: .*; --host must be an address of"):
        bind("192.0.2.1", 0)


def described(token: str | None) -> dict[str, Any]:
    limits = RequestLimits()
    return create_app({}, ServerMetrics(), limits=limits, token=token, read_timeout_s=1, max_requests=1).openapi()


def test_the_page_says_whether_a_token_is_wanted_and_what_comes_back() -> None:
    free, guarded = described(None)["paths"], described("secret")
    assert not any("security" in one or "401" in one["responses"] for path in free.values() for one in path.values())
    assert "securitySchemes" in guarded["components"]
    for path, wanted in {"/score": True, "/rewards": True, "/metrics": True, "/health": False}.items():
        (one,) = guarded["paths"][path].values()
        assert ("security" in one, "401" in one["responses"]) == (wanted, wanted), path
        kinds = {kind for answer in one["responses"].values() for kind in answer["content"]}
        text = {"text/plain; version=0.0.4; charset=utf-8"} if path == "/metrics" else set()
        assert kinds == {"application/json"} | text
