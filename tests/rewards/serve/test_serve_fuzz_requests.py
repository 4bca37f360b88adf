"""The same of requests, headers and connections."""

from __future__ import annotations

import json
import os
import random
import re
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from rewards.pictures import decode
from rewards.remote.wire import RequestError, RequestLimits, parse_request
from rewards.serve.metrics import rss_bytes
from rl.data.pictures import PictureError
from tests.rewards.pool.test_pool import samples
from tests.rewards.serve.fuzzing import GROWTH_LIMIT, MAX_BYTES, MAX_CONNECTIONS, TOKEN, ask, png, refused, request
from tests.rewards.serve.live_server import LiveServer, body, head, read_answer

pytestmark = pytest.mark.usefixtures("lives_on_in_little_memory")

BEARER = f"authorization: Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"", 400, "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        (b"\xff\xfe\x00", 400, "Invalid JSON: expected value at line 1 column 1"),
        (b"[" * 100_000, 400, "Invalid JSON: recursion limit exceeded at line 1 column 202"),
        (b'{"reward": "bright", "samples": [' + b'{"id": ' * 30_000, 400, "Invalid JSON: recursion limit exceeded"),
        (b"9" * 100_000, 400, "Invalid JSON: number out of range"),
        (b"null", 422, "Input should be an object"),
        (b'{"reward": "bright"}', 422, "samples: Field required"),
        (b'{"reward": "bright", "samples": {}}', 422, "samples: Input should be a valid array"),
        (b'{"reward": 1, "samples": []}', 422, "reward: Input should be a valid string"),
        (b'{"reward": "bright", "samples": [], "pickle": ""}', 422, "has an unknown key 'pickle'"),
        (b'{"reward": "bright", "samples": [1, 2]}', 422, "samples[0]: Input should be an object"),
    ],
)
def test_malformed_requests(server: LiveServer, content: bytes, status: int, detail: str) -> None:
    answer = ask(server, content)
    assert answer.status_code == status
    assert answer.json()["detail"].startswith(f"the body is not a request for scores: {detail}")


def test_many_wrong_things_in_one_body_cost_little_memory() -> None:
    thing = b",".join(b'"%d":1' % i for i in range(100_000))
    sample = (
        b'{"id":"a","group":"g","picture":{"encoding":"png","data":""},"prompt":{"id":"p","text":"","pictures":{%s}}}'
    )
    cases = [
        (b'{"reward":"x","samples":[%s]}' % b",".join([b"1"] * 100_000), "the request has 100000 samples, more than"),
        (b'{"reward":"x","samples":[],"pictures":{%s}}' % thing, "the request has 100000 pictures, more than the 256"),
        (b'{"reward":"x","samples":[%s]}' % (sample % thing), "the request has 100000 pictures, more than the 256"),
        (b'{"reward":"x","samples":[],%s}' % thing, "the body is not a request for scores: has an unknown key '0'"),
        (b"[%s]" % b",".join([b"1"] * 2**20), "the body may have 1,048,577 JSON values, more than the 1,048,576"),
    ]
    for content, detail in cases:
        before = rss_bytes(os.getpid())
        with pytest.raises(RequestError, match=re.escape(detail)):
            parse_request(content, RequestLimits())
        assert rss_bytes(os.getpid()) - before < GROWTH_LIMIT


def test_wrong_requests(server: LiveServer) -> None:
    good = ("png", png())
    edit: Callable[..., bytes] = lambda **parts: json.dumps(request(good, good) | parts).encode()  # noqa: E731
    refused(
        server,
        edit(reward="brigth"),
        404,
        "there is no reward 'brigth' here, did you mean 'bright'? (there is: bright)",
    )
    twice = request(good)["samples"] * 2
    refused(server, edit(samples=twice), 422, "two samples of the request have the id 's0'")
    many = json.dumps(request(*[good] * 9)).encode()
    refused(server, many, 413, "the request has 9 samples, more than the 8 that are accepted")
    large = json.dumps(request(*[("png", png(size=(60, 60)))] * 3)).encode()
    refused(
        server,
        large,
        413,
        "the pictures of the request have 10,800 pixels together, more than the 10,000 that are accepted; send fewer "
        "at a time",
    )
    refused(server, b" " * (MAX_BYTES + 1), 413, "the body is larger than the 300,000 bytes that are accepted")
    nan = json.dumps(request(good, metadata={"a": [1, float("nan")]})).encode()
    refused(
        server,
        nan,
        422,
        "the body is not a request for scores: samples[0].prompt.metadata: holds a number that is not finite",
    )
    encoding = request(good)
    encoding["samples"][0]["picture"]["encoding"] = "pickle"
    refused(
        server,
        json.dumps(encoding).encode(),
        422,
        "the body is not a request for scores: samples[0].picture.encoding: Input should be 'png' or 'npy'",
    )
    plain = ask(server, b"{}", **{"content-type": "text/plain"})
    assert (plain.status_code, plain.json()["detail"]) == (
        415,
        "the body must be sent with the header content-type: application/json",
    )


