"""A chat endpoint on the loopback that answers as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

MODEL = "judge-7b"


@dataclass(frozen=True)
class Answer:
    """``body`` as JSON, or as it is if bytes. ``hang``: never. ``drip``: a byte now and then. ``drop``: cut off."""

    body: object = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: str = "at once"


def chat(text: str | None, top: Sequence[Mapping[str, float]] | None = None) -> Answer:
    """A chat completion; ``top`` has the likeliest tokens (and their probabilities) at each place."""
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if top is not None:
        choice["logprobs"] = {"content": [_place(place) for place in top]}
    return Answer({"object": "chat.completion", "model": MODEL, "choices": [choice]})


def _place(probabilities: Mapping[str, float]) -> dict[str, Any]:
    rows = [{"token": token, "logprob": math.log(p), "bytes": None} for token, p in probabilities.items()]
    return {**rows[0], "top_logprobs": rows}


def picture_of(body: Mapping[str, Any]) -> np.ndarray:
    """The picture in a request."""
    url = body["messages"][0]["content"][0]["image_url"]["url"]
    kind, _, data = url.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def text_of(body: Mapping[str, Any]) -> str:
    """The first question in a request."""
    return str(body["messages"][0]["content"][1]["text"])


class FakeEndpoint:
    """``answer(number, body)`` says what request ``number`` (from 1) gets; threads, keep-alive, real sockets."""

    def __init__(self, answer: Callable[[int, dict[str, Any]], Answer], *, token: str | None = None) -> None:
        self.asked: list[dict[str, Any]] = []
        self.listings = 0
        self.in_flight = self.most_in_flight = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._answer, self._token = answer, token
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def handle(self, method: str, path: str, authorization: str | None, body: dict[str, Any]) -> Answer:
        if self._token is not None and authorization != f"Bearer {self._token}":
            return Answer({"error": {"message": "invalid api key"}}, 401)
        if (method, path) == ("GET", "/v1/models"):
            self.listings += 1
            return Answer({"object": "list", "data": [{"id": MODEL}, {"id": "other"}]})
        if (method, path) != ("POST", "/v1/chat/completions"):
            return Answer({"detail": "Not Found"}, 404)
        with self._lock:
            self.asked.append(body)
            number = len(self.asked)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return self._answer(number, body)
        finally:
            with self._lock:
                self.in_flight -= 1

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _handler(endpoint: FakeEndpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(raw) if raw else {}
            answer = endpoint.handle(self.command, self.path, self.headers.get("Authorization"), body)
            with suppress(ConnectionError):  # the client gave up
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            if answer.how == "hang":
                endpoint.over.wait()
            if answer.how in ("hang", "drop") or endpoint.over.is_set():
                self.close_connection = True
                return
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if answer.how == "drip":
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    if endpoint.over.wait(0.05):
                        return
            else:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    return Handler
