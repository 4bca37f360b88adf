"""An OpenAI-compatible chat endpoint over HTTP: paced, timed, retried only where a retry can help.

Not the openai client: that one also retries 409 and whatever the server's ``x-should-retry`` says, and its retries
would pass by the pace kept here.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import httpx
from pydantic import BaseModel, Field, JsonValue, ValidationError

from rewards.remote.bearer import token_in
from rewards.remote.http import (
    AnswerTooLarge,
    Outcome,
    RetryingClient,
    back_off_s,
    in_words,
    is_address,
    passing,
    retry_after_s,
)
from rewards.remote.proxy import Proxy, proxy_for
from rl.registry import did_you_mean
from rl.types import UserError

_LONGEST_WAIT_S = 60.0  # a server that asks for more is not waited for
_LARGEST_ANSWER = 4 << 20  # bytes


class EndpointFailed(Exception):
    """No usable answer came; the message says why. The sample fails, nothing is scored 0."""


class KeyRefused(EndpointFailed):
    """HTTP 401 or 403."""


class _Likely(BaseModel):
    token: str
    logprob: float
    """In nats."""


class Token(BaseModel):
    """One token of an answer and the likeliest tokens in its place."""

    token: str
    top_logprobs: list[_Likely]


class _Logprobs(BaseModel):
    content: list[Token] | None = None


class _Message(BaseModel):
    content: str | None


class Reply(BaseModel):
    """An answer, as far as it is read: its text, and its tokens if the server gave their log-probs."""

    message: _Message
    logprobs: _Logprobs | None = None

    @property
    def text(self) -> str:
        return self.message.content or ""

    @property
    def tokens(self) -> Sequence[Token]:
        return self.logprobs.content or () if self.logprobs else ()


class _Completion(BaseModel):
    choices: list[Reply] = Field(min_length=1)


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
        if not is_address(url):
            raise UserError(f"vlm_judge.options.url is {url!r}: it must look like http://localhost:8000/v1")
        self.url, self.model = url.rstrip("/"), model
        self._proxy = _proxy(url)
        self._timeout_s = timeout_s
        self._pace = Pace(max_requests_per_second, clock, sleep)
        self._client = RetryingClient(
            token=None if token_env is None else token_in(token_env, "vlm_judge.options.token_env"),
            timeout_s=timeout_s,
            retries=retries,
            largest_answer=_LARGEST_ANSWER,
            deadline=True,
            proxy=self._proxy,
            clock=clock,
            sleep=sleep,
        )

    def check(self) -> None:
        """Raises ``UserError`` if the endpoint does not answer or does not serve the model."""
        try:
            listing = self._request("GET", "models")
        except KeyRefused as error:
            raise UserError(f"vlm_judge.options.token_env: {error}") from error
        except EndpointFailed as error:
            fix = "it must be the address of an OpenAI-compatible server, such as http://localhost:8000/v1"
            if self._proxy is not None:
                fix += f"; if it needs no proxy, add its host to NO_PROXY or unset {self._proxy.variable}"
            raise UserError(f"vlm_judge.options.url: {error}; {fix}") from error
        rows = listing.get("data") if isinstance(listing, Mapping) else None
        known = [str(row.get("id")) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
        if self.model not in known:
            raise UserError(
                f"vlm_judge.options.model: {self.url} serves no {self.model!r}{did_you_mean(self.model, known)} "
                f"(it serves: {', '.join(known[:10]) or 'nothing'})"
            )

    def complete(self, body: Mapping[str, JsonValue]) -> Reply:
        """The first choice of a chat completion. Raises ``EndpointFailed``."""
        return _reply(self._request("POST", "chat/completions", {"model": self.model, **body}))

    def _request(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> JsonValue:
        where = f"{self.url}/{path}"

        def attempt() -> httpx.Response:
            self._pace.wait()
            return self._client.once(method, where, json=body)

        def pause_s(number: int, outcome: Outcome) -> float:
            wanted_s = retry_after_s(outcome)
            if wanted_s is not None and wanted_s > _LONGEST_WAIT_S:
                raise EndpointFailed(f"{self._problem(outcome, where)}, and asks to wait {wanted_s:.0f} s")
            return back_off_s(number) if wanted_s is None else wanted_s

        try:
            outcome, attempts = self._client.retried(attempt, pause_s)
        except AnswerTooLarge as error:
            raise EndpointFailed(f"{where} {error}") from error
        except httpx.RequestError as error:
            raise EndpointFailed(f"{where} answered something broken ({error})") from error
        if isinstance(outcome, httpx.Response):
            if outcome.status_code == 200:
                return _json(outcome, where)
            if outcome.status_code in (401, 403):
                raise KeyRefused(
                    f"{where} refused the API key (HTTP {outcome.status_code}); "
                    "set `token_env` to the name of the environment variable that holds it"
                )
        asked = f", asked {attempts} times" if attempts > 1 and passing(outcome) else ""
        raise EndpointFailed(self._problem(outcome, where) + asked)

    def _problem(self, outcome: Outcome, where: str) -> str:
        way = "" if self._proxy is None else f" through {self._proxy}"
        if isinstance(outcome, httpx.TimeoutException):
            return f"{self.url} does not answer{way} (nothing complete within {self._timeout_s:g} s)"
        if isinstance(outcome, httpx.TransportError):
            return f"{self.url} does not answer{way} ({in_words(outcome)})"
        said = " ".join(outcome.text.split())[:200]
        return f"{where} answered{way} HTTP {outcome.status_code}{': ' if said else ''}{said}"


def _proxy(url: str) -> Proxy | None:
    try:
        return proxy_for(url)
    except UserError as error:
        raise UserError(f"vlm_judge.options.url: {url} would be reached by a proxy, and {error}") from error


def _json(response: httpx.Response, where: str) -> JsonValue:
    try:
        answer: JsonValue = response.json()
    except ValueError as error:
        raise EndpointFailed(f"{where} answered HTTP 200 with something that is not JSON ({error})") from error
    return answer


def _reply(answer: JsonValue) -> Reply:
    try:
        return _Completion.model_validate(answer).choices[0]
    except ValidationError as error:
        said = json.dumps(answer)[:200]
        raise EndpointFailed(f"the endpoint answered something that is no chat completion: {said}") from error
