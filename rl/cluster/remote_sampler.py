"""The samplers of a cluster as one, for whoever asks between two steps: evaluations, the rehearsal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from policy.trainable import WeightStream
from rl.cluster.crew import Crew
from rl.cluster.jobs import Sampled, SampleJob
from rl.cluster.packed import bare
from rl.cluster.publisher import WeightPublisher
from rl.process.progress import Progress, untold
from rl.types import PictureFeatures, Prompt, Rollout, Span
from rollout.samplers.base import Encode


class RemoteSampler:
    """A :class:`rollout.samplers.contract.Sampler` that samples with the newest published weights. Hidden states stay
    where they are: whoever paints asks the trainer."""

    follows: frozenset[str] = frozenset()
    asked = "logprobs"
    versions: Mapping[str, int] = {}

    def __init__(self, crew: Crew, publisher: WeightPublisher, encode: Encode) -> None:
        self.progress: Progress = untold
        self._crew, self._publisher, self._encode = crew, publisher, encode

    @property
    def version(self) -> int:
        latest = self._publisher.latest
        return 0 if latest is None else self._publisher.trained[latest]

    def sample(
        self,
        prompts: Sequence[Prompt],
        group_size: int,
        seeds: Sequence[int],
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        span: Span | None = None,
        hidden: bool = False,
    ) -> Rollout:
        conditions = [self._encode(prompt) for prompt in prompts]
        asked = [bare(prompt) for prompt in prompts]
        job = SampleJob(asked, conditions, group_size, tuple(seeds), temperature, top_p, top_k, span)
        answer: Sampled = self._crew.ask(self._publisher.latest, job)
        return replace(answer.rollout.rollout(prompts), version=self.version)

    def logprobs(
        self,
        prompt_ids: Sequence[Sequence[int]],
        tokens_BT: NDArray[np.int64],
        *,
        temperature: float = 1.0,
        span: Span | None = None,
        features: Sequence[PictureFeatures | None] | None = None,
    ) -> NDArray[np.float32]:
        raise NotImplementedError("each sampler of a cluster is asked when it takes new weights")

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        raise NotImplementedError("weights reach the samplers of a cluster through the store")

    def answer(self, question: object) -> NDArray[np.float32]:
        raise NotImplementedError("each sampler of a cluster is asked when it takes new weights")

    def live_sums(self, part: str) -> None:
        """Each sampler has told its own when it took the weights."""

    def sleep(self, level: int) -> None:
        self._crew.sleep(level)

    def close(self) -> None:
        """They end with the cluster."""
