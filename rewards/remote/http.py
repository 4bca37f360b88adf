"""Questions over HTTP, asked again where that can help: at most three times, after transport errors, 408, 429 and 5xx.

Used by the ``remote`` reward and the ``vlm_judge``, which choose how long to pause and what to say in the end.
httpx alone retries only connections that could not be made; clients for one API also retry what their server says.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeAlias

import httpx
from pydantic import JsonValue

from rewards.remote.proxy import Proxy
from rl.types import UserError

Outcome: TypeAlias = httpx.Response | httpx.TransportError
"""How one attempt ended: with an answer of any status, or without any."""

MOST_RETRIES = 3
_BACK_OFF_S = 0.5  # doubled with every attempt


class AnswerTooLarge(httpx.RequestError):
    """More than ``largest_answer`` bytes."""


class RetryingClient:
    """An ``httpx.Client`` that asks up to ``1 + retries`` times. Thread-safe.

    ``timeout_s``: for connecting and for each piece of an answer; with ``deadline`` also for the whole of it, however
    slowly it drips. ``token``: sent as a bearer token. ``proxy``: everything goes through it; the environment's are not
    looked at. ``largest_answer``: in bytes. Raises ``UserError`` if ``SSL_CERT_FILE`` names no certificates.
    """

    def __init__(
        self,
        *,
        token: str | None,
        timeout_s: float,
        retries: int,
        largest_answer: int,
        deadline: bool = False,
        proxy: Proxy | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.retries, self.clock, self.sleep = retries, clock, sleep
        self._largest_answer = largest_answer
        self._deadline_s = timeout_s if deadline else float("inf")
        self._client = httpx.Client(
            headers={} if token is None else {"authorization": f"Bearer {token}"},
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=None),  # as many as there are threads
            proxy=None if proxy is None else proxy.address,
            trust_env=False,
            verify=_certificates(),
            transport=transport,
        )

    def retried(
        self, attempt: Callable[[], httpx.Response], pause_s: Callable[[int, Outcome], float]
    ) -> tuple[Outcome, int]:
        """The first outcome that another attempt would not mend, or the last one; and how many attempts there were.

        ``pause_s(number, outcome)``: how long to wait after attempt ``number``, counted from 0.
        Raises ``httpx.RequestError`` for an answer that is broken or too large.
        """
        for number in range(self.retries + 1):
            outcome: Outcome
            try:
                outcome = attempt()
            except httpx.TransportError as error:
                outcome = error
            if number == self.retries or not passing(outcome):
                break
            self.sleep(pause_s(number, outcome))
        return outcome, number + 1

    def once(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        json: Mapping[str, JsonValue] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """One request and its whole answer. Raises ``httpx.RequestError``."""
        deadline = self.clock() + self._deadline_s
        headers = {} if body is None else {"content-type": "application/json"}
        timeout = httpx.USE_CLIENT_DEFAULT if timeout_s is None else timeout_s
        with self._client.stream(method, url, content=body, json=json, headers=headers, timeout=timeout) as response:
            content = bytearray()
            for chunk in response.iter_bytes():
                content += chunk
                if self.clock() > deadline:
                    raise httpx.ReadTimeout("the answer drips")
                if len(content) > self._largest_answer:
                    raise AnswerTooLarge(f"answered more than {self._largest_answer >> 20} MiB")
        return httpx.Response(
            response.status_code,
            headers=_plain_headers(response.headers),
            content=bytes(content),
            request=response.request,
        )


def _certificates() -> ssl.SSLContext:
    """Those of ``SSL_CERT_FILE`` or ``SSL_CERT_DIR``, else certifi's."""
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # an SSLError too
        named = next((name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)), "certifi")
        reason = error.strerror or error
        raise UserError(
            f"no certificates can be read from what {named} names ({reason}); correct or unset it"
        ) from error


def passing(outcome: Outcome) -> bool:
    """Whether it may be otherwise the next time."""
    if isinstance(outcome, httpx.Response):
        return outcome.status_code in (408, 429) or outcome.status_code >= 500
    return True


def back_off_s(number: int) -> float:
    """0.5, 1, 2 s after attempts 0, 1, 2."""
    return _BACK_OFF_S * 2**number


def retry_after_s(outcome: Outcome) -> float | None:
    """The seconds that the server asks for: a number, or until an HTTP date; ``None`` if it says nothing."""
    value = outcome.headers.get("retry-after", "").strip() if isinstance(outcome, httpx.Response) else ""
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def is_address(url: object) -> bool:
    """Whether it is an http(s) URL with a host."""
    try:
        parsed = httpx.URL(url)  # type: ignore[arg-type]
    except (httpx.InvalidURL, TypeError):
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.host)


def in_words(error: httpx.RequestError) -> str:
    """``ConnectError: connection refused``; some of httpx's errors have no text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def _plain_headers(headers: httpx.Headers) -> httpx.Headers:
    """Without what describes the transfer: the content is whole and decoded by now."""
    return httpx.Headers([(k, v) for k, v in headers.items() if k not in ("content-encoding", "content-length")])
