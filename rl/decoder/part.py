"""The decoder as a part of a run that learns: its advantages, its rows, its updates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from policy.decoder import References
from policy.flow.rows import Flow, FlowQuery, SharedHidden, SharedReferences
from policy.flow.walk import FlowTrajectory
from policy.trainable import Adapter, WeightStream
from rl.algorithm.flow.batch import FlowBatch
from rl.algorithm.flow.credit import decoder_advantages
from rl.collect import references_of
from rl.decoder.rows import PaintedPictures
from rl.learn import mean_metrics
from rl.tracking.stopwatch import Stopwatch
from rl.trainer.trainer import Trainer
from rl.types import Experience, Rollout, RunFailure
from rollout.sync import Canary

FlowTrainer = Trainer[FlowQuery, FlowBatch, Flow]
OLD = "old"
"""The name of the slow copy that paints, where there is one."""


def most_apart(dtype: str, device: torch.device) -> float:
    """KL per number that may lie between a step as painted and as replayed: rounding, and nothing that is wrong.

    float32 comes to 4e-14, bfloat16 to 1e-5; weights that are one step of Adam further to 8e-5, a timestep that is off
    by 1 % to 6e-5: the limit sees both in float32, and in bfloat16, where it is wide, only what is much further off. On
    a GPU float32 products may be TF32's, others in each size of a batch.
    """
    if dtype != "float32":
        return 1e-3
    return 1e-9 if device.type == "cpu" else 1e-6


@dataclass
class TrainedDecoder:
    """The diffusion decoder, trained on its pictures: each is compared with the others of its own token sequence."""

    trainer: FlowTrainer
    rows: Callable[[PaintedPictures, Experience], FlowBatch]
    """Of some token sequences, in their order."""
    updates: int = 1
    """Optimizer steps per rollout; the token sequences are split among them."""
    paints: str | None = None
    """The slow copy that paints; ``None``: the weights of now."""
    reread: Callable[[Experience], Tensor] | None = None
    """Hidden states of the same tokens under the language model of now, which the decoder then follows: it learns on
    them and is compared with what it said on those that it painted."""
    eyes: Callable[[References], Tensor] | None = None
    """Latents of the pictures that are to be changed; ``None``: the decoder does not see them."""
    most_apart: float = 1e-9
    """See :func:`most_apart`."""

    @property
    def version(self) -> int:
        return self.trainer.version

    def learn(
        self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch, *, of_answers: Tensor | None = None
    ) -> dict[str, float]:
        """``advantages_PG`` are the language model's; a decoder has advantages of its own, and no part in answers."""
        with timer("decoder"):
            pictures = painted_pictures(experience, _advantages(experience), self.eyes)
            now_BSD = self.reread(experience) if self.reread else None
            batches = [self._with_old(*part, now_BSD) for part in self._batches(pictures, experience)]
            found: list[dict[str, float]] = []
            for batch in batches:
                found.append(self.trainer.update(batch))
                if len(found) == 1:
                    live = self.paints is None and now_BSD is None
                    _check_first(found[0], from_painted=live, limit=self.most_apart)
            if self.paints:
                self.trainer.follow(self.paints)
        return mean_metrics(found) | _described(pictures)

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
        """With advantages of +1 and -1 in turn: two samples may have been equally good."""
        sequences, renders = experience.rollout.batch_size, experience.renders.per_sample
        signs_BK = (1.0 - 2.0 * (torch.arange(renders) % 2)).expand(sequences, renders)
        pictures = painted_pictures(experience, (signs_BK, torch.ones(sequences, renders, dtype=torch.bool)), self.eyes)
        batch = self.rows(pictures, experience)
        wanted = rows * len(batch) // sequences
        for start in range(0, wanted, self.trainer.at_once):
            part = range(start, min(start + self.trainer.at_once, wanted))
            self.trainer.rehearse(batch.take([row % len(batch) for row in part]))

    def _batches(self, pictures: PaintedPictures, experience: Experience) -> Iterator[tuple[FlowBatch, Tensor]]:
        """One for each update, of whole token sequences, which are told beside it."""
        batch = self.rows(pictures, experience)
        for sequences in torch.arange(len(pictures.hidden_BSD)).chunk(self.updates):
            yield batch.take(torch.isin(batch.sequence_N, sequences).nonzero()[:, 0].tolist()), sequences

    def _with_old(self, batch: FlowBatch, sequences: Tensor, now_BSD: Tensor | None) -> FlowBatch:
        """With what the policy that painted says, where the one update does not say so itself; and, to follow, with the
        hidden states of now under it."""
        if self.updates == 1 and self.paints is None and now_BSD is None:
            return batch
        flow = self.trainer.forward(batch, copy=self.paints).flow.float().cpu()
        batch = replace(batch, old=flow if batch.window is None else _means(batch, flow))
        if now_BSD is None:
            return batch
        if (reference := self.trainer.reference_forward(batch)) is not None:
            batch = self.trainer.objective.refer(batch, Flow(reference.flow.float().cpu()))
        return replace(batch, hidden=SharedHidden(now_BSD.cpu()[sequences]))

    def weights(self) -> WeightStream:
        return self.trainer.weights()

    def adapters(self) -> Mapping[str, Adapter]:
        return self.trainer.adapters()

    def canaries(self, rollout: Rollout) -> Mapping[str, Canary]:
        """None: what paints is the trained network itself."""
        return {}

    def slow_down(self, factor: float) -> None:
        self.trainer.slow_down(factor)

    def save(self, folder: Path) -> None:
        self.trainer.save(folder)

    def load(self, folder: Path) -> None:
        self.trainer.load(folder)


