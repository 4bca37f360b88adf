"""A sampling engine in a process of its own, for a host that has a process group of several ranks.

vLLM makes the process group of its process, and would take the trainer's for its own. What goes to and fro is small but
for weights, which lie in shared memory. The process ends with its host, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.layout import TokenLayout
from policy.prompt import Condition
from policy.trainable import WeightStream
from rl.process.disk import words
from rl.process.interrupt import SIGNALS
from rl.process.progress import Progress
from rl.registry import resolve
from rl.types import Prompt, Span, UserError
from rollout.proof import LiveSum
from rollout.samplers.base import CheckedSampler, Encode, Sampled
from rollout.samplers.checks import Sampling
from rollout.samplers.contract import EngineError
from rollout.weights import SyncError

_SHARED = Path("/dev/shm")
_FAILURES = (UserError, OSError, RuntimeError, ImportError, ValueError, TypeError, LookupError, AssertionError)
_LOOK_S, _TELL_S, _PATIENCE_S = 1.0, 0.5, 20.0


@dataclass(frozen=True)
class _Start:
    engine: str
    folder: str
    layout: TokenLayout
    options: dict[str, Any]


@dataclass(frozen=True)
class _Drawn:
    """How many tokens of this sampling there are, told between question and answer."""

    tokens: int


@dataclass(frozen=True)
class _Slot:
    """Where a tensor lies in the shared file."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int
    stop: int


@dataclass(frozen=True)
class _Sent:
    """Weights in a file: the whole model's, of ``shapes``, or only those that have changed."""

    file: Path
    slots: Sequence[_Slot]
    shapes: Sequence[tuple[str, tuple[int, ...]]]
    only_changed: bool

    def stream(self) -> WeightStream:
        sent = WeightStream([(slot.name, slot.shape) for slot in self.slots], lambda: _read(self.file, self.slots))
        return WeightStream(self.shapes, sent.tensors, sent if self.only_changed else None)


