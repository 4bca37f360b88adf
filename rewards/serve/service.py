"""One served reward: its pool of workers behind a queue that has an end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rewards.pictures import Encoding, checked_pixel_count, decode
from rewards.pool.pool import RewardPool
from rewards.remote.wire import PictureIn, RequestError, RequestLimits, SampleIn, ScoreRequest, answer_json, to_sample
from rewards.serve.metrics import ServerMetrics
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.data.pictures import PictureError
from rl.types import Sample, Score

_THREADS = 2  # while one request is being scored, the pictures of the next are being decoded


class RewardService:
    """``queue``: the most requests in work. ``timeout_s``: of a batch in a worker. To be closed, or used with ``with``.

    ``other_workers``: workers of other rewards on this machine. Raises ``UserError`` if the reward cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        reward: RewardComponent,
        limits: RequestLimits,
        metrics: ServerMetrics,
        *,
        queue: int,
        timeout_s: float,
        other_workers: int = 0,
    ) -> None:
        self.name, self.reward, self._metrics = name, reward, metrics
        self._limits, self._queue = limits, queue
        self._pool = RewardPool({name: reward}, RewardPoolConfig(timeout_s=timeout_s), other_processes=other_workers)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"serve {name}")
        self._pending: set[Future[bytes]] = set()
        self._stopping = False
        metrics.add_reward(
            name,
            queued=lambda: self.queued,
            pids=lambda: self._pool.pids[name],
            restarts=lambda: self._pool.restarts[name],
            recycled=lambda: self._pool.recycled[name],
        )

    def submit(self, request: ScoreRequest) -> Future[bytes]:
        """Queue a request; the result is the answer's body or a ``RequestError``, or it is cancelled by ``close``.

        Raises ``RequestError`` 503 at once if the queue is full. Called from one thread only, the event loop's.
        """
        if self._stopping:
            raise stopping()
        if len(self._pending) >= self._queue:
            raise RequestError(503, f"{len(self._pending)} requests are waiting for {self.name!r}", retry_after_s=1)
        held = [request]
        future = self._threads.submit(self._answer, held, time.monotonic())
        future.add_done_callback(lambda _: held.clear())  # cancelled, it stays queued, but not with its pictures
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    @property
    def queued(self) -> int:
        """Requests that wait or are being scored."""
        return len(self._pending)

    def close(self) -> None:
        """End what is being scored and reap the workers; can be called twice."""
        self._stopping = True
        self._pool.close()
        self._threads.shutdown(cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, held: list[ScoreRequest], began: float) -> bytes:
        request = held.pop()
        found = self._samples(request)
        samples = [sample for sample in found if isinstance(sample, Sample)]
        scored = iter(self._scored(samples) if samples else ())
        scores = [next(scored) if isinstance(entry, Sample) else entry for entry in found]
        self._metrics.pictures.labels(self.name).inc(len(scores))
        self._metrics.failures.labels(self.name).inc(sum(score.failed for score in scores))
        self._metrics.seconds.labels(self.name).observe(time.monotonic() - began)
        return answer_json(self.name, [sample.id for sample in request.samples], scores)

    def _scored(self, samples: Sequence[Sample]) -> list[Score]:
        try:
            scores = self._pool.score(samples)[self.name]
        except Exception as error:
            if self._stopping:  # a closed pool takes nothing any more
                raise stopping() from error
            raise
        if self._stopping:  # the pool was interrupted
            raise stopping()
        return scores

    def _samples(self, request: ScoreRequest) -> list[Sample | Score]:
        """Per sample the live one, or the failure that its picture is. Raises ``RequestError`` 413."""
        limit = self._limits.max_pixels
        opened = [_opened(sample.picture, limit) for sample in request.samples]
        shared = {name: _opened(picture, limit) for name, picture in request.pictures.items()}
        pixels = sum(entry.pixels for entry in (*opened, *shared.values()) if isinstance(entry, _Opened))
        if pixels > limit:
            raise RequestError(
                413,
                f"the pictures of the request have {pixels:,} pixels together, more than the {limit:,} that are "
                f"accepted; send fewer at a time",
            )
        decoded = {name: _decoded(entry, limit) for name, entry in shared.items()}
        return [
            _sample(asked, _decoded(entry, limit), decoded)
            for asked, entry in zip(request.samples, opened, strict=True)
        ]


def stopping() -> RequestError:
    """The answer to a request that a stopping server will not score."""
    return RequestError(503, "the server is stopping", retry_after_s=5)


@dataclass(frozen=True)
class _Opened:
    """A picture of which the header was read and nothing decoded yet."""

    content: bytes
    encoding: Encoding
    pixels: int


def _opened(picture: PictureIn, max_pixels: int) -> _Opened | PictureError:
    try:
        content = picture.content()
        return _Opened(content, picture.encoding, checked_pixel_count(content, picture.encoding, max_pixels))
    except PictureError as error:
        return error


def _decoded(entry: _Opened | PictureError, max_pixels: int) -> NDArray[np.uint8] | PictureError:
    if isinstance(entry, PictureError):
        return entry
    try:
        return decode(entry.content, entry.encoding, max_pixels)
    except PictureError as error:
        return error


def _sample(
    asked: SampleIn,
    picture: NDArray[np.uint8] | PictureError,
    shared: Mapping[str, NDArray[np.uint8] | PictureError],
) -> Sample | Score:
    """The live sample, or the failure that its picture is, or one that its prompt names."""
    if isinstance(picture, PictureError):
        return Score(None, failure=str(picture))
    found = {}
    images = ((f"picture {place}", name) for place, name in enumerate(asked.prompt.images, 1))
    named = ((repr(key[:80]), name) for key, name in asked.prompt.pictures.items())
    for which, name in (*named, *images):
        other = shared[name]
        if isinstance(other, PictureError):
            return Score(None, failure=f"prompt {asked.prompt.id[:80]!r}: its {which}: {other}")
        found[name] = other
    return to_sample(asked, picture, found)
