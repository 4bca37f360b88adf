"""Several reward servers behind one question: who is asked, when it is asked again, and who is left out for a while.

A question is asked again with exponential back-off and jitter, or after what ``Retry-After`` says (up to 30 s), or at
once when a server cannot be reached and there is another. It goes to the live server with the fewest questions under
way, and not to the one that has just failed if there is another. A server that cannot be reached or answers 5xx is left
out for ``rest_s`` seconds and then first has to answer ``GET /health``; when all are left out, the one that was left
out first is asked all the same.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import httpx

from rewards.remote.http import Outcome, RetryingClient, back_off_s, in_words, passing, retry_after_s

_BUSY = (408, 429, 503)  # try again later, but nothing is wrong with the server
_LONGEST_RETRY_AFTER_S = 30.0
_HEALTH_TIMEOUT_S = 2.0
_GREETING_TIMEOUT_S = 5.0  # whoever scores slowly still says at once what it offers


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
    client: RetryingClient
    rest_s: float = 10.0
    servers: list[Server] = field(init=False)

    def __post_init__(self) -> None:
        self.servers = [Server(url) for url in self.urls]
        self._lock = threading.Lock()
        self._turn = count(1)

    def get(self, server: Server, path: str) -> httpx.Response:
        """Ask one server once. Raises ``NoAnswer`` if it cannot be reached in 5 s, and leaves it out for a while."""
        try:
            return self.client.once("GET", server.url + path, timeout_s=_GREETING_TIMEOUT_S)
        except httpx.RequestError as error:
            self._rest(server)
            raise NoAnswer(f"{server.url}: {in_words(error)}") from error

    def post(self, path: str, body: bytes) -> httpx.Response:
        """The first answer of status 200 to ``body`` (JSON). Raises ``NoAnswer`` after the last attempt, or at once
        if a server refuses the question itself (another 4xx)."""
        asked: list[Server] = []

        def attempt() -> httpx.Response:
            asked.append(self._pick(asked[-1] if asked else None))
            return self._ask(asked[-1], path, body)

        try:
            outcome, attempts = self.client.retried(attempt, self._pause_s)
        except httpx.RequestError as error:
            raise NoAnswer(f"{asked[-1].url}: {in_words(error)}") from error
        if not isinstance(outcome, httpx.Response):
            problem = f"{asked[-1].url}: {in_words(outcome)}"
        elif outcome.status_code == 200:
            return outcome
        else:
            problem = f"{asked[-1].url} answered {sentence(outcome)}"
        tried = passing(outcome) and attempts > 1
        raise NoAnswer(problem + (f" ({attempts} attempts)" if tried else ""))

    def _ask(self, server: Server, path: str, body: bytes) -> httpx.Response:
        """Notes how the server is doing."""
        try:
            response = self.client.once("POST", server.url + path, body=body)
        except httpx.TransportError:
            self._rest(server)
            raise
        finally:
            with self._lock:
                server.under_way -= 1
        if response.status_code == 200:
            server.resting_until = None
        elif passing(response) and response.status_code not in _BUSY:
            self._rest(server)
        return response

    def _pause_s(self, number: int, outcome: Outcome) -> float:
        if not isinstance(outcome, httpx.Response) and self._live():
            return 0.0
        asked_for = min(_LONGEST_RETRY_AFTER_S, retry_after_s(outcome) or 0.0)
        return max(asked_for, back_off_s(number) * random.uniform(0.5, 1.0))

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
            now = self.client.clock()
            rested = [s for s in self.servers if s.resting_until is not None and s.resting_until <= now]
            for server in rested:
                server.resting_until = now + self.rest_s
            return rested

    def _try_to_revive(self, server: Server) -> None:
        try:
            response = self.client.once("GET", server.url + "/health", timeout_s=_HEALTH_TIMEOUT_S)
        except httpx.RequestError:
            return  # still away: its rest has begun anew
        if response.status_code == 200:
            server.resting_until = None

    def _rest(self, server: Server) -> None:
        with self._lock:
            server.resting_until = self.client.clock() + self.rest_s


def sentence(response: httpx.Response) -> str:
    """``422: two samples have the id 's1'``: the status and what the server says about it."""
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = response.text
    text = " ".join((said if isinstance(said, str) else json.dumps(said)).split())[:300]
    return f"{response.status_code}: {text or response.reason_phrase}"
