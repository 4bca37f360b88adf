"""The second half of a step: scores -> advantages -> batches -> updates -> new weights into whoever follows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from policy.trainable import Adapter, WeightStream
from rl.algorithm.advantages import with_signal
from rl.config.sections.modalities import ModalityWeights
from rl.data.tasks import task_of
from rl.rows import by_group, group_prompts, per_sample, sequences
from rl.tracking.contract import AGE, ANSWER, KEPT, NUMERICS, SAMPLED
from rl.tracking.stopwatch import Stopwatch
from rl.trainer.trainer import Trainer
from rl.types import Experience, Forward, Rollout, Rows, Sequences, TokenBatch
from rollout.sync import Canary, WeightChannel

RowsT = TypeVar("RowsT", bound=Rows)
CollectedT = TypeVar("CollectedT", contravariant=True)
TokenTrainer = Trainer[Sequences, TokenBatch, Forward]


class Part(Protocol):
    """One network of the policy that learns, from whatever."""

    @property
    def version(self) -> int:
        """How many updates its weights have seen."""

    def weights(self) -> WeightStream: ...

    def adapters(self) -> Mapping[str, Adapter]:
        """What is trained beside the weights, if it is not they: by the part of the policy that it is of."""

    def canaries(self, rollout: Rollout) -> Mapping[str, Canary]:
        """Questions to the followers of its weights, by kind, answered with the weights of now."""

    def slow_down(self, factor: float) -> None:
        """Its learning rate is multiplied by that from now on, after a resume too."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class TrainedPart(Part, Protocol):
    """One that learns from experience."""

    def learn(
        self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch, *, of_answers: Tensor | None = None
    ) -> dict[str, float]:
        """``advantages_PG``: of token sequences; ``of_answers``: of those of ``experience.answers``, if there are."""

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
        """The way up to the gradient, for as many ``rows``, the samples in turn; nothing of it remains."""


class Learns(Protocol[CollectedT]):
    """The second half of a step."""

    @property
    def parts(self) -> Mapping[str, Part]: ...

    @property
    def sync(self) -> WeightChannel: ...

    def learn(self, collected: CollectedT, timer: Stopwatch, /) -> dict[str, float]:
        """One step's worth. Returns what is logged of it."""

    def publish(self, name: str, rollout: Rollout, before: Mapping[str, Canary] | None = None) -> dict[str, float]: ...

    def slow_down(self, factor: float) -> None:
        """Multiplies the learning rate of every part."""

    def trained(self) -> Mapping[str, WeightStream]:
        """``ar``, ``decoder``: the weights of what has learnt, as a policy folder keeps them."""


@dataclass
class Learner:
    """Learns from one :class:`Experience` after another; joint training is two entries in ``parts``."""

    parts: Mapping[str, TrainedPart]
    """``{"ar": ...}``, in the order in which they learn."""
    advantage: Callable[[Tensor, Tensor], Tensor]
    sync: WeightChannel
    learns: Callable[[int, str], bool] = lambda step, part: True
    """Whether a part learns in a step; the others keep their weights and versions."""
    skips: bool = False
    """Groups whose rewards are all equal take no part in what the language model learns from."""
    lends: Mapping[str, Callable[[], AbstractContextManager[object]]] = field(default_factory=dict)
    """Around the publication of a part, where its followers work with other weights than those of now."""

    def learn(self, experience: Experience, timer: Stopwatch) -> dict[str, float]:
        """Every part that has its turn learns, then its new weights go out. The metrics of ``ar`` stand without a
        prefix; of several parts ``learns/<part>`` says whether it was its turn."""
        rollout = experience.rollout
        experience, advantages_PG, told = self.lesson(experience)
        answers = experience.answers
        beside = {"of_answers": advantages_of(self.advantage, answers)} if answers else {}
        turn = {name: part for name, part in self.parts.items() if self.learns(experience.step, name)}
        metrics = {f"learns/{name}": float(name in turn) for name in self.parts} if len(self.parts) > 1 else {}
        metrics |= told
        for name, part in turn.items():
            with timer("sync"):
                before = part.canaries(rollout) if self.sync.wants_before(name) else None
            found = part.learn(experience, advantages_PG, timer, **beside)
            with timer("sync"):
                found |= self.publish(name, rollout, before)
            metrics |= found if name == "ar" else {f"{name}/{key}": value for key, value in found.items()}
        return metrics

    def lesson(self, experience: Experience) -> tuple[Experience, Tensor, dict[str, float]]:
        """What the parts are given: the experience, its groups without signal left out where they are skipped, the
        advantages of its sequences, and what is logged of both."""
        told = dict[str, float]()
        if self.skips and self.learns(experience.step, "ar"):
            experience, told = without_flat_groups(experience)
        return experience, advantages_of(self.advantage, experience), told

    def slow_down(self, factor: float) -> None:
        """Multiplies the learning rate of every part."""
        for part in self.parts.values():
            part.slow_down(factor)

    def trained(self) -> Mapping[str, WeightStream]:
        return {name: part.weights() for name, part in self.parts.items()}

    def publish(self, name: str, rollout: Rollout, before: Mapping[str, Canary] | None = None) -> dict[str, float]:
        """New weights of a part into its followers, checked on the first sequences of this rollout."""
        return publish(self.sync, name, self.parts[name], rollout, before, self.lends.get(name, nullcontext))


