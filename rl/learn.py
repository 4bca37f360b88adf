"""The second half of a step: scores -> advantages -> batches -> updates -> new weights into whoever follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from policy.trainable import Adapter, WeightStream
from rl.algorithm.advantages import with_signal
from rl.rows import by_group, per_sample, read_back, sequences
from rl.tracking.contract import KEPT, SAMPLED
from rl.tracking.stopwatch import Stopwatch
from rl.trainer.trainer import Trainer
from rl.types import Experience, Forward, Rollout, Rows, Sequences, TokenBatch
from rollout.sync import Canary, WeightSync

RowsT = TypeVar("RowsT", bound=Rows)
TokenTrainer = Trainer[Sequences, TokenBatch, Forward]


class TrainedPart(Protocol):
    """One network of the policy and how it learns from experience."""

    @property
    def version(self) -> int:
        """How many updates its weights have seen."""

    def learn(self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch) -> dict[str, float]:
        """``advantages_PG``: of token sequences."""

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
        """The way up to the gradient, for as many ``rows``, the samples in turn; nothing of it remains."""

    def weights(self) -> WeightStream: ...

    def adapter(self) -> Adapter | None:
        """What is trained beside the weights, if it is not they."""

    def canaries(self, rollout: Rollout) -> Mapping[str, Canary]:
        """Questions to the followers of its weights, by kind, answered with the weights of now."""

    def slow_down(self, factor: float) -> None:
        """Its learning rate is multiplied by that from now on, after a resume too."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


@dataclass
class Learner:
    """Learns from one :class:`Experience` after another; joint training is two entries in ``parts``."""

    parts: Mapping[str, TrainedPart]
    """``{"ar": ...}``, in the order in which they learn."""
    advantage: Callable[[Tensor, Tensor], Tensor]
    sync: WeightSync
    learns: Callable[[int, str], bool] = lambda step, part: True
    """Whether a part learns in a step; the others keep their weights and versions."""
    skips: bool = False
    """Groups whose rewards are all equal take no part in what the language model learns from."""

    def learn(self, experience: Experience, timer: Stopwatch) -> dict[str, float]:
        """Every part that has its turn learns, then its new weights go out. The metrics of ``ar`` stand without a
        prefix; of several parts ``learns/<part>`` says whether it was its turn."""
        rollout, told = experience.rollout, dict[str, float]()
        if self.skips and self.learns(experience.step, "ar"):
            experience, told = without_flat_groups(experience)
        scores = experience.scores
        advantages_PG = self.advantage(by_group(scores.total_B, rollout), by_group(scores.valid_B, rollout))
        turn = {name: part for name, part in self.parts.items() if self.learns(experience.step, name)}
        metrics = {f"learns/{name}": float(name in turn) for name in self.parts} if len(self.parts) > 1 else {}
        metrics |= told
        for name, part in turn.items():
            with timer("sync"):
                before = part.canaries(rollout) if self.sync.wants_before(name) else None
            found = part.learn(experience, advantages_PG, timer)
            with timer("sync"):
                found |= self.publish(name, rollout, before)
            metrics |= found if name == "ar" else {f"{name}/{key}": value for key, value in found.items()}
        return metrics

    def slow_down(self, factor: float) -> None:
        """Multiplies the learning rate of every part."""
        for part in self.parts.values():
            part.slow_down(factor)

    def publish(self, name: str, rollout: Rollout, before: Mapping[str, Canary] | None = None) -> dict[str, float]:
        """New weights of a part into its followers, checked on the first sequences of this rollout."""
        part = self.parts[name]
        version = {"policy_version": float(part.version)}
        if not self.sync.following(name):
            return version  # it works with the trained weights themselves
        difference = self.sync.push(name, part.weights(), part.version, part.canaries(rollout), before)
        return {"sync_mismatch": difference, **version}


