"""A reward server in its own process, as a user starts it, and raw requests to it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import httpx

from rewards.pictures import Encoding
from rewards.remote import wire
from rewards.remote.request_pictures import PromptPictures
from rl.types import Sample

BRIGHT = "tests.rewards.plugins:bright"
SLEEP = "tests.rewards.plugins:sleep"


@dataclass(frozen=True)
class LiveServer:
    url: str
    process: subprocess.Popen[str]
    _errors: IO[bytes]

    @property
    def errors(self) -> str:
        """What it has written to stderr so far."""
        self._errors.seek(0)
        return self._errors.read().decode()

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def raw(self, *chunks: bytes, timeout: float = 10.0) -> bytes:
        """Send bytes over a fresh connection; everything that comes back until the server closes or falls silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            for chunk in chunks:
                connection.sendall(chunk)
            return read_answer(connection)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def read_answer(connection: socket.socket) -> bytes:
    """One HTTP answer with a content-length, or what came until the other side closed."""
    answer = b""
    while True:
        head, blank, body = answer.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if blank and lengths and len(body) >= int(lengths[0].partition(b":")[2]):
            return answer
        received = connection.recv(65536)
        if not received:
            return answer
        answer += received


@contextmanager
def serving(*arguments: str, port: int = 0, token: str | None = None) -> Iterator[LiveServer]:
    """``python -m rewards.serve`` with these arguments; killed at the end if it was not stopped."""
    environment = dict(os.environ) if token is None else {**os.environ, "TEST_REWARD_TOKEN": token}
    command = [sys.executable, "-m", "rewards.serve", "--port", str(port), *arguments]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        server = LiveServer("", process, errors)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("serving "), server.errors
            yield LiveServer(line.split()[-1], process, errors)
        finally:
            process.kill()


def metric(url: str, line: str) -> float:
    """The value of one line of ``/metrics``, such as ``easel_reward_pictures_total{reward="bright"}``."""
    for row in httpx.get(f"{url}/metrics", trust_env=False).text.split("\n"):
        name, _, value = row.rpartition(" ")
        if name == line:
            return float(value)
    raise AssertionError(f"no metric {line}")


def wait_for(url: str, line: str, value: float) -> None:
    """Until that line of ``/metrics`` has this value."""
    deadline = time.monotonic() + 20
    while metric(url, line) != value:
        assert time.monotonic() < deadline, f"{line} never was {value:g}"
        time.sleep(0.05)


def body(reward: str, given: Sequence[Sample], encoding: Encoding = "png") -> bytes:
    """A request as our client writes it."""
    return wire.join_request(
        reward, [wire.encode_sample(sample, encoding, PromptPictures()) for sample in given], (), encoding
    )


def head(length: int | None, *lines: str, path: str = "/score") -> bytes:
    """The head of a POST with JSON and any further header lines."""
    size = () if length is None else (f"content-length: {length}",)
    rows = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", *size, *lines, "", ""]
    return "\r\n".join(rows).encode()


def post(server: LiveServer, content: bytes, **headers: str) -> httpx.Response:
    """``POST /score``; the status and the sentence are the caller's to judge."""
    given = {"content-type": "application/json"} | headers
    return httpx.post(f"{server.url}/score", content=content, headers=given, trust_env=False, timeout=20)