def painted_pictures(
    experience: Experience, earned: tuple[Tensor, Tensor], eyes: Callable[[References], Tensor] | None = None
) -> PaintedPictures:
    """``earned``: advantages and what counts, (B, K). The hidden states are those that were painted, and so are the
    references, seen through ``eyes``."""
    trajectory, forward = experience.renders.trajectory, experience.forward
    hidden_BSD = experience.rollout.hidden_BSD if forward is None else forward.hidden_BSD
    assert isinstance(trajectory, FlowTrajectory) and hidden_BSD is not None  # the collector keeps both
    seen = references_of(experience.rollout) if eyes else None
    references = None if seen is None or eyes is None else _shared(seen, eyes(seen).float().cpu())
    return PaintedPictures(trajectory, hidden_BSD.detach().cpu(), *earned, references)


def _shared(seen: References, latents_RChw: Tensor) -> SharedReferences:
    has_B = torch.tensor([one is not None for one in seen])
    values = latents_RChw.new_zeros(len(seen), *latents_RChw.shape[1:])
    values[has_B] = latents_RChw
    return SharedReferences(values, has_B)


def _advantages(experience: Experience) -> tuple[Tensor, Tensor]:
    table = experience.scores.renders
    assert table is not None  # the collector asks for it where a decoder learns
    total_BK, valid_BK = torch.as_tensor(table.total_BK), torch.as_tensor(table.valid_BK)
    return decoder_advantages(total_BK, valid_BK), valid_BK


def _described(pictures: PaintedPictures) -> dict[str, float]:
    """``teaching``: share of the pictures that were better or worse than the others of their tokens."""
    latents = pictures.trajectory.latents[pictures.valid_BK.flatten()]
    found = {"teaching": float((pictures.advantages_BK != 0).float().mean())}
    return found | ({"x0_mean_square": float(latents.square().mean())} if len(latents) else {})


def _means(batch: FlowBatch, flow: Tensor) -> Tensor:
    """Of the Gaussian of each row's step."""
    assert batch.window is not None and batch.step_N is not None
    means = torch.empty_like(flow)
    for index, step in enumerate(batch.window.steps):
        where = batch.step_N == index
        means[where] = step.mean(batch.states[where], flow[where])
    return means


def _check_first(metrics: Mapping[str, float], *, from_painted: bool, limit: float) -> None:
    """The first update after a rollout: old and new policy are the same, and the replay is what was painted.

    ``from_painted``: it has the weights and the hidden states that painted. With a slow copy, or with hidden states of
    now to follow, the ratio says how far they have come since.
    Raises: RunFailure.
    """
    off, apart = metrics.get("ratio_deviation", 0.0), metrics.get("kl_painted", 0.0)
    if from_painted and off != 0:
        raise RunFailure(
            f"the decoder's ratio of the first update is off by {off:.3g} and must be exactly 1: the update computes "
            "something else than the forward before it (another micro-batch or precision, dropout, or weights that "
            "changed in between)"
        )
    if not apart <= limit:
        raise RunFailure(
            f"the decoder's steps, computed again, are {apart:.3g} nats a number from those that were painted (at most "
            f"{limit:g}): it learns from another trajectory, other hidden states or other weights than those of "
            "the pictures"
        )