@dataclass
class TrainedLanguageModel:
    """The language model, trained on its tokens with the advantages of their pictures."""

    trainer: TokenTrainer
    updates: int = 1
    """Optimizer steps per rollout; the samples are split among them."""
    asked: int = 4
    """Sequences of a canary."""
    asked_tokens: int = 64
    """Tokens of each, from the first on."""
    skips: bool = False
    """What is not valid is left out of a batch, not only out of its loss."""

    @property
    def version(self) -> int:
        return self.trainer.version

    def learn(self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch) -> dict[str, float]:
        with timer("forward"):
            batch = self.batch(experience, advantages_PG)
            if self.skips:
                batch = batch.take(batch.valid_B.nonzero()[:, 0].tolist() or [0])  # one that weighs nothing, if none
        with timer("update"):
            return mean_metrics([self.trainer.update(part) for part in minibatches(batch, self.updates)])

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
        batch = self.batch(experience, advantages_PG)
        self.trainer.rehearse(batch.take([row % len(batch) for row in range(rows)]))

    def batch(self, experience: Experience, advantages_PG: Tensor) -> TokenBatch:
        """Everything that the updates look at; what the reference policy has not been asked yet, an update asks."""
        rollout, rows = experience.rollout, sequences(experience.rollout)
        batch = TokenBatch(
            prompt_ids=rows.prompt_ids,
            tokens_BT=rows.tokens_BT,
            temperature=rows.temperature,
            span=rows.span,
            rollout_logprobs_BT=torch.from_numpy(rollout.logprobs_BT),
            old_logprobs_BT=self._old_logprobs(experience),
            advantages_B=per_sample(advantages_PG, rollout),
            valid_B=torch.from_numpy(experience.scores.valid_B),
            mask_BT=None if rollout.mask_BT is None else torch.from_numpy(rollout.mask_BT),
        )
        return self.trainer.objective.refer(batch, experience.reference) if experience.reference else batch

    def _old_logprobs(self, experience: Experience) -> Tensor | None:
        """What the policy thought before; ``None`` where the one update will say so itself."""
        if experience.forward is not None:
            return experience.forward.logprobs_BT
        if self.updates == 1 and experience.version == self.version:
            return None
        return read_back(self.trainer.forward, experience.rollout).logprobs_BT

    def weights(self) -> WeightStream:
        return self.trainer.weights()

    def adapter(self) -> Adapter | None:
        return self.trainer.adapter()

    def canaries(self, rollout: Rollout) -> Mapping[str, Canary]:
        rows = sequences(rollout).take(range(min(self.asked, rollout.batch_size)))
        if rollout.span is not None:
            span = rollout.span.up_to(self.asked_tokens)
            rows = replace(rows, tokens_BT=rows.tokens_BT[:, : span.most], span=span)
        return {"logprobs": Canary(rows, self.trainer.forward(rows).logprobs_BT.cpu().float().numpy())}

    def slow_down(self, factor: float) -> None:
        self.trainer.slow_down(factor)

    def save(self, folder: Path) -> None:
        self.trainer.save(folder)

    def load(self, folder: Path) -> None:
        self.trainer.load(folder)


def without_flat_groups(experience: Experience) -> tuple[Experience, dict[str, float]]:
    """The same with no sample of a group without signal valid, and how many groups were sampled and are learnt from."""
    scores, rollout = experience.scores, experience.rollout
    valid_PG = by_group(scores.valid_B, rollout)
    signal_P = with_signal(by_group(scores.total_B, rollout), valid_PG)
    kept_B = per_sample(valid_PG & signal_P.unsqueeze(-1), rollout).numpy()
    told = {SAMPLED: float(len(signal_P)), KEPT: float(signal_P.sum())}
    return replace(experience, scores=replace(scores, valid_B=kept_B)), told | {
        name: value for name, value in experience.metrics.items() if name == SAMPLED
    }


def minibatches(batch: RowsT, count: int) -> list[RowsT]:
    """``count`` batches that together hold every row once, in order; fewer if there are fewer rows."""
    return [batch.take(rows.tolist()) for rows in torch.arange(len(batch)).chunk(count)]


def mean_metrics(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics of several updates as one: the mean of each, over those that have it."""
    found = {name: [one[name] for one in updates if name in one] for update in updates for name in update}
    return {name: sum(values) / len(values) for name, values in found.items()}
