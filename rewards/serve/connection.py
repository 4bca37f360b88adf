"""HTTP connections of the reward server that nobody can hold open for nothing.

uvicorn waits for ever for the head of a request, and for a client that does not read its answer. Here a request's
head must be complete ``timeout_s`` after its first byte (a new connection: after it was opened), and an answer must
be taken in as long. What is above ``max_connections`` is turned away. A body's time limit is the application's.
"""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class TimedConnection(H11Protocol):
    """uvicorn's h11 connection with time limits; made to measure by ``connection_class``."""

    timeout_s: ClassVar[float]
    max_connections: ClassVar[int]

    _reading: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._refuse(b"503 Service Unavailable", "too many connections are open; try again later")
            return
        self._reading = self.loop.call_later(self.timeout_s, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():  # refused; what still comes in is of no interest
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_reading_timer()
        elif self._reading is None:  # part of a head, or the rest of a body that was answered before its end
            self._reading = self.loop.call_later(self.timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading_timer()
        self._stop_writing_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_writing_timer()
        self._writing = self.loop.call_later(self.timeout_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_writing_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        self._refuse(b"400 Bad Request", "the request is not valid HTTP")

    def _too_slow(self) -> None:
        self._reading = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE:
            self._refuse(b"408 Request Timeout", f"the request's head was not complete within {self.timeout_s:g} s")
        else:  # it has its answer already
            self.transport.abort()

    def _refuse(self, status: bytes, detail: str) -> None:
        # Written past h11, whose state may allow nothing any more; but nothing once an answer has begun.
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"detail": detail}).encode()
            head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, len(body)) + body)
        self.transport.close()

    def _stop_reading_timer(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing_timer(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


def connection_class(timeout_s: float, max_connections: int) -> type[TimedConnection]:
    """The class for ``uvicorn.Config(http=...)``."""
    return type("Connection", (TimedConnection,), {"timeout_s": timeout_s, "max_connections": max_connections})
