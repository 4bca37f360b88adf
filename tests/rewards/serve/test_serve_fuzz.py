"""Whatever is sent to a live server: a clear 4xx or a failed item, a server that lives on, and memory with a bound."""

from __future__ import annotations

import base64
import io
import json
import os
import random
import re
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from rewards.pictures import decode
from rewards.remote.wire import RequestError, RequestLimits, parse_request
from rewards.serve.metrics import rss_bytes
from rl.data.pictures import PictureError
from tests.rewards.pool.test_pool import samples
from tests.rewards.serve.live_server import BRIGHT, LiveServer, body, head, read_answer, serving

TOKEN = "correct-horse"
MAX_BYTES, MAX_PIXELS, MAX_BATCH, READ_TIMEOUT_S, MAX_CONNECTIONS = 300_000, 10_000, 8, 1.0, 12
GROWTH_LIMIT = 48 * 2**20  # bytes; a single one of the pictures below would unpack to 12 GB
BEARER = f"authorization: Bearer {TOKEN}"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    limits = {
        "--max-bytes": MAX_BYTES,
        "--max-pixels": MAX_PIXELS,
        "--max-batch": MAX_BATCH,
        "--read-timeout": READ_TIMEOUT_S,
        "--max-connections": MAX_CONNECTIONS,
    }
    given = [text for name, value in limits.items() for text in (name, str(value))]
    with serving("--reward", BRIGHT, "--token-env", "TEST_REWARD_TOKEN", *given, token=TOKEN) as live:
        yield live


@pytest.fixture(autouse=True)
def lives_on_in_little_memory(server: LiveServer) -> Iterator[None]:
    ask(server, body("bright", samples()))  # what a first request brings into memory is no growth
    before = rss_bytes(server.process.pid)
    yield
    answer = ask(server, body("bright", samples()))
    assert [row["value"] for row in answer.json()["scores"]] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert rss_bytes(server.process.pid) - before < GROWTH_LIMIT
    assert "Traceback" not in server.errors


def ask(server: LiveServer, content: bytes, token: str | None = TOKEN, **headers: str) -> httpx.Response:
    given = {"content-type": "application/json"} | headers
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    return httpx.post(f"{server.url}/score", content=content, headers=given, trust_env=False, timeout=20)


def refused(server: LiveServer, content: bytes, status: int, detail: str) -> None:
    answer = ask(server, content)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


def request(*pictures: tuple[str, bytes | str], metadata: Any = None) -> dict[str, Any]:
    """A request with these pictures: (encoding, file bytes or the text to put in place of their base64)."""
    return {
        "reward": "bright",
        "samples": [
            {
                "id": f"s{i}",
                "group": "g",
                "prompt": {"id": "p", "text": "x", "metadata": metadata or {}},
                "picture": {
                    "encoding": encoding,
                    "data": data if isinstance(data, str) else base64.b64encode(data).decode(),
                },
            }
            for i, (encoding, data) in enumerate(pictures)
        ],
    }


def png(mode: str = "RGB", size: tuple[int, int] = (8, 8), color: object = None) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")  # type: ignore[arg-type]
    return buffer.getvalue()


