"""Reward plug-ins that behave and misbehave, imported by the worker processes of the pool's tests."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from rl.types import Sample, Score


def bright(samples: Sequence[Sample], *, scale: float = 1.0) -> list[float | None]:
    return [scale * float(sample.picture.mean()) / 255 for sample in samples]


def only_tag(samples: Sequence[Sample], *, tag: str) -> list[float | None]:
    return [1.0 if sample.prompt.metadata["tag"] == tag else None for sample in samples]


def pid(samples: Sequence[Sample]) -> list[float]:
    return [float(os.getpid())] * len(samples)


def meet(samples: Sequence[Sample], *, folder: str, workers: int) -> list[float]:
    """The process id, once so many workers are in a call."""
    (Path(folder) / str(os.getpid())).touch()
    deadline = time.monotonic() + 30
    while len(list(Path(folder).iterdir())) < workers and time.monotonic() < deadline:
        time.sleep(0.01)
    return pid(samples)


def sleep(samples: Sequence[Sample], *, seconds: float) -> list[float]:
    time.sleep(seconds)
    return [1.0] * len(samples)


def edit(samples: Sequence[Sample]) -> list[float]:
    samples[0].picture[0, 0, 0] = 1
    return [1.0] * len(samples)


class Scaled:
    def __init__(self, factor: float) -> None:
        if factor < 0:
            raise ValueError("factor must not be negative")
        self.factor = factor

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        return [Score(self.factor, details={"id": sample.id}) for sample in samples]


class Misbehave:
    """``how`` it goes wrong; with ``once``, only until that file exists."""

    def __init__(self, how: str, once: str | None = None, start_s: float = 0.0) -> None:
        time.sleep(start_s)
        self.how, self.once = how, once

    def __call__(self, samples: Sequence[Sample]) -> object:
        if self.once is not None:
            if Path(self.once).exists():
                return [1.0] * len(samples)
            Path(self.once).touch()
        return getattr(self, self.how)(samples)

    def throw(self, samples: Sequence[Sample]) -> object:
        raise ValueError("no such font")

    def hang(self, samples: Sequence[Sample]) -> object:
        time.sleep(3600)

    def crash(self, samples: Sequence[Sample]) -> object:
        print("about to fall over", flush=True)
        os._exit(3)

    def nan(self, samples: Sequence[Sample]) -> object:
        return [0.5, float("nan"), *[0.5] * (len(samples) - 2)]

    def short(self, samples: Sequence[Sample]) -> object:
        return [0.5] * (len(samples) - 1)

    def text(self, samples: Sequence[Sample]) -> object:
        return "good"


NUMBER = 7


class NotCallable:
    pass
