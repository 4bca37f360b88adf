"""The reward service over HTTP: ``POST /score``, ``GET /rewards``, ``/metrics``, ``/health``, and ``/docs`` for people.

Whatever is sent, the answer is a sentence (``{"detail": ...}``) with a 4xx status, or scores in which one bad picture
is one failed item. The event loop only receives and sends: checking, decoding and scoring happen in threads, and what
all bodies together may hold is limited: above that the answer is 503.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rewards.remote.wire import Offer, Offered, RequestError, RequestLimits, ScoreAnswer, ScoreRequest, parse_request
from rewards.serve.metrics import ServerMetrics
from rewards.serve.service import RewardService, stopping
from rl.registry import did_you_mean

_HELD_BODIES = 4  # bodies of the largest size that may be in memory at once
_BEARER = HTTPBearer(auto_error=False, description="the value of the variable that --token-env names")
_SCHEMA = "#/components/schemas/{model}"
_REFUSED = {  # for the OpenAPI page: bodies are checked by hand
    400: "not JSON",
    401: "no token, or a wrong one",
    404: "no such reward",
    408: "too slow",
    413: "too many bytes, pixels or samples",
    415: "not sent as application/json",
    422: "not the schema",
    503: "too many requests at once; try again after the seconds of Retry-After",
}


def create_app(
    services: Mapping[str, RewardService],
    metrics: ServerMetrics,
    *,
    limits: RequestLimits,
    token: str | None,
    read_timeout_s: float,
    max_requests: int,
) -> FastAPI:
    """The application. ``token`` guards everything but ``/health`` and ``/docs``; a body must arrive within
    ``read_timeout_s``; ``max_requests`` may be under way at once."""
    app = FastAPI(title="easel-rl rewards", description=__doc__ or "", responses=_documented(503))
    bodies = _Bodies(limits.max_bytes, read_timeout_s)
    guard = [] if token is None else [Depends(_guard(token))]
    guarded = _documented() if token is None else _documented(401)
    app.add_middleware(_AtMost, count=max_requests)
    app.add_middleware(_Answers, metrics=metrics)  # the outer one: refusals are counted too
    app.add_exception_handler(RequestError, _refusal)

    @app.post(
        "/score",
        dependencies=guard,
        responses={200: {"model": ScoreAnswer}, **guarded, **_documented(400, 404, 408, 413, 415, 422)},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"$ref": _SCHEMA.format(model="ScoreRequest")}}},
            }
        },
    )
    async def score(request: Request) -> Response:
        """The scores of some pictures, in order."""
        async with bodies.of(request) as body:
            asked = await run_in_threadpool(parse_request, body, limits)
            body.clear()  # what was parsed is enough to hold while it waits
            service = services.get(asked.reward)
            if service is None:
                near = did_you_mean(asked.reward, services)
                here = f"(there is: {', '.join(services)})"
                raise RequestError(404, f"there is no reward {asked.reward[:80]!r} here{near} {here}")
            answer = asyncio.wrap_future(service.submit(asked))
            return Response(await _unless_gone(request, answer), media_type="application/json")

    @app.get("/rewards", dependencies=guard, responses=guarded)
    def rewards() -> Offer:
        """The rewards served here, by name, and the limits of a request."""
        offered = {
            name: Offered.model_validate({"use": service.reward.use, "options": service.reward.options})
            for name, service in services.items()
        }
        return Offer(rewards=offered, limits=limits)

    @app.get(
        "/metrics",
        dependencies=guard,
        response_class=Response,
        responses={200: {"content": {CONTENT_TYPE_PLAIN_0_0_4: {"schema": {"type": "string"}}}}, **guarded},
    )
    def measured() -> Response:
        """Counts in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answers if the server lives."""
        return {"status": "ok"}

    _add_schema(app)
    return app


class Refusal(BaseModel):
    """Every answer that is not one of 200: what is wrong, in a sentence."""

    detail: str


def _documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": Refusal, "description": _REFUSED[status]} for status in statuses}


class _AtMost:
    """ASGI middleware: refuses requests while ``count`` are under way. A connection that says nothing is none."""

    def __init__(self, app: ASGIApp, count: int) -> None:
        self.app, self.count = app, count
        self.under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.under_way >= self.count:
            error = RequestError(503, f"{self.count} requests are under way, the most at once", retry_after_s=1)
            await _refusal(Request(scope), error)(scope, receive, send)
            return
        self.under_way += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.under_way -= 1


class _Answers:
    """ASGI middleware: counts the answers to ``/score`` by status, whoever gives them, and ends the connection after
    one that was given before the whole request was there: what still comes is neither kept nor waited for."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = False

        async def receiving() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == "/score":
                self.metrics.requests.labels(str(message["status"])).inc()
                if not whole:
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        await self.app(scope, receiving, sending)


class _Bodies:
    """Reads bodies with a limit on each, on all that are held at once, and on the time one may take."""

    def __init__(self, max_bytes: int, timeout_s: float) -> None:
        self._max_bytes, self._timeout_s = max_bytes, timeout_s
        self._held = 0

    @asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytearray]:
        """The body of ``request``; counted as held until the context is left.

        Raises ``RequestError``: 413 too large, 408 too slow, 415 not JSON by its own account, 503 no room.
        """
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise RequestError(415, "the body must be sent with the header content-type: application/json")
        if int(request.headers.get("content-length", 0)) > self._max_bytes:
            raise self._too_large()
        body, size = bytearray(), 0
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    async for chunk in request.stream():
                        body += chunk
                        size += len(chunk)
                        self._held += len(chunk)
                        self._check(size)
            except TimeoutError:
                raise RequestError(408, f"the body was not complete within {self._timeout_s:g} s") from None
            except ClientDisconnect:
                raise RequestError(400, "the connection was closed before the body was complete") from None
            yield body
        finally:
            self._held -= size

    def _check(self, size: int) -> None:
        if size > self._max_bytes:
            raise self._too_large()
        if self._held > _HELD_BODIES * self._max_bytes:
            raise RequestError(503, "the server holds as many requests as it has memory for", retry_after_s=1)

    def _too_large(self) -> RequestError:
        return RequestError(413, f"the body is larger than the {self._max_bytes:,} bytes that are accepted")


def _guard(token: str) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    async def check(given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]) -> None:
        if given is None:
            raise RequestError(401, "this server wants a token: send the header Authorization: Bearer TOKEN")
        if not hmac.compare_digest(given.credentials.encode(), token.encode()):
            raise RequestError(401, "the token is not this server's")

    return check


def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({"detail": error.detail}, error.status, headers)


async def _unless_gone(request: Request, answer: asyncio.Future[bytes]) -> bytes:
    """The answer; given up, and not begun if it still waits, when the client closes its connection."""
    gone = asyncio.ensure_future(request.receive())
    either: set[asyncio.Future[bytes] | asyncio.Future[Message]] = {answer, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise RequestError(400, "the connection was closed before the answer")
        if answer.cancelled():
            raise stopping()
        return answer.result()
    finally:
        gone.cancel()
        answer.cancel()


def _add_schema(app: FastAPI) -> None:
    """Put the request's schema where the description of ``/score`` refers to."""
    schemas = app.openapi()["components"]["schemas"]  # built once and kept by FastAPI
    request = ScoreRequest.model_json_schema(ref_template=_SCHEMA)
    schemas.update(request.pop("$defs"))
    schemas["ScoreRequest"] = request
