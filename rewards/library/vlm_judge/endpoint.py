"""An OpenAI-compatible chat endpoint over HTTP: paced, timed, retried only where a retry can help.

httpx and not the openai client: that one also retries 409 and whatever the server's ``x-should-retry`` says, and its
retries would pass by the pace kept here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from rewards.remote.bearer import token_in
from rl.registry import did_you_mean
from rl.types import UserError

_BACK_OFF_S = 0.5  # doubled with every retry
_LONGEST_WAIT_S = 60.0  # a server that asks for more is not waited for
_LARGEST_ANSWER = 4 << 20  # bytes


class EndpointFailed(Exception):
    """No usable answer came; the message says why. The sample fails, nothing is scored 0."""


class KeyRefused(EndpointFailed):
    """HTTP 401 or 403."""


@dataclass(frozen=True)
class Token:
    """One token of an answer and the likeliest tokens in its place, with their log-probs in nats."""

    text: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reply:
    """An answer: its text, and its tokens if the server gave their log-probs."""

    text: str
    tokens: tuple[Token, ...] = ()


class Pace:
    """Lets at most ``per_second`` requests start in a second, evenly spaced, from any number of threads."""

    def __init__(self, per_second: float | None, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._gap_s = 0.0 if per_second is None else 1 / per_second
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._next = clock()

    def wait(self) -> None:
        """Return when this thread's turn has come."""
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._gap_s
        if turn > now:
            self._sleep(turn - now)


class Endpoint:
    """Chat completions of one model at ``url`` (which ends in ``/v1``). Thread-safe.

    A request that meets a transport error, 408, 429 or 5xx is sent again, up to ``retries`` times, after the server's
    Retry-After or 0.5, 1, 2 s. ``token_env`` names the environment variable with the API key.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        token_env: str | None,
        timeout_s: float,
        retries: int,
        max_requests_per_second: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url, self.model = _checked_url(url), model
        self._timeout_s, self._retries, self._clock, self._sleep = timeout_s, retries, clock, sleep
        self._pace = Pace(max_requests_per_second, clock, sleep)
        token = None if token_env is None else token_in(token_env, "vlm_judge.options.token_env")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        limits = httpx.Limits(max_connections=None)  # as many as there are threads
        self._client = httpx.Client(headers=headers, timeout=timeout_s, limits=limits)

    def check(self) -> None:
        """Raises ``UserError`` if the endpoint does not answer or does not serve the model."""
        try:
            listing = self._request("GET", "models")
        except KeyRefused as error:
            raise UserError(f"vlm_judge.options.token_env: {error}") from error
        except EndpointFailed as error:
            raise UserError(
                f"vlm_judge.options.url: {error}; "
                "it must be the address of an OpenAI-compatible server, such as http://localhost:8000/v1"
            ) from error
        rows = listing.get("data") if isinstance(listing, Mapping) else None
        known = [str(row.get("id")) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        if self.model not in known:
            raise UserError(
                f"vlm_judge.options.model: {self.url} serves no {self.model!r}{did_you_mean(self.model, known)} "
                f"(it serves: {', '.join(known[:10]) or 'nothing'})"
            )

    def complete(self, body: Mapping[str, object]) -> Reply:
        """The first choice of a chat completion. Raises ``EndpointFailed``."""
        return _reply(self._request("POST", "chat/completions", {"model": self.model, **body}))

    def _request(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        attempt = 0
        while True:
            self._pace.wait()
            wait_s = _BACK_OFF_S * 2**attempt
            try:
                response = self._exchange(method, path, body)
            except httpx.TransportError as error:
                problem = f"{self.url} does not answer ({_words(error, self._timeout_s)})"
            except httpx.RequestError as error:
                raise EndpointFailed(f"{self.url}/{path} answered something broken ({error})") from error
            else:
                if response.status_code == 200:
                    return _json(response, f"{self.url}/{path}")
                if response.status_code in (401, 403):
                    raise KeyRefused(_refused(response, f"{self.url}/{path}"))
                problem = _problem(response, f"{self.url}/{path}")
                if response.status_code not in (408, 429) and response.status_code < 500:
                    raise EndpointFailed(problem)
                wait_s = _retry_after(response.headers.get("Retry-After"), wait_s)
            if attempt == self._retries:
                raise EndpointFailed(f"{problem}, asked {attempt + 1} times" if attempt else problem)
            if wait_s > _LONGEST_WAIT_S:
                raise EndpointFailed(f"{problem}, and asks to wait {wait_s:.0f} s")
            self._sleep(wait_s)
            attempt += 1

    def _exchange(self, method: str, path: str, body: Mapping[str, object] | None) -> httpx.Response:
        """One request; the whole answer must be there in ``timeout_s``, however slowly it drips."""
        deadline = self._clock() + self._timeout_s
        with self._client.stream(method, f"{self.url}/{path}", json=body) as response:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if self._clock() > deadline:
                    raise httpx.ReadTimeout("the answer drips")
                if len(content) > _LARGEST_ANSWER:
                    raise EndpointFailed(f"{self.url}/{path} answered more than {_LARGEST_ANSWER >> 20} MiB")
        return httpx.Response(response.status_code, headers=_plain_headers(response.headers), content=bytes(content))


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UserError(f"vlm_judge.options.url is {url!r}: it must look like http://localhost:8000/v1")
    return str(url).rstrip("/")


def _words(error: httpx.TransportError, timeout_s: float) -> str:
    if isinstance(error, httpx.TimeoutException):
        return f"nothing complete within {timeout_s:g} s"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _refused(response: httpx.Response, where: str) -> str:
    return (
        f"{where} refused the API key (HTTP {response.status_code}); "
        "set `token_env` to the name of the environment variable that holds it"
    )


def _problem(response: httpx.Response, where: str) -> str:
    said = " ".join(response.text.split())[:200]
    return f"{where} answered HTTP {response.status_code}{': ' if said else ''}{said}"


def _plain_headers(headers: httpx.Headers) -> httpx.Headers:
    """Without what describes the transfer: the content is whole and decoded by now."""
    return httpx.Headers([(k, v) for k, v in headers.items() if k not in ("content-encoding", "content-length")])


def _retry_after(value: str | None, otherwise_s: float) -> float:
    """Seconds to wait: a number, or until an HTTP date."""
    if value is None:
        return otherwise_s
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return otherwise_s


def _json(response: httpx.Response, where: str) -> Any:
    try:
        return response.json()
    except ValueError as error:
        raise EndpointFailed(f"{where} answered HTTP 200 with something that is not JSON ({error})") from error


def _reply(answer: Any) -> Reply:
    try:
        choice = answer["choices"][0]
        content = choice["message"]["content"] or ""
        rows = (choice.get("logprobs") or {}).get("content") or ()
        tokens = tuple(
            Token(str(row["token"]), tuple((str(top["token"]), float(top["logprob"])) for top in row["top_logprobs"]))
            for row in rows
        )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        said = json.dumps(answer)[:200]
        raise EndpointFailed(f"the endpoint answered something that is no chat completion: {said}") from error
    return Reply(str(content), tokens)