@pytest.mark.parametrize("path", ["/score", "/rewards", "/metrics"])
def test_tokens(server: LiveServer, path: str) -> None:
    method = "POST" if path == "/score" else "GET"
    for given, detail in (
        ({}, "this server wants a token: send the header Authorization: Bearer TOKEN"),
        ({"authorization": "Basic eA=="}, "this server wants a token: send the header Authorization: Bearer TOKEN"),
        ({"authorization": "Bearer wrong"}, "the token is not this server's"),
        ({"authorization": b"Bearer \xff\xc3"}, "the token is not this server's"),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, "the token is not this server's"),
    ):
        answer = httpx.request(method, server.url + path, headers=given, trust_env=False)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["detail"]) == (401, detail)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert httpx.get(f"{server.url}/health", trust_env=False).status_code == 200


def test_random_bytes_instead_of_http_and_instead_of_json(server: LiveServer) -> None:
    rng = random.Random(1)
    whole = body("bright", samples())
    for size in (1, 10, 1000, 100_000):
        answer = server.raw(rng.randbytes(size) + b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 400 "), answer[:100]
        assert ask(server, rng.randbytes(size)).status_code == 400
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        answered = ask(server, bytes(content[: rng.choice([len(content), rng.randrange(len(content))])]))
        assert answered.status_code in (200, 400, 404, 422), answered.text
        assert answered.status_code == 200 or isinstance(answered.json()["detail"], str)


def test_a_content_length_that_lies(server: LiveServer) -> None:
    content = body("bright", samples())
    too_short = server.raw(head(len(content) - 50, BEARER) + content)
    assert too_short.startswith(b"HTTP/1.1 400 ")
    began = time.monotonic()
    too_long = server.raw(head(len(content) + 50, BEARER) + content)
    assert too_long.startswith(b"HTTP/1.1 408 ")
    assert b"the body was not complete within 1 s" in too_long
    assert time.monotonic() - began < 5
    boast = server.raw(head(10**12, BEARER))
    assert boast.startswith(b"HTTP/1.1 413 ")
    for nonsense in ("-1", "1e3", "9" * 30):
        assert server.raw(head(None, BEARER, f"content-length: {nonsense}")).startswith(b"HTTP/1.1 400 ")


def test_a_body_without_a_length_that_does_not_end(server: LiveServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(None, BEARER, "transfer-encoding: chunked"))
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(5):
            connection.sendall(chunk)
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(OSError):  # refused, and cut off if it goes on all the same
            send_for(5, connection, chunk)


def send_for(seconds: float, connection: socket.socket, chunk: bytes) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection.sendall(chunk)
        time.sleep(0.05)


def test_a_body_of_a_byte_now_and_then_is_cut_off(server: LiveServer) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(1000, BEARER))
        connection.settimeout(0.2)
        answer = b""
        for byte in b" " * 1000:
            connection.sendall(bytes([byte]))
            try:
                answer += connection.recv(65536)
            except TimeoutError:
                assert time.monotonic() - began < 8, "the server waits for ever"
            if answer.endswith(b"}"):
                break
    assert answer.startswith(b"HTTP/1.1 408 Request Timeout")
    assert b"the body was not complete within 1 s" in answer


def test_above_the_most_requests_others_are_refused(server: LiveServer) -> None:
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):  # each waits for its body, until it is cut off
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            connection.sendall(head(1000, BEARER))
        time.sleep(0.2)  # until they are under way
        answer = ask(server, body("bright", samples()))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["detail"] == f"{MAX_CONNECTIONS} requests are under way, the most at once"
    deadline = time.monotonic() + 10
    while ask(server, body("bright", samples())).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_silent_connections_keep_nobody_out(server: LiveServer) -> None:
    with ExitStack() as stack:
        for _ in range(3 * MAX_CONNECTIONS):
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        time.sleep(0.2)
        assert ask(server, body("bright", samples())).status_code == 200


@pytest.mark.parametrize("line", [BEARER, "authorization: Bearer wrong", "content-type: text/plain"])
def test_a_connection_ends_after_an_answer_before_the_end_of_the_request(server: LiveServer, line: str) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head(10**12, line))
        answer = read_answer(connection)
        assert answer.split(b" ", 2)[1] in (b"413", b"401", b"415")
        assert b"\r\nconnection: close\r\n" in answer
        assert connection.recv(1) == b""


def test_unfinished_bodies_together_have_a_limit(server: LiveServer) -> None:
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(6)
        ]
        for connection in connections:
            connection.sendall(head(MAX_BYTES, BEARER) + b" " * (MAX_BYTES - 1))
        answers = [read_answer(connection) for connection in connections]
    statuses = sorted(int(answer.split(b" ", 2)[1]) for answer in answers)
    assert statuses[:4] == [408] * 4  # four full ones are held until their time is over
    assert set(statuses[4:]) == {503}
    assert any(b"the server holds as many requests as it has memory for" in answer for answer in answers)


def test_a_second_header_does_not_slip_past_the_pixel_limit() -> None:
    small, large = png(size=(1, 1)), png(size=(50, 50))
    with pytest.raises(PictureError, match="the PNG can't be read: it has 2,500 pixels, more than the 1 that are"):
        decode(small[:33] + large[8:], "png", max_pixels=10)
    with pytest.raises(PictureError, match="the PNG has a second header of another size"):
        decode(large[:33] + small[8:], "png", max_pixels=2500)