class SamplerProcess(CheckedSampler):
    """The engine of that name, elsewhere: what is asked is checked here, what is answered comes from there."""

    def __init__(
        self,
        engine: str,
        folder: str | Path,
        layout: TokenLayout,
        *,
        encode: Encode,
        max_prompt_tokens: int = 256,
        **options: Any,
    ) -> None:
        """``options``: the engine's. Raises: UserError where it cannot run."""
        super().__init__(folder, layout, encode, max_prompt_tokens)
        self._engine, self._failure = engine, ""
        context = multiprocessing.get_context("spawn")
        self._there, there = context.Pipe()
        start = _Start(engine, str(folder), layout, {"max_prompt_tokens": max_prompt_tokens, **options})
        self._process = context.Process(target=_serve, args=(there, self._there, start), name=f"sampler {engine}")
        self._process.start()
        there.close()
        self._receive()

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        """All of them the first time, and again after a sleep that dropped them; else those that have changed."""
        changing = weights.changing if self._has_all() else None
        with tempfile.NamedTemporaryFile(dir=_SHARED if _SHARED.is_dir() else None, prefix="easel-weights-") as file:
            try:
                slots = list(_written(changing or weights, file))
            except OSError as error:
                raise UserError(
                    f"rollout.engine: the weights for {self._engine}'s own process do not fit into {file.name} "
                    f"({words(error)[0]}): give shared memory more room (docker run --shm-size), or use engine: torch."
                ) from error
            self._ask(
                "load_weights", part, _Sent(Path(file.name), slots, weights.shapes, changing is not None), version
            )
        self.versions[part] = version

    def live_sums(self, part: str) -> Sequence[LiveSum] | None:
        found: Sequence[LiveSum] | None = self._ask("live_sums", part)
        return found

    def close(self) -> None:
        with suppress(OSError):
            self._there.close()  # which is how it hears of it
        self._process.join(_PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
        self._failure = self._failure or "it was closed"

    def _sample(
        self,
        rows: Sequence[Condition],
        group_size: int,
        seeds: Sequence[int],
        how: Sampling,
        span: Span,
        hidden: bool,
    ) -> Sampled:
        found: Sampled = self._ask("_sample", rows, group_size, seeds, how, span, hidden)
        return found

    def _logprobs(
        self, rows: Sequence[Condition], tokens_BT: NDArray[np.int64], temperature: float, span: Span
    ) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._ask("_logprobs", rows, tokens_BT, temperature, span)
        return found

    def sleep(self, level: int) -> None:
        self._ask("sleep", level)

    def _check_span(self, span: Span) -> None:
        self._ask("_check_span", span)

    def _has_all(self) -> bool:
        return bool(self._ask("_has_all"))

    def _ask(self, method: str, *arguments: object) -> Any:
        if self._failure:
            raise EngineError(f"the sampling engine {self._engine} cannot be used any more: {self._failure}.")
        try:
            self._there.send((method, arguments))
        except OSError as error:
            raise self._gone() from error
        return self._receive()

    def _receive(self) -> Any:
        while True:
            while not self._there.poll(_LOOK_S):
                if not self._process.is_alive():
                    raise self._gone()
            try:
                answer, error = self._there.recv()
            except (EOFError, OSError) as closed:
                raise self._gone() from closed
            if error is not None:
                raise error
            if not isinstance(answer, _Drawn):
                return answer
            self._count(answer.tokens - self._drawn)

    def _gone(self) -> EngineError:
        self._process.join(_PATIENCE_S)
        code = self._process.exitcode
        how = f"killed by signal {-code}" if code and code < 0 else f"ended with exit code {code}"
        self._failure = f"its process was {how}" if code and code < 0 else f"its process {how}"
        return EngineError(f"the sampling engine {self._engine} is gone: {self._failure}; resume the run.")


def _serve(connection: Connection, of_host: Connection, start: _Start) -> None:
    """The life of the process."""
    of_host.close()  # or its end would not be noticed
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C is for the host, which ends this one when it has ended its step
    sampler, error = None, None
    try:
        sampler = resolve("samplers", start.engine)(start.folder, start.layout, encode=_nobody, **start.options)
    except _FAILURES as failed:
        error = _sendable(failed)
    if sampler is not None:
        sampler.progress = _telling(connection, sampler)
    connection.send((None, error))
    while sampler is not None:
        try:
            method, arguments = connection.recv()
        except (EOFError, OSError):
            break
        connection.send(_answered(sampler, method, arguments))
    os._exit(0)  # no goodbyes: engines may wait for their own


def _telling(connection: Connection, sampler: Any) -> Progress:
    """A sampler's progress, to the host, not oftener than anybody looks. What all wants to be only the host knows."""
    told = time.monotonic()

    def tell(done: int, total: int, unit: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _TELL_S:
            told = time.monotonic()
            connection.send((_Drawn(sampler._drawn), None))

    return tell


def _answered(sampler: Any, method: str, arguments: Sequence[Any]) -> tuple[object, Exception | None]:
    sampler._drawn = 0
    try:
        if method == "load_weights":
            part, sent, version = arguments
            return sampler.load_weights(part, sent.stream(), version), None
        return getattr(sampler, method)(*arguments), None
    except _FAILURES as error:
        return None, _sendable(error)


def _sendable(error: Exception) -> Exception:
    """The same kind with its sentence, if it is ours; an engine's own errors may hold anything."""
    if type(error) in (UserError, EngineError, SyncError):
        return type(error)(str(error))
    return EngineError(f"the sampling engine failed in its own process: {type(error).__name__}: {error}")


def _nobody(prompt: Prompt) -> Condition:
    raise NotImplementedError("prompts are encoded by the host")


def _written(weights: WeightStream, file: Any) -> Iterator[_Slot]:
    start = 0
    for name, tensor in weights.tensors():
        flat = tensor.detach().cpu().contiguous().view(-1)
        file.write(flat.view(torch.uint8).numpy().data)
        yield _Slot(name, tuple(tensor.shape), tensor.dtype, start, start + flat.nbytes)
        start += flat.nbytes
    file.flush()


def _read(file: Path, slots: Sequence[_Slot]) -> Iterator[tuple[str, Tensor]]:
    """Views of the shared file: who keeps one copies it."""
    whole = torch.from_file(str(file), shared=True, size=slots[-1].stop, dtype=torch.uint8)
    for slot in slots:
        part = whole[slot.start : slot.stop]
        aligned = part if slot.start % slot.dtype.itemsize == 0 else part.clone()
        yield slot.name, aligned.view(slot.dtype).view(slot.shape)
