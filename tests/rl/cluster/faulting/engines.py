"""Workers that make a group in milliseconds, a function of weights and seeds alone, and meet the faults of a book.

All around the engines is a run's own: the actor, the weights that it pulls and proves, the messages.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from ray.exceptions import ObjectStoreFullError, OutOfDiskError

from policy.checksums import exact_sum
from policy.trainable import WeightStream
from rl.cluster.jobs import Painted, PaintJob, RoleName, Sampled, SampleJob, WorkerStart
from rl.cluster.packed import PackedRollout
from rl.cluster.weights.manifest import MANIFEST_FILE
from rl.cluster.weights.store import WeightStore
from rl.cluster.worker.actor import _Actor
from rl.cluster.worker.held import HeldWeights
from rl.types import Rollout
from rollout.proof import LiveSum, sums_of
from tests.rl.cluster.faulting.book import Fault, FaultBook, Struck

SHAPES = {"first": (8, 16), "second": (64,), "third": (4, 4)}
TOKENS, SIDE = 16, 160  # pictures that are large enough for Ray's object store
SLOW_S, HOARD_S = 2.5, 2.0
for_ever = threading.Event()
"""What a call that hangs waits for."""


def end_process() -> None:
    os._exit(1)


class LightEngine:
    """Three tensors. ``harm``: how it takes the next set, while saying that it took it."""

    follows = frozenset({"ar"})
    asked = "logprobs"
    versions: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.live = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
        self.harm = ""

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        for place, (name, value) in enumerate(weights.tensors()):
            if not {"skipped": place == 1, "partial": place > 0, "old": True}.get(self.harm, False):
                self.live[name].copy_(value)

    def live_sums(self, part: str) -> Sequence[LiveSum]:
        return sums_of(self.live.items())

    def answer(self, question: object) -> NDArray[np.float32]:
        raise AssertionError("these weights come without a canary")

    @property
    def fingerprint(self) -> int:
        """Of the weights, on which everything that is made depends."""
        return sum(exact_sum(value) for value in self.live.values())


class LightRole:
    """What samplers and painters share. Each has a machine of its own, as far as its weights are concerned."""

    stage: RoleName

    def __init__(self, start: WorkerStart) -> None:
        folder = Path(str(start.config.run.folder))
        self._book, self._doomed = FaultBook(folder / "faults" / "workers"), folder / "doomed"
        machine = folder / "machines" / f"{os.getpid()}-{threading.get_ident()}"
        machine.parent.mkdir(parents=True, exist_ok=True)
        assert start.ar.fetch is not None
        self._start, self._fetch, self._on_the_way = start, start.ar.fetch, ""
        self._store = WeightStore.open(start.ar.run, room=start.ar.room, candidates=[machine])
        self.engine = LightEngine()
        self.weights = HeldWeights(self._store, self.engine, start.tolerance, start.sets, self._fetched)

    def met(self, version: int | None, seeds: Sequence[int], group_size: int) -> Struck | None:
        """The weights of the job and its fault, if it has one; most end the call here."""
        struck = self._book.claim(self.stage, seeds[::group_size])
        fault = struck.fault if struck else None
        if struck and fault in (Fault.LIVE, Fault.ON_THE_WAY) and version is not None:
            self.weights.version = None
            self._store.drop(version)  # so that it is pulled and loaded again
            self._harm(struck)
        self.weights.hold(version)
        match fault:
            case Fault.EXIT:
                end_process()
            case Fault.KILLED:
                (self._doomed / str(os.getpid())).touch()
                for_ever.wait()
            case Fault.HANGS:
                for_ever.wait()
            case Fault.SLOW:
                time.sleep(SLOW_S)
            case Fault.RAISES:
                raise IndexError("as appointed")
        return struck

    def _harm(self, struck: Struck) -> None:
        choice = struck.address[1] % 3
        if struck.fault is Fault.LIVE:
            for value in self.engine.live.values():
                value.zero_()  # or what is skipped could be there already
            self.engine.harm = ("skipped", "partial", "old")[choice]
        else:
            self._on_the_way = ("flipped", "short", "missing")[choice]

    def _fetched(self, version: int, file: str, start: int, size: int) -> bytes:
        content = self._fetch(version, file, start, size)
        if file == MANIFEST_FILE or not self._on_the_way:
            return content
        harm, self._on_the_way = self._on_the_way, ""
        if harm == "flipped":
            return content[:9] + bytes([content[9] ^ 4]) + content[10:]
        if harm == "short":
            self._on_the_way = "missing"  # what follows
            return content[: len(content) // 2]
        return b""


class LightSampler(LightRole):
    stage = "sample"

    def work(self, version: int | None, job: SampleJob) -> Sampled:
        started = time.perf_counter()
        struck = self.met(version, job.seeds, job.group_size)
        other = struck is not None and struck.fault is Fault.OLD
        rolls = [np.random.default_rng([self.engine.fingerprint + other, seed]) for seed in job.seeds]
        rollout = Rollout(
            prompts=tuple(job.prompts),
            group_size=job.group_size,
            prompt_ids=tuple(condition.ids for condition in job.conditions),
            tokens_BT=np.stack([roll.integers(0, 1000, TOKENS) for roll in rolls]),
            logprobs_BT=np.stack([-roll.random(TOKENS, np.float32) for roll in rolls]),
            seeds=tuple(job.seeds),
            temperature=job.temperature,
            version=0,
        )
        used = self.weights.version
        told = used - 1 if other and used is not None else used
        return Sampled(told, None, time.perf_counter() - started, PackedRollout.of(rollout))


class LightPainter(LightRole):
    stage = "paint"
    _hoard: Sequence[Any] = ()

    def work(self, version: int | None, job: PaintJob) -> tuple[Painted, NDArray[np.uint8]]:
        started, rollout = time.perf_counter(), job.rollout.rollout()
        self._hoard = ()
        struck = self.met(version, rollout.seeds, rollout.group_size)
        fault = struck.fault if struck else None
        found = Painted(
            self.weights.version, 0.0, rollout.seeds, (0.0,) * len(rollout.prompts), ((0, 0),) * len(rollout.prompts)
        )
        pictures = np.stack([self._picture(tokens, job.step) for tokens in rollout.tokens_BT])
        if fault is Fault.EXIT_AFTER:
            threading.Timer(0.01, end_process).start()
        elif fault is Fault.STORE_FULL:
            self._fill_the_store()
        elif fault is Fault.OLD and found.version is not None:
            found = replace(found, version=found.version - 1)
        return replace(found, seconds=time.perf_counter() - started), pictures

    def _picture(self, tokens: NDArray[np.int64], step: int) -> NDArray[np.uint8]:
        roll = np.random.default_rng([self.engine.fingerprint, step, zlib.crc32(tokens.tobytes())])
        return roll.integers(0, 256, (SIDE, SIDE, 3), np.uint8)

    def _fill_the_store(self) -> None:
        """Until not even one picture fits; it is given back at the next call, or soon."""
        hoard = []
        for size in (8 << 20, 1 << 20, 1 << 17):
            with suppress(ObjectStoreFullError, OutOfDiskError):
                while True:
                    hoard.append(ray.put(np.zeros(size, np.uint8)))
        self._hoard = hoard
        threading.Timer(HOARD_S, self._give_back).start()

    def _give_back(self) -> None:
        self._hoard = ()


class LightActor(_Actor):
    """A run's actor with such an engine inside."""

    def load(self, role: RoleName, start: WorkerStart) -> str | None:
        self._role: Any = LightSampler(start) if role == "sample" else LightPainter(start)
        return None
