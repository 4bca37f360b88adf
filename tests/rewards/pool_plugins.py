"""Rewards that declare needs, count their calls or fail in many ways, imported by the workers of the pool's tests."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from rewards.needs import Needs
from rl.types import Sample, Score


def level(sample: Sample) -> float:
    return float(sample.picture[0, 0, 0]) / 255


class Declared:
    """Answers with what its process was given."""

    needs = Needs(workers=2, batch_size=3, cpus=2)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
        given = {name: os.environ.get(name) for name in names}
        return [Score(1.0, details={**given, "batch": len(samples), "pid": os.getpid()}) for _ in samples]


def declares(samples: Sequence[Sample]) -> list[float]:
    return [float(len(samples))] * len(samples)


declares.needs = {"gpus": 0.5, "batch_size": 2}  # type: ignore[attr-defined]


def computed(samples: Sequence[Sample]) -> list[float]:
    return [1.0] * len(samples)


computed.needs = {"cpus": int("2")}  # type: ignore[attr-defined]


def misspelt(samples: Sequence[Sample]) -> list[float]:
    return [1.0] * len(samples)


misspelt.needs = {"batchsize": 2}  # type: ignore[attr-defined]


def impossible(samples: Sequence[Sample]) -> list[float]:
    return [1.0] * len(samples)


impossible.needs = {"gpus": 1.5}  # type: ignore[attr-defined]


class Threaded:
    """Scores one sample at a time, each with the name of its thread; three calls wait for each other."""

    needs: ClassVar = {"thread_safe": True, "cpus": 3}

    def __init__(self) -> None:
        self.barrier = threading.Barrier(3, timeout=20)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        self.barrier.wait()
        if any(sample.prompt.metadata.get("bad") for sample in samples):
            raise ValueError("one part only")
        return [Score(level(s), details={"calls": len(samples), "omp": os.environ["OMP_NUM_THREADS"]}) for s in samples]


class WholeGroups:
    needs = Needs(whole_groups=True, batch_size=2)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        assert len({sample.group for sample in samples}) == 1
        return [Score(float(len(samples))) for _ in samples]


class NeedsCuda:
    def __init__(self) -> None:
        raise RuntimeError("Found no NVIDIA driver on your system")

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return []


def calls(samples: Sequence[Sample], *, log: str, seconds: float = 0.0) -> list[float]:
    """The pictures' levels; every call is a line of the file ``log``."""
    with Path(log).open("a") as file:
        file.write(json.dumps([os.getpid(), [sample.id for sample in samples]]) + "\n")
    time.sleep(seconds)
    return [level(sample) for sample in samples]


def first_is_slow(samples: Sequence[Sample], *, seconds: float) -> list[Score]:
    if any(sample.prompt.metadata.get("slow") for sample in samples):
        time.sleep(seconds)
    return [Score(level(sample), details={"pid": os.getpid()}) for sample in samples]


def keeps(samples: Sequence[Sample], *, kept: list[np.ndarray] = []) -> list[float]:  # noqa: B006 - meant to stay
    """Holds on to every picture and answers with the levels of the first ones it ever saw."""
    kept.extend(sample.picture for sample in samples)
    return [float(picture[0, 0, 0]) for picture in kept[: len(samples)]]


class Leaks:
    def __init__(self, mb: int) -> None:
        self.mb, self.kept = mb, list[np.ndarray]()

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        self.kept.append(np.ones(self.mb * 2**20, np.uint8))
        return [Score(level(sample), details={"pid": os.getpid(), "calls": len(self.kept)}) for sample in samples]


class Large:
    """Answers with its process; half of its memory is only there from the first call on, as with lazy models."""

    def __init__(self, mb: int) -> None:
        self.kept = [np.ones(mb * 2**19, np.uint8)]

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        if len(self.kept) == 1:
            self.kept.append(self.kept[0].copy())
        return [float(os.getpid())] * len(samples)


class SlowRestart:
    """Loads at once the first time, then takes ``seconds``; its first batch kills it."""

    def __init__(self, marker: str, seconds: float) -> None:
        self.again = Path(marker).exists()
        if self.again:
            time.sleep(seconds)
        Path(marker).touch()

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        if not self.again:
            os._exit(1)
        return [level(sample) for sample in samples]


class Versioned:
    version = 1

    def __call__(self, samples: Sequence[Sample]) -> list[float | None]:
        return [None] * len(samples)


class Faulty:
    """Does what the first sample of a batch asks for in ``metadata["faults"]``, one entry per attempt, then behaves.

    Attempts are counted in files of the folder ``counts``, so that they survive the worker.
    """

    def __init__(self, counts: str) -> None:
        self.counts = Path(counts)
        self.leaked: list[np.ndarray] = []

    def __call__(self, samples: Sequence[Sample]) -> object:
        first = samples[0]
        faults = first.prompt.metadata["faults"]
        with (self.counts / first.id).open("a") as file:
            file.write(".")
            file.flush()
            attempt = file.tell() - 1
        good = [level(sample) for sample in samples]
        return good if attempt >= len(faults) else getattr(self, faults[attempt])(good)

    def crash(self, good: list[float]) -> object:
        os.kill(os.getpid(), signal.SIGSEGV)
        return good

    def killed(self, good: list[float]) -> object:
        os.kill(os.getpid(), signal.SIGKILL)
        return good

    def leave(self, good: list[float]) -> object:
        os._exit(5)

    def hang(self, good: list[float]) -> object:
        time.sleep(3600)
        return good

    def throw(self, good: list[float]) -> object:
        raise RuntimeError("thrown on purpose")

    def nan(self, good: list[float]) -> object:
        return [*good[:-1], float("nan")]

    def short(self, good: list[float]) -> object:
        return good[:-1]

    def nothing(self, good: list[float]) -> object:
        return None

    def slow(self, good: list[float]) -> object:
        time.sleep(0.05)
        return good

    def leak(self, good: list[float]) -> object:
        self.leaked.append(np.ones(40 * 2**20, np.uint8))
        return good


def threads(samples: Sequence[Sample]) -> list[float]:
    """How many its libraries were given."""
    return [float(os.environ["OPENBLAS_NUM_THREADS"])] * len(samples)


def bulky(samples: Sequence[Sample]) -> list[float]:
    """Needs ``mb`` for a moment; answers with the pages that the system had to give for it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (int(samples[0].prompt.metadata["mb"]) * 2**20)  # numpy would ask for huge pages, which are few
    return [float(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)] * len(samples)


def sources(samples: Sequence[Sample]) -> list[Score]:
    """What the pictures of the prompts are in the worker."""
    return [
        Score(
            level(sample),
            details={
                "sources": [type(one.source).__name__ for one in sample.prompt.pictures],
                "writeable": [one.pixels.flags.writeable for one in sample.prompt.pictures],
            },
        )
        for sample in samples
    ]


class StartsAProgram:
    """Scores with the number of a program that it has started and that would outlive it."""

    def __init__(self) -> None:
        self.program = subprocess.Popen(["sleep", "300"])

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [float(self.program.pid)] * len(samples)