def publish(
    sync: WeightChannel,
    name: str,
    part: Part,
    rollout: Rollout,
    before: Mapping[str, Canary] | None = None,
    lent: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> dict[str, float]:
    """See :meth:`Learns.publish`. ``lent``: around it, the part has the weights that go out."""
    version = {"policy_version": float(part.version)}
    if not sync.following(name):
        return version  # it works with the trained weights themselves
    with lent():
        difference = sync.push(name, part.weights(), part.version, part.canaries(rollout), before)
    return version if difference is None else {"sync_mismatch": difference, **version}


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
    weights_of: ModalityWeights = field(default_factory=ModalityWeights)
    """Of pictures and answers in one update."""

    @property
    def version(self) -> int:
        return self.trainer.version

    def learn(
        self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch, *, of_answers: Tensor | None = None
    ) -> dict[str, float]:
        with timer("forward"):
            batches = self.batches(experience, advantages_PG)
            answers = self._answer_batches(experience.answers, of_answers)
        with timer("update"):
            if answers:
                found = mean_metrics([self._update_of_both(*pair) for pair in zip_longest(batches, answers)])
            else:
                found = mean_metrics([self.trainer.update(part) for part in batches])
        return found | by_age(found, experience.metrics)

    def _answer_batches(self, answers: Experience | None, advantages_PG: Tensor | None) -> list[TokenBatch]:
        return [] if answers is None or advantages_PG is None else self.batches(answers, advantages_PG)

    def _update_of_both(self, pictures: TokenBatch | None, answers: TokenBatch | None) -> dict[str, float]:
        """One step of the optimizer, for each with its own weight; late updates of a rollout may have one kind alone,
        where the other had fewer rows than updates."""
        image = None if pictures is None else replace(pictures, weight=self.weights_of.image)
        text = {} if answers is None else {ANSWER: replace(answers, weight=self.weights_of.text)}
        return self.trainer.update(image, **text)

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
        batch = self.batch(experience, advantages_PG)
        self.trainer.rehearse(batch.take([row % len(batch) for row in range(rows)]))

    def batches(self, experience: Experience, advantages_PG: Tensor) -> list[TokenBatch]:
        """One for each update, with what the policy thought before the first of them. That one's own rows are left to
        itself if it has the weights that sampled: its ratio is then exactly 1, however many updates follow.
        """
        batch = self.batch(experience, advantages_PG)
        if self.skips:
            batch = batch.take(batch.valid_B.nonzero()[:, 0].tolist() or [0])  # one that weighs nothing, if none
        first, *later = minibatches(batch, self.updates)
        own = experience.version == self.version
        first = replace(first, old_logprobs_BT=None) if own else self._with_old(first)
        return [first, *map(self._with_old, later)]

    def batch(self, experience: Experience, advantages_PG: Tensor) -> TokenBatch:
        """All rows, with everything that the updates look at but what they or the reference policy are yet to say."""
        rollout, rows, forward = experience.rollout, sequences(experience.rollout), experience.forward
        batch = TokenBatch(
            prompt_ids=rows.prompt_ids,
            tokens_BT=rows.tokens_BT,
            temperature=rows.temperature,
            span=rows.span,
            features=rows.features,
            rollout_logprobs_BT=torch.from_numpy(rollout.logprobs_BT),
            old_logprobs_BT=None if forward is None else forward.logprobs_BT,
            advantages_B=per_sample(advantages_PG, rollout),
            valid_B=torch.from_numpy(experience.scores.valid_B),
            mask_BT=None if rollout.mask_BT is None else torch.from_numpy(rollout.mask_BT),
        )
        return self.trainer.objective.refer(batch, experience.reference) if experience.reference else batch

    def _with_old(self, rows: TokenBatch) -> TokenBatch:
        """Asked in the very cut in which they are learnt from, where nobody has asked before."""
        if rows.old_logprobs_BT is not None:
            return rows
        return replace(rows, old_logprobs_BT=self.trainer.forward(rows).logprobs_BT.cpu())

    def weights(self) -> WeightStream:
        return self.trainer.weights()

    def adapters(self) -> Mapping[str, Adapter]:
        return self.trainer.adapters()

    def canaries(self, rollout: Rollout, copy: str | None = None) -> Mapping[str, Canary]:
        """``copy``: a slow one that answers in place of the weights of now."""
        rows = canary_rows(rollout, self.asked, self.asked_tokens)
        return {"logprobs": Canary(rows, self.trainer.forward(rows, copy=copy).logprobs_BT.cpu().float().numpy())}

    def slow_down(self, factor: float) -> None:
        self.trainer.slow_down(factor)

    def save(self, folder: Path) -> None:
        self.trainer.save(folder)

    def load(self, folder: Path) -> None:
        self.trainer.load(folder)


def advantages_of(advantage: Callable[[Tensor, Tensor], Tensor], experience: Experience) -> Tensor:
    """(P, G): what each sample is worth. A rule that compares prompts compares those of one task, never of several."""
    scores, rollout = experience.scores, experience.rollout
    total_PG, valid_PG = by_group(scores.total_B, rollout), by_group(scores.valid_B, rollout)
    tasks = [task_of(prompt) for prompt in group_prompts(rollout)]
    if len(set(tasks)) < 2:
        return advantage(total_PG, valid_PG)
    found_PG = torch.zeros_like(total_PG)
    for task in dict.fromkeys(tasks):
        here = torch.tensor([one == task for one in tasks])
        found_PG[here] = advantage(total_PG[here], valid_PG[here])
    return found_PG


def without_flat_groups(experience: Experience) -> tuple[Experience, dict[str, float]]:
    """The same with no sample of a group without signal valid, and how many groups were sampled and are learnt from."""
    kept, told = _without_flat_groups(experience)
    if experience.answers is None:
        return kept, told
    answers, of_answers = _without_flat_groups(experience.answers)
    both = {name: told[name] + of_answers[name] for name in (SAMPLED, KEPT)}
    return replace(kept, answers=answers), told | both


def _without_flat_groups(experience: Experience) -> tuple[Experience, dict[str, float]]:
    scores, rollout = experience.scores, experience.rollout
    valid_PG = by_group(scores.valid_B, rollout)
    signal_P = with_signal(by_group(scores.total_B, rollout), valid_PG)
    kept_B = per_sample(valid_PG & signal_P.unsqueeze(-1), rollout).numpy()
    told = {SAMPLED: float(len(signal_P)), KEPT: float(signal_P.sum())}
    return replace(experience, scores=replace(scores, valid_B=kept_B)), told | {
        name: value for name, value in experience.metrics.items() if name == SAMPLED
    }


@dataclass(frozen=True)
class SlowCopy:
    """The language model's slow copy, where an evaluation and the export take it in place of the weights of now."""

    part: TrainedLanguageModel
    name: str

    def forward(self, rows: Sequences) -> Forward:
        """What the trainer answers with it."""
        return self.part.trainer.forward(rows, copy=self.name)

    def lent(self) -> AbstractContextManager[None]:
        """The part's weights are those of the copy inside."""
        return self.part.trainer.lent(self.name)

    def push(self, sync: WeightChannel, rollout: Rollout) -> None:
        """Into the followers, checked on the first sequences of a rollout, until the weights of now are published."""
        with self.lent():
            sync.push("ar", self.part.weights(), self.part.version, self.part.canaries(rollout, self.name))


def canary_rows(rollout: Rollout, asked: int, asked_tokens: int) -> Sequences:
    """The first tokens of a few sequences."""
    rows = sequences(rollout).take(range(min(asked, rollout.batch_size)))
    if rollout.span is None:
        return rows
    span = rollout.span.up_to(asked_tokens)
    return replace(rows, tokens_BT=rows.tokens_BT[:, : span.most], span=span)


def by_age(found: Mapping[str, float], collected: Mapping[str, float]) -> dict[str, float]:
    """What of the mismatch comes from the age of the weights that sampled, where it is known what does not."""
    if NUMERICS not in collected or "mismatch" not in found:
        return {}
    return {AGE: max(0.0, found["mismatch"] - collected[NUMERICS])}


def minibatches(batch: RowsT, count: int) -> list[RowsT]:
    """``count`` batches of equal size, give or take a row, that together hold every row once, in order; fewer if there
    are fewer rows, as where groups without signal are left out."""
    parts = torch.arange(len(batch)).tensor_split(min(count, len(batch)))
    return [batch.take(rows.tolist()) for rows in parts]


def mean_metrics(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Metrics of several updates as one: the mean of each, over those that have it."""
    found = {name: [one[name] for one in updates if name in one] for update in updates for name in update}
    return {name: sum(values) / len(values) for name, values in found.items()}