def png_of_size(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG whose header claims this size and is otherwise in order, its checksum too."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + png()[33:]


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_with_header(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def test_good_and_bad_items_in_one_request(server: LiveServer) -> None:
    pickled = npy(np.array([print, 1], dtype=object))
    cases: list[tuple[str, bytes | str, str | None]] = [
        ("png", png(color=(255, 255, 255)), None),
        ("png", png()[:60], "the PNG can't be read: "),
        ("png", png_of_size(65_000, 65_000), "the picture has 4,225,000,000 pixels, more than the 10,000 that are"),
        ("npy", pickled, "the .npy array has dtype '|O', it must be '|u1' (uint8)"),
        ("npy", npy(np.full((4, 4, 3), 51, np.uint8)), None),
        ("npy", npy(np.zeros((4, 4, 3), np.float32)), "the .npy array has dtype '<f4', it must be '|u1' (uint8)"),
        ("npy", npy(np.zeros((4, 4), np.uint8)), "the .npy array has shape (4, 4), it must be (height, width, 3)"),
        ("png", "!!!", "the picture's data is not base64"),
    ]
    rows = ask(server, json.dumps(request(*[(e, d) for e, d, _ in cases])).encode()).json()["scores"]
    assert [row["id"] for row in rows] == [f"s{i}" for i in range(8)]
    assert [row["value"] for row in rows] == [1.0, None, None, None, pytest.approx(0.2), None, None, None]
    for row, (_, _, reason) in zip(rows, cases, strict=True):
        assert row["failure"] is None if reason is None else row["failure"].startswith(reason), row


def with_reference(*names: str, shared: dict[str, bytes], metadata: Any = None) -> dict[str, Any]:
    """A request whose n-th prompt has the n-th name as its reference, and what the request carries."""
    asked = request(*[("png", png())] * len(names), metadata=metadata)
    for row, name in zip(asked["samples"], names, strict=True):
        row["prompt"]["pictures"] = {"reference": name}
    carried = {
        name: {"encoding": "png", "data": base64.b64encode(content).decode()} for name, content in shared.items()
    }
    return asked | {"pictures": carried}


def test_a_bad_reference_fails_only_the_samples_that_name_it(server: LiveServer) -> None:
    shared = {"good": png(), "bad": png()[:60], "huge": png_of_size(65_000, 65_000)}
    rows = ask(server, json.dumps(with_reference("good", "bad", "huge", shared=shared)).encode()).json()["scores"]
    assert [row["value"] for row in rows] == [0.0, None, None]
    assert rows[0]["failure"] is None
    assert rows[1]["failure"].startswith("prompt 'p': its 'reference': the PNG can't be read: ")
    assert rows[2]["failure"].startswith("prompt 'p': its 'reference': the picture has 4,225,000,000 pixels, more than")


def test_a_bad_picture_of_a_prompt_fails_only_the_samples_of_that_prompt(server: LiveServer) -> None:
    asked = with_reference("good", "bad", shared={"good": png(), "bad": png()[:60]})
    for row in asked["samples"]:
        row["prompt"]["images"] = ["good", row["prompt"].pop("pictures")["reference"]]
    rows = ask(server, json.dumps(asked).encode()).json()["scores"]
    assert (rows[0]["value"], rows[0]["failure"], rows[1]["value"]) == (0.0, None, None)
    assert rows[1]["failure"].startswith("prompt 'p': its picture 2: the PNG can't be read: ")
    asked["samples"][0]["prompt"]["images"] = ["good"] * (MAX_BATCH + 1)
    detail = f"the request has {MAX_BATCH + 1} images, more than the {MAX_BATCH} that are accepted"
    refused(server, json.dumps(asked).encode(), 413, detail)


def test_references_are_carried_by_the_request_and_never_files(server: LiveServer) -> None:
    refused(
        server,
        json.dumps(request(("png", png()), metadata={"reference": "/etc/passwd"})).encode(),
        422,
        "prompt 'p': `metadata` has a 'reference', which must be a picture, and a server opens no files: put it in the "
        "request's `pictures` and its name there in the prompt's",
    )
    refused(
        server,
        json.dumps(with_reference("a", shared={"b": png()})).encode(),
        422,
        "prompt 'p': its 'reference' is 'a', which the request does not carry",
    )
    both = with_reference("a", shared={"a": png()}, metadata={"reference": None})
    detail = "prompt 'p': 'reference' is in its `pictures` and in its `metadata`"
    refused(server, json.dumps(both).encode(), 422, detail)
    large = {name: png(size=(99, 99)) for name in "ab"}
    refused(
        server,
        json.dumps(with_reference("a", "b", shared=large)).encode(),
        413,
        "the pictures of the request have 19,730 pixels together, more than the 10,000 that are accepted; send fewer "
        "at a time",
    )


BAD_PICTURES: list[tuple[str, bytes, str]] = [
    ("png", b"", "the picture is not a PNG"),
    ("png", b"GIF89a", "the picture is not a PNG"),
    ("png", png()[:20], "the PNG is cut short"),
    ("png", b"\x89PNG\r\n\x1a\n" + png()[33:] * 2, "the PNG does not begin with its header"),
    ("png", png_of_size(0, 8), "the picture is 0 x 8 and has no pixels"),
    ("npy", b"\x80\x04]", "the picture is not a .npy file"),
    ("npy", b"\x93NUMPY\x01\x00\x10", "the .npy file is cut short"),
    ("npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "the .npy header is not that of a plain array"),
    ("npy", npy_with_header("(" * 900), "the .npy header is not that of a plain array"),
    (
        "npy",
        npy_with_header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1, 1, 3), }\n"),
        "the .npy",
    ),
    (
        "npy",
        npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (99, 99, 3), }\n", b"short"),
        "the .npy file holds 5 bytes of data for shape (99, 99, 3)",
    ),
    ("npy", npy(np.zeros((0, 4, 3), np.uint8)), "the picture is 4 x 0 and has no pixels"),
    ("npy", npy(np.zeros((4, 4, 4), np.uint8)), "the .npy array has shape (4, 4, 4), it must be (height, width, 3)"),
]


def test_every_bad_picture_says_what_is_wrong_with_it() -> None:
    for encoding, content, reason in BAD_PICTURES:
        with pytest.raises(PictureError, match=re.escape(reason)):
            decode(content, encoding, MAX_PIXELS)  # type: ignore[arg-type]
    whole = png(color=(1, 2, 3))
    for length in range(len(whole) - 4):  # the last four are the checksum of the empty last chunk
        with pytest.raises(PictureError):
            decode(whole[:length], "png", MAX_PIXELS)
    for lossless in (png("L"), png("P"), png("1"), png("RGBA", color=(0, 0, 0, 255)), png("LA", color=(0, 255))):
        assert decode(lossless, "png", 64).tolist() == np.zeros((8, 8, 3)).tolist()
    turned = npy(np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)))
    assert decode(turned, "npy", 4).ravel().tolist() == list(range(12))


def test_mutated_pictures_are_read_or_refused() -> None:
    rng = random.Random(0)
    whole = {"png": [png(size=(16, 16), color=(9, 8, 7)), png("P")], "npy": [npy(np.ones((4, 4, 3), np.uint8))]}
    read = 0
    for _ in range(3000):
        encoding = rng.choice(["png", "npy"])
        content = bytearray(rng.choice(whole[encoding]))
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            picture = decode(bytes(content[: rng.choice([None, rng.randrange(len(content))])]), encoding, MAX_PIXELS)  # type: ignore[arg-type]
        except PictureError as error:
            assert str(error)
        else:
            read += 1
            assert picture.dtype == np.uint8
            assert picture.shape[2:] == (3,)
    assert 0 < read < 3000


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
