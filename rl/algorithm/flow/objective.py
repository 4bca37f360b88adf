"""The loss of a decoder: learning from pictures or from a window of steps, and a pull to the decoder at the start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from policy.flow.rows import Flow
from policy.flow.steps import FlowStep
from rl.algorithm.flow.batch import FlowBatch, Sigmas
from rl.algorithm.flow.nft import velocity_mse
from rl.algorithm.terms import Control, Shown, Term

_PER_SIGMA = ("policy_loss", "old_deviation", "ratio_mean", "ratio_deviation", "kl_old", "velocity_mse")


@dataclass(frozen=True)
class FlowObjective:
    """``loss``: of ``decoder_losses``, options bound; ``window``: whether it learns from stochastic steps;
    ``pull``: weight of :func:`velocity_mse`."""

    loss: Callable[..., Term]
    window: bool
    pull: float = 0.0

    @property
    def reference(self) -> frozenset[str]:
        return frozenset({"flow"} if self.pull else ())

    def prepare(self, batch: FlowBatch) -> FlowBatch:
        """The mean over all rows that count, whatever rank and micro-batch they come to."""
        valid_N = batch.valid_N
        count = valid_N.sum().clamp(min=1)
        sigmas, place_N = batch.t_N.unique(return_inverse=True)
        each = torch.zeros(len(sigmas)).index_add_(0, place_N, valid_N.float()).clamp(min=1)
        return replace(
            batch,
            weights_N=valid_N.float() / count,
            share_N=count / each[place_N],
            sigmas=Sigmas(tuple(sigmas.tolist())),
        )

    @property
    def controls(self) -> Mapping[str, Control]:
        return {}

    def referred(self, rows: FlowBatch, *, moving: bool = False) -> bool:
        """Its reference never moves."""
        return moving or not self.reference or rows.reference_flow is not None

    def refer(self, rows: FlowBatch, reference: Flow, *, moving: bool = False) -> FlowBatch:
        return replace(rows, reference_flow=reference.flow if self.reference else None)

    def weights(self, rows: FlowBatch) -> Tensor:
        if rows.weights_N is None:
            raise ValueError("these rows have no weights: call prepare() on the whole batch first")
        return rows.weights_N

    def __call__(self, outputs: Flow, rows: FlowBatch) -> Mapping[str, Term]:
        """The update's own flow is the old one where the rows hold none: the ratio is then exactly 1."""
        flow = outputs.flow.float()
        terms = {"flow": self._on_window(flow, rows) if self.window else self._on_pictures(flow, rows)}
        if self.pull:
            assert rows.reference_flow is not None  # the trainer has seen to it
            terms["pull"] = velocity_mse(flow, rows.reference_flow, beta=self.pull)
        return {name: _with_sigmas(term, rows) for name, term in terms.items()}

    def _on_pictures(self, flow: Tensor, rows: FlowBatch) -> Term:
        old = flow.detach() if rows.old is None else rows.old
        return self.loss(flow, old, rows.target, rows.t_N, rows.advantages_N)

    def _on_window(self, flow: Tensor, rows: FlowBatch) -> Term:
        """Rows of each step of the window together, put back in their places."""
        assert rows.window is not None and rows.step_N is not None
        steps = rows.window.steps
        places = [(rows.step_N == index).nonzero()[:, 0] for index in range(len(steps))]
        found = [
            (where, self._on_step(steps, index, flow, rows, where)) for index, where in enumerate(places) if len(where)
        ]
        back_N = torch.cat([where for where, _ in found]).argsort()
        terms = [term for _, term in found]
        shown = {
            name: Shown(torch.cat([term.shown[name].values for term in terms])[back_N], one.how)
            for name, one in terms[0].shown.items()
        }
        return Term(torch.cat([term.loss for term in terms])[back_N], shown)

    def _on_step(self, steps: Sequence[FlowStep], index: int, flow: Tensor, rows: FlowBatch, where: Tensor) -> Term:
        step = steps[index]
        mean = step.mean(rows.states[where], flow[where])
        old = mean.detach() if rows.old is None else rows.old[where]
        term = self.loss(steps, index, rows.target[where], mean, old, rows.advantages_N[where])
        if rows.painted is None:
            return term
        apart_N = step.kl(mean.detach(), rows.painted[where])
        return Term(term.loss, {**term.shown, "kl_painted": Shown(apart_N, "max")})


def _with_sigmas(term: Term, rows: FlowBatch) -> Term:
    """What a term shows, and its mean (or its maximum) at each sigma beside that: the noisiest is where most is
    decided."""
    assert rows.share_N is not None and rows.sigmas is not None  # prepare() has made them
    found = dict(term.shown)
    for name in _PER_SIGMA:
        if name in term.shown:
            values_N, how = term.shown[name].values, term.shown[name].how
            if how != "max":
                values_N, how = rows.share_N * values_N, "sum"
            for sigma in rows.sigmas.values:
                found[f"sigma/{sigma:.3f}/{name}"] = Shown(values_N.masked_fill(rows.t_N != sigma, 0.0), how)
    return Term(term.loss, found)
