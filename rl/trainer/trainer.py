"""The learner of one network: a no-grad forward, one optimizer step per update, whatever the micro-batches, ranks and
ZeRO stage. Rank 0 calls it and has the results; the others follow, each with its own share of the rows.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor

from policy.trainable import Adapter, Network, Trainable, WeightStream
from rl.algorithm.copies import Decay
from rl.algorithm.objective import Objective
from rl.algorithm.stats import KindsOfStats, UpdateStats
from rl.algorithm.terms import MOVING, total_loss
from rl.config.section import Optimisation
from rl.process.progress import Progress, untold
from rl.process.ranks import Place
from rl.trainer.answer import answer
from rl.trainer.copies import WeightCopies
from rl.trainer.engine import pick_device, start_engine
from rl.trainer.place import HOME, place_of
from rl.trainer.ranks import Share
from rl.trainer.schedule import learning_rate
from rl.trainer.state import TrainingState
from rl.trainer.streams import TogetherStreams
from rl.trainer.team import Team
from rl.types import Rows, UserError

log = logging.getLogger(__name__)
_ABOUT, _FORMAT = "trainer.json", 2
_UPDATE, _REHEARSE, _FORWARD, _REFERENCE = "update", "rehearse", "forward", "reference"
_SAVE, _LOAD, _COPY, _FOLLOW, _SLOW = "save", "load", "forward of copy ", "follow by copy ", "slow down"

QueryT = TypeVar("QueryT", bound=Rows)  # what the network can be asked about
BatchT = TypeVar("BatchT", bound=Rows)  # the same, with what it learns from
OutputsT = TypeVar("OutputsT")


class Trainer(Generic[QueryT, BatchT, OutputsT]):
    """Owns the weights of one :class:`Trainable`, their version and the optimizer. The module is trained in place."""

    def __init__(
        self,
        trainable: Trainable[QueryT, OutputsT],
        objective: Objective[BatchT, OutputsT],
        config: Optimisation,
        *,
        steps: int,
        device: torch.device | None = None,
        team: Team | None = None,
        copies: Mapping[str, Decay] = MappingProxyType({}),
        waiting: Mapping[str, Decay] = MappingProxyType({}),
    ) -> None:
        """``steps``: of the whole run, with which a schedule ends. ``team``: the ranks that train together; ``None``:
        this process alone. ``copies``: slow ones of what is trained, by name, which follow every update, among them
        ``MOVING`` if the objective compares with a reference that moves; ``waiting``: those that :meth:`follow` tells
        when to."""
        self.version = 0
        self.lr_scale = 1.0  # what alarms have multiplied the learning rate by
        self.team = team or Team(Place())
        self.device = device or pick_device()
        self.objective = objective
        self.progress: Progress = untold
        """Hears how far an update or a forward is."""
        self._trainable, self._config, self._steps = trainable, config, steps
        module = trainable.module.to(dtype=getattr(torch, config.dtype)).requires_grad_(False)
        self._parameters = [parameter.requires_grad_(True) for parameter in trainable.trained()]
        # Made before the engine takes the weights over, and where the weights still are: here or on the device.
        self._reference = trainable.reference() if objective.reference - {MOVING} else None
        self._reference_here = place_of(self._reference, self.device, stays=config.offload_reference is None)
        self._engine = start_engine(
            module.to(self.device), config, self.device, used_directly=trainable.used_directly()
        )
        self._state = TrainingState(self._engine, module, self.team.did)
        self._streams = TogetherStreams(trainable, self.team, sharded=config.zero_stage == 3, called=self._called)
        trained = {name: one for name, one in module.named_parameters() if one.requires_grad}
        self._copies, self._following = WeightCopies(trained, {**waiting, **copies}, config), list(copies)
        self._num_parameters = sum(getattr(p, "ds_numel", p.numel()) for p in self._parameters)

    @property
    def at_once(self) -> int:
        """Rows of a micro-batch of all ranks together."""
        return self._config.micro_batch * self.team.world

    @torch.no_grad()
    def forward(self, rows: QueryT, *, copy: str | None = None) -> OutputsT:
        """What the network answers under the current weights, or those of a slow copy, without gradient.

        Cut into the same micro-batches as ``update``, so that the ratio of a first update is 1 to the last bit
        (to float noise where several updates share a rollout and are cut otherwise).
        """
        return self._answer(f"{_COPY}{copy}" if copy else _FORWARD, rows)

    def lent(self, copy: str) -> AbstractContextManager[None]:
        """The network computes with a slow copy inside; of each rank for itself."""
        return self._copies.lent(copy)

    def follow(self, copy: str) -> None:
        """A slow copy that waits takes its step towards the weights of now."""
        self._order(f"{_FOLLOW}{copy}")
        self._copies.follow(self.version, [copy])
        self.team.done()

    @torch.no_grad()
    def reference_forward(self, rows: QueryT) -> OutputsT | None:
        """The same under the frozen initial weights; ``None`` when no term of the loss asks for them.

        An update asks by itself, each rank for its own rows, where a batch does not hold the answer yet.
        """
        return None if self._reference is None else self._answer(_REFERENCE, rows)

    def update(self, batch: BatchT | None = None, /, **beside: BatchT) -> dict[str, float]:
        """One optimizer step on the whole batch; ``version`` goes up by one. Returns the metrics of the step.

        ``beside``: rows of other kinds, each normalised over itself, whose losses are added; their figures stand under
        ``<name>/``. Raises: UserError on a loss or gradient that is not finite; the weights are as before the call.
        """
        batches = {**({} if batch is None else {"": batch}), **beside}
        prepared = {name: self.objective.prepare(one) for name, one in batches.items()}
        self._order(_UPDATE, json.dumps(list(prepared)))
        metrics = self._update({name: self.team.hand_out(one) for name, one in prepared.items()})
        self.team.done()
        return metrics

    def slow_down(self, factor: float) -> None:
        """The learning rate is multiplied by that from now on, on every rank."""
        self._order(_SLOW, repr(factor))
        self._slow_down(factor)
        self.team.done()

    def weights(self) -> WeightStream:
        """The whole network under the names of its checkpoint, and its adapters beside it if they are what learns."""
        return self._streams.weights()

    def parts(self) -> dict[str, WeightStream]:
        """Of the parts that learn, as a policy folder keeps them."""
        return self._streams.parts()

    def adapters(self) -> dict[str, Adapter]:
        """The adapters alone, by the part that they are of; none where the weights themselves are trained."""
        return self._streams.adapters()

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state and version into ``folder``, the same files whatever the ranks."""
        self._order(_SAVE, str(folder))
        self._state.save(folder)
        self._copies.save(folder)
        controls = {name: one.state() for name, one in self.objective.controls.items()}
        slowed = {"lr_scale": self.lr_scale} if self.lr_scale != 1 else {}
        about = {"format": _FORMAT, "version": self.version, "controls": controls, **slowed}
        (folder / _ABOUT).write_text(json.dumps(about))
        self.team.done()

    def load(self, folder: Path) -> None:
        """Continues exactly where ``save`` was called. The reference policy stays the one of construction.

        Raises: UserError if ``folder`` holds no trainer state, or that of another policy.
        """
        about = folder / _ABOUT
        if not about.is_file():
            raise UserError(
                f"{folder}: no trainer state here ({_ABOUT} is missing); resume from a folder that has one."
            )
        saved = json.loads(about.read_text())
        if saved.get("format") != _FORMAT:
            raise UserError(f"{folder}: written by another version of easel-rl; resume with that one.")
        self._copies.check(folder)
        told = str(folder), int(saved["version"]), float(saved.get("lr_scale", 1.0)), saved.get("controls", {})
        self._order(_LOAD, json.dumps(told))
        self._load(*told)
        self.team.done()

    def duties(self) -> dict[str, Callable[[str], object]]:
        """What a rank other than the first does when that one calls a method of its own trainer."""
        return {self._called(kind): duty for kind, duty in (self._duties() | self._streams.duties()).items()}

    def _duties(self) -> dict[str, Callable[[str], object]]:
        forwards = (_FORWARD, _REFERENCE, *(f"{_COPY}{name}" for name in self._copies.names))
        return {
            _UPDATE: lambda kinds: self._update({name: self.team.receive() for name in json.loads(kinds)}),
            **{kind: partial(self._answer_along, kind) for kind in forwards},
            **{f"{_FOLLOW}{name}": partial(self._follow_along, name) for name in self._copies.names},
            _REHEARSE: lambda _: self._rehearse(self.team.receive()),
            _SAVE: lambda folder: self._state.save(Path(folder)),
            _LOAD: lambda told: self._load(*json.loads(told)),
            _SLOW: self._slow_down,
        }

    def _order(self, kind: str, argument: str = "") -> None:
        self.team.order(self._called(kind), argument)

    def _called(self, kind: str) -> str:
        """An order by the name of the network, of which a run may train two."""
        return kind if self._trainable.name == "ar" else f"{self._trainable.name}: {kind}"

    def _answer_along(self, asked: str, _argument: str) -> None:
        self._columns(asked, self.team.receive(), 0)

    def _follow_along(self, copy: str, _argument: str) -> None:
        self._copies.follow(self.version, [copy])

    def _slow_down(self, factor: str | float) -> None:
        self.lr_scale *= float(factor)

    def _load(self, folder: str, version: int, lr_scale: float, controls: Mapping[str, list[float]]) -> None:
        self._state.load(Path(folder))
        self._copies.load(Path(folder), first=self.team.first, world=self.team.world)
        for name, state in controls.items():
            self.objective.controls[name].restore(state)
        self.version, self.lr_scale = version, lr_scale

    def _answer(self, asked: str, rows: QueryT) -> OutputsT:
        self._order(asked)
        columns = self._columns(asked, self.team.hand_out(rows), len(rows))
        self.team.done()
        return self._trainable.outputs(columns)

    @torch.no_grad()
    def _columns(self, asked: str, share: Share[QueryT], size: int) -> tuple[Tensor, ...]:
        network: Network | None = self._reference if asked == _REFERENCE else self._engine
        assert network is not None  # nobody asks for a reference policy that is not there
        with self._weights_of(asked):
            mine = answer(
                self._trainable,
                network,
                share,
                micro_batch=self._config.micro_batch,
                device=self.device,
                did=self.team.did,
                progress=self.progress,
            )
        return tuple(self.team.collect(column, size) for column in mine)

    def _weights_of(self, asked: str) -> AbstractContextManager[object]:
        if asked == _REFERENCE:
            return self._reference_here()
        return self._copies.lent(asked.removeprefix(_COPY)) if asked.startswith(_COPY) else nullcontext()

    def _update(self, shares: Mapping[str, Share[BatchT]]) -> dict[str, float]:
        stats = KindsOfStats(self.device, shares)
        lr = self._set_lr()
        cut = {name: share.micro_batches(self._config.micro_batch) for name, share in shares.items()}
        parts = [
            (of, *part) for of, rows in zip(stats.kinds, cut.values(), strict=True) for part in self._referred(rows)
        ]
        for index, (of, part, real) in enumerate(parts):
            self._engine.set_gradient_accumulation_boundary(index == len(parts) - 1)
            loss = self._loss(self._engine, part.to(self.device), torch.tensor(real, device=self.device), of)
            # DeepSpeed averages the ranks' gradients, but our denominator is global already: undo its division.
            self._engine.backward(loss * self.team.world, scale_wrt_gas=False)
            self.team.did()
            self.progress(index + 1, len(parts), "micro-batches")
        metrics = stats.reduce()
        if not math.isfinite(metrics["loss"]):
            raise UserError(self._not_finite("loss", metrics["loss"], stats.not_finite()))
        grad_norm = self._step()
        self.version += 1
        self._copies.follow(self.version, self._following)
        for control in self.objective.controls.values():
            control.learnt(metrics)
        return metrics | {"lr": lr, "grad_norm": grad_norm} | self._check_adam_eps(grad_norm)

    def _referred(self, parts: Iterable[tuple[BatchT, Sequence[bool]]]) -> list[tuple[BatchT, Sequence[bool]]]:
        """With what a reference that lives elsewhere answers: asked in one visit, which is over before activations are
        kept. One that is there is asked when each micro-batch's turn comes.
        """
        if self._reference is None or self._config.offload_reference is None:
            return list(parts)
        cut = list(parts)
        if all(self.objective.referred(rows) for rows, _ in cut):
            return cut
        answered = []
        with self._reference_here():
            for rows, real in cut:
                answered.append((self._refer(rows.to(self.device)).to(HOME), real))
                self.team.did()
        return answered

    @torch.no_grad()
    def _refer(self, rows: BatchT) -> BatchT:
        """With what they don't hold yet of the reference policies' answers."""
        inputs = self._trainable.inputs(cast(QueryT, rows))  # a batch is a query with more fields
        if self._reference is not None and not self.objective.referred(rows):
            rows = self.objective.refer(rows, self._trainable.outputs(self._reference(*inputs)))
        if not self.objective.referred(rows, moving=True):
            with self._copies.lent(MOVING):
                rows = self.objective.refer(rows, self._trainable.outputs(self._trainable.module(*inputs)), moving=True)
        return rows

    def rehearse(self, batch: BatchT) -> None:
        """The gradient of a few rows in one micro-batch, made and dropped: past the engine, which would add it to those
        of the next update.

        Raises: UserError on a loss or gradient that is not finite.
        """
        batch = self.objective.prepare(batch)
        self._order(_REHEARSE)
        self._rehearse(self.team.hand_out(batch))
        self.team.done()

    def _rehearse(self, share: Share[BatchT]) -> None:
        [(rows, real)] = self._referred([(share.rows, share.real)])
        real_B = torch.tensor(real, device=self.device)
        loss = self._loss(self._trainable.module, rows.to(self.device), real_B, UpdateStats(self.device))
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        norm = torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
        for what, value in (("loss", loss.detach()), ("gradient norm", norm)):
            if not math.isfinite(float(value)):
                raise UserError(self._not_finite(what, float(value)))

    def _loss(self, network: Network, rows: BatchT, real_B: Tensor, stats: UpdateStats) -> Tensor:
        """These rows' share of the loss of the whole batch; rows that are not real weigh nothing."""
        rows = self._refer(rows)
        outputs = self._trainable.outputs(network(*self._trainable.inputs(cast(QueryT, rows))))
        terms = self.objective(outputs, rows)
        weights = self.objective.weights(rows)
        weights = weights * real_B.view(-1, *[1] * (weights.ndim - 1))
        loss = total_loss(terms, weights)
        stats.add(weights, loss, terms)
        return loss

    def _step(self) -> float:
        """Clips and steps. Returns the gradient's norm before clipping."""
        if self._config.zero_stage == 0:
            limit = self._config.grad_clip or math.inf
            norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, limit))
            if not math.isfinite(norm):
                raise UserError(self._not_finite("gradient norm", norm))
            self._engine.step()
            return norm
        # ZeRO looks for a bad norm itself and then leaves the weights alone.
        self._engine.step()
        norm = float(self._engine.get_global_grad_norm())
        if not (self._engine.was_step_applied() and math.isfinite(norm)):
            raise UserError(self._not_finite("gradient norm", norm))
        return norm

    def _not_finite(self, what: str, value: float, terms: Sequence[str] = ()) -> str:
        section = self._config.section
        part = f" (its part {' and '.join(map(repr, terms))})" if terms else ""
        return (
            f"update {self.version + 1}: the {what} is {value}{part}, so the weights were left at version "
            f"{self.version}: "
            f"lower {section}.lr ({self._config.lr:g}) or {section}.grad_clip ({self._config.grad_clip:g}), or use "
            f"{section}.dtype float32, and resume from the last checkpoint."
        )

    def _check_adam_eps(self, grad_norm: float) -> dict[str, float]:
        """Adam divides by sqrt(v) + eps: with eps above the gradient's RMS it hardly moves (seen at RMS 5e-9)."""
        seen = min(grad_norm, self._config.grad_clip) if self._config.grad_clip else grad_norm
        rms = seen / math.sqrt(self._num_parameters)
        too_large = 0.0 < rms < self._config.eps
        if too_large:
            section, eps = self._config.section, self._config.eps
            log.warning("%s.eps %g exceeds the gradient's RMS %.2g: Adam hardly moves; lower it.", section, eps, rms)
        return {"grad_rms": rms, "adam_eps_too_large": float(too_large)}

    def _set_lr(self) -> float:
        lr = self.lr_scale * learning_rate(self._config, self.version, self._steps)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        return lr
