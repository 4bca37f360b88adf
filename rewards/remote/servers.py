"""Several reward servers behind one question: who is asked, when it is asked again, and who is left out for a while.

A question is asked at most ``1 + retries`` times, again only after transport errors, 408, 429 and 5xx, with
exponential back-off and jitter, or after what ``Retry-After`` says (up to 30 s), or at once when a server cannot be
reached and there is another. It goes to the live server with the
fewest questions under way, and not to the one that has just failed if there is another. A server that cannot be
reached or answers 5xx is left out for ``rest_s`` seconds and then first has to answer ``GET /health``; when all are
left out, the one that was left out first is asked all the same.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx

_BUSY = (408, 429, 503)  # try again later, but nothing is wrong with the server
_BACK_OFF_S, _LONGEST_BACK_OFF_S, _LONGEST_RETRY_AFTER_S = 0.5, 8.0, 30.0
_HEALTH_TIMEOUT_S = 2.0


class NoAnswer(Exception):
    """No server gave an answer of status 200; the message names the server and its reason."""


@dataclass
class Server:
    """One URL; ``resting_until`` on the monotonic clock, ``asked`` orders servers that are equally busy."""

    url: str
    under_way: int = 0
    asked: int = 0
    resting_until: float | None = None


@dataclass
class Endpoints:
    """The servers at ``urls``, asked through ``client``; usable from several threads."""

    urls: Sequence[str]
    client: httpx.Client
    retries: int
    rest_s: float = 10.0
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    servers: list[Server] = field(init=False)

    def __post_init__(self) -> None:
        self.servers = [Server(url) for url in self.urls]
        self._lock = threading.Lock()
        self._turn = count(1)

    def get(self, server: Server, path: str) -> httpx.Response:
        """Ask one server once. Raises ``NoAnswer`` if it cannot be reached, and leaves it out for a while."""
        try:
            return self.client.get(server.url + path)
        except httpx.HTTPError as error:
            self._rest(server)
            raise NoAnswer(f"{server.url}: {_reason(error)}") from error

    def post(self, path: str, body: bytes) -> httpx.Response:
        """The first answer of status 200 to ``body`` (JSON). Raises ``NoAnswer`` after the last attempt, or at once
        if a server refuses the question itself (another 4xx)."""
        last: Server | None = None
        problem = ""
        for attempt in range(1 + self.retries):
            server = self._pick(last)
            try:
                response = self._ask(server, path, body)
            except httpx.TransportError as error:
                self._rest(server)
                problem, pause = f"{server.url}: {_reason(error)}", 0.0 if self._live() else self._back_off(attempt)
            except httpx.HTTPError as error:
                raise NoAnswer(f"{server.url}: {_reason(error)}") from error
            else:
                if response.status_code == 200:
                    server.resting_until = None
                    return response
                problem = f"{server.url} answered {sentence(response)}"
                if not _worth_retrying(response.status_code):
                    raise NoAnswer(problem)
                if response.status_code not in _BUSY:
                    self._rest(server)
                pause = max(_retry_after(response), self._back_off(attempt))
            last = server
            if attempt < self.retries:
                self.sleep(pause)
        attempts = 1 + self.retries
        raise NoAnswer(problem + (f" ({attempts} attempts)" if attempts > 1 else ""))

    def _ask(self, server: Server, path: str, body: bytes) -> httpx.Response:
        with self._counted(server):
            return self.client.post(server.url + path, content=body, headers={"content-type": "application/json"})

    @contextmanager
    def _counted(self, server: Server) -> Iterator[None]:
        try:
            yield
        finally:
            with self._lock:
                server.under_way -= 1

    def _pick(self, last: Server | None) -> Server:
        """The server to ask next, counted as asked. ``last`` has just failed on this question."""
        for server in self._rested():
            self._try_to_revive(server)
        with self._lock:
            if live := self._live():
                chosen = min(live, key=lambda s: (s is last, s.under_way, s.asked))
            else:
                chosen = min(self.servers, key=lambda s: (s.resting_until or 0.0, s.asked))
            chosen.under_way += 1
            chosen.asked = next(self._turn)
            return chosen

    def _live(self) -> list[Server]:
        return [server for server in self.servers if server.resting_until is None]

    def _rested(self) -> list[Server]:
        """Servers whose rest is over; it begins anew, so that no other thread revives them at the same time."""
        with self._lock:
            now = self.clock()
            rested = [s for s in self.servers if s.resting_until is not None and s.resting_until <= now]
            for server in rested:
                server.resting_until = now + self.rest_s
            return rested

    def _try_to_revive(self, server: Server) -> None:
        try:
            response = self.client.get(server.url + "/health", timeout=_HEALTH_TIMEOUT_S)
        except httpx.HTTPError:
            return  # still away: its rest has begun anew
        if response.status_code == 200:
            server.resting_until = None

    def _rest(self, server: Server) -> None:
        with self._lock:
            server.resting_until = self.clock() + self.rest_s

    def _back_off(self, attempt: int) -> float:
        return min(_LONGEST_BACK_OFF_S, _BACK_OFF_S * 2**attempt) * random.uniform(0.5, 1.0)


def sentence(response: httpx.Response) -> str:
    """``422: two samples have the id 's1'``: the status and what the server says about it."""
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = response.text
    text = " ".join((said if isinstance(said, str) else json.dumps(said)).split())[:300]
    return f"{response.status_code}: {text or response.reason_phrase}"


def _worth_retrying(status: int) -> bool:
    return status in _BUSY or status >= 500


def _retry_after(response: httpx.Response) -> float:
    seconds = response.headers.get("retry-after", "")
    return min(_LONGEST_RETRY_AFTER_S, float(seconds)) if seconds.isdecimal() else 0.0


def _reason(error: httpx.HTTPError) -> str:
    """``ConnectError: connection refused``; some of httpx's errors have no text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}"
