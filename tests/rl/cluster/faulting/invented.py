"""Threads in place of Ray's processes, for faults in seconds: what a crew and a collector ask Ray for, and no more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from ray.exceptions import ActorDiedError, GetTimeoutError, ObjectLostError, RayTaskError

from tests.rl.cluster.faulting.engines import LightActor

LOST = "lost"


class Gone(BaseException):
    """A process that has ended."""


class Promise:
    def __init__(self, future: Future[Any], place: int | None) -> None:
        self._future, self._place = future, place

    def future(self) -> Future[Any]:
        return self._future if self._place is None else self._part(self._place)

    def _part(self, place: int) -> Future[Any]:
        part: Future[Any] = Future()

        def done(whole: Future[Any]) -> None:
            error = whole.exception()
            if error is not None:
                part.set_exception(error)
            else:
                part.set_result(whole.result()[place])

        self._future.add_done_callback(done)
        return part


class InventedActor:
    """Does one call after the other, in a thread of its own, until one of them ends it or it is killed."""

    def __init__(self, needs: object) -> None:
        self._actor, self._dead = LightActor(), threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._waiting: set[Future[Any]] = set()
        self.load, self.work, self.hold = (_Method(self, name) for name in ("load", "work", "hold"))

    def call(self, name: str, arguments: tuple[Any, ...], returns: int) -> Any:
        answer: Future[Any] = Future()
        self._waiting.add(answer)
        if self._dead.is_set():
            self.kill()
        else:
            self._thread.submit(self._do, getattr(self._actor, name), arguments, answer)
        return Promise(answer, None) if returns == 1 else [Promise(answer, place) for place in range(returns)]

    def kill(self) -> None:
        self._dead.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        for answer in list(self._waiting):
            self._answered(answer, partial(answer.set_exception, ActorDiedError()))

    def _do(self, method: Callable[..., Any], arguments: tuple[Any, ...], answer: Future[Any]) -> None:
        try:
            found = method(*arguments)
        except Gone:
            self.kill()
        except Exception as error:  # noqa: BLE001 - as Ray hands it on
            wrapped = RayTaskError("work", "", error)
            self._answered(answer, partial(answer.set_exception, wrapped))
        else:
            self._answered(answer, partial(answer.set_result, found))

    def _answered(self, answer: Future[Any], settle: Callable[[], None]) -> None:
        if answer in self._waiting:
            self._waiting.discard(answer)
            settle()


class _Method:
    def __init__(self, actor: InventedActor, name: str, returns: int = 1) -> None:
        self._actor, self._name, self._returns = actor, name, returns

    def options(self, *, num_returns: int) -> _Method:
        return _Method(self._actor, self._name, num_returns)

    def remote(self, *arguments: Any) -> Any:
        return self._actor.call(self._name, arguments, self._returns)


class InventedRay:
    @staticmethod
    def get(promise: Any, timeout: float) -> Any:
        if promise == LOST:
            raise ObjectLostError("0" * 56, None, "")
        try:
            return promise.future().result(timeout)
        except TimeoutError as error:
            raise GetTimeoutError from error

    @staticmethod
    def kill(actor: InventedActor) -> None:
        actor.kill()
