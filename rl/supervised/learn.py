"""The second half of a supervised step: one update of all that learns; what paints and samples has the new weights when
it is asked next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from policy.supervised.autoencoder import AutoencoderNetwork, Reconstruction, ReconstructionQuery
from policy.supervised.network import PictureAnswer, SupervisedNetwork
from policy.trainable import Adapter, WeightStream
from rl.data.examples.contract import ExampleStream
from rl.learn import canary_rows, publish
from rl.supervised.batch import PictureBatch
from rl.supervised.collect import Lesson
from rl.supervised.reconstruct import ReconstructionBatch
from rl.tracking.stopwatch import Stopwatch
from rl.trainer.trainer import Trainer
from rl.types import Rollout, Sequences
from rollout.sync import Canary, WeightChannel

PictureTrainer = Trainer[Sequences, PictureBatch, PictureAnswer]
AutoencoderTrainer = Trainer[ReconstructionQuery, ReconstructionBatch, Reconstruction]
_STREAM = "examples.json"


@dataclass
class TaughtPart:
    """A :class:`rl.learn.Part`: what of the policy learns, behind one optimiser. Its checkpoint says where the examples
    go on."""

    trainer: PictureTrainer | AutoencoderTrainer
    network: SupervisedNetwork | AutoencoderNetwork
    stream: ExampleStream
    copy: str | None = None
    """The slow copy that is shown, in place of the weights of now."""
    asked: int = 4
    """Sequences of a canary."""
    asked_tokens: int = 64
    """Tokens of each, from the first on."""

    @property
    def version(self) -> int:
        return self.trainer.version

    def weights(self) -> WeightStream:
        return self._shown(self.trainer.weights())

    def streams(self) -> dict[str, WeightStream]:
        return {name: self._shown(stream) for name, stream in self.trainer.parts().items()}

    def _shown(self, stream: WeightStream) -> WeightStream:
        """Of the slow copy, if there is one: the live weights are back when the last has been taken."""

        def tensors() -> Iterator[tuple[str, Tensor]]:
            with self.lent():
                yield from stream.tensors()

        changing = None if stream.changing is None else self._shown(stream.changing)
        return replace(stream, tensors=tensors, changing=changing) if self.copy else stream

    def lent(self) -> AbstractContextManager[object]:
        """The networks compute with what is shown inside."""
        return self.trainer.lent(self.copy) if self.copy else nullcontext()

    def adapters(self) -> Mapping[str, Adapter]:
        return {
            name: replace(adapter, weights=self._shown(adapter.weights))
            for name, adapter in self.trainer.adapters().items()
        }

    def canaries(self, rollout: Rollout) -> Mapping[str, Canary]:
        """None of an autoencoder: what paints is the trained network itself."""
        if isinstance(self.network, AutoencoderNetwork):
            return {}
        rows = canary_rows(rollout, self.asked, self.asked_tokens)
        answered = cast(PictureTrainer, self.trainer).forward(rows, copy=self.copy).forward
        return {"logprobs": Canary(rows, answered.logprobs_BT.cpu().float().numpy())}

    def update(self, batch: PictureBatch | ReconstructionBatch) -> dict[str, float]:
        return cast("Trainer[Any, Any, Any]", self.trainer).update(batch)

    def rehearse(self, batch: PictureBatch | ReconstructionBatch) -> None:
        cast("Trainer[Any, Any, Any]", self.trainer).rehearse(batch)

    def slow_down(self, factor: float) -> None:
        self.trainer.slow_down(factor)

    def save(self, folder: Path) -> None:
        self.trainer.save(folder)
        (folder / _STREAM).write_text(json.dumps(self.stream.state()))

    def load(self, folder: Path) -> None:
        self.trainer.load(folder)
        self.stream.restore(json.loads((folder / _STREAM).read_text()))


@dataclass
class SupervisedLearner:
    """A :class:`rl.learn.Learns` from one :class:`Lesson` after another."""

    taught: TaughtPart
    sync: WeightChannel
    asked_next: Callable[[int], bool]
    """Whether anything is sampled after so many steps: only then have new weights to go out."""
    question: Callable[[], Rollout]
    """Something to compare the sampler with."""

    @property
    def parts(self) -> Mapping[str, TaughtPart]:
        return {self.taught.network.name: self.taught}

    def learn(self, collected: Lesson, timer: Stopwatch, /) -> dict[str, float]:
        with timer("update"):
            metrics = self.taught.update(collected.batch)
        if self.asked_next(collected.step + 1):
            with timer("sync"):
                metrics |= self.publish(self.taught.network.name, self.question())
        return metrics

    def publish(self, name: str, rollout: Rollout, before: Mapping[str, Canary] | None = None) -> dict[str, float]:
        return publish(self.sync, name, self.taught, rollout, before)

    def slow_down(self, factor: float) -> None:
        self.taught.slow_down(factor)

    def trained(self) -> Mapping[str, WeightStream]:
        return self.taught.streams()
