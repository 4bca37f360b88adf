"""The learner of one network: a no-grad forward, one optimizer step per update, whatever the micro-batches, ranks and
ZeRO stage. Every rank is given the same global batch and works on its own rows; results are the same on all ranks.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from policy.trainable import Adapter, Network, Trainable, WeightStream
from rl.algorithm.objective import Objective
from rl.algorithm.stats import UpdateStats
from rl.algorithm.terms import total_loss
from rl.config.schema import TrainConfig
from rl.process.progress import Progress, untold
from rl.trainer.answer import answer
from rl.trainer.engine import gathered, pick_device, start_engine
from rl.trainer.place import visiting
from rl.trainer.ranks import Ranks
from rl.trainer.schedule import lr_factor
from rl.types import Rows, UserError

log = logging.getLogger(__name__)
_TAG = "engine"
_ABOUT = "trainer.json"

QueryT = TypeVar("QueryT", bound=Rows)  # what the network can be asked about
BatchT = TypeVar("BatchT", bound=Rows)  # the same, with what it learns from
OutputsT = TypeVar("OutputsT")


class Trainer(Generic[QueryT, BatchT, OutputsT]):
    """Owns the weights of one :class:`Trainable`, their version and the optimizer. The module is trained in place."""

    def __init__(
        self,
        trainable: Trainable[QueryT, OutputsT],
        objective: Objective[BatchT, OutputsT],
        config: TrainConfig,
        *,
        device: torch.device | None = None,
    ) -> None:
        self.version = 0
        self.device = device or pick_device()
        self.objective = objective
        self.progress: Progress = untold
        """Hears how far an update or a forward is."""
        self._trainable, self._config = trainable, config
        module = trainable.module.to(dtype=getattr(torch, config.dtype)).requires_grad_(False)
        self._parameters = [parameter.requires_grad_(True) for parameter in trainable.trained()]
        module.register_state_dict_post_hook(_without_frozen)
        # Made before the engine takes the weights over, and where the weights still are: here or on the device.
        self._reference = trainable.reference() if objective.reference else None
        self._reference_here = _place(self._reference, self.device, stays=config.offload_reference is None)
        self._engine = start_engine(
            module.to(self.device), config, self.device, used_directly=trainable.used_directly()
        )
        self._ranks = Ranks.here()
        self._num_parameters = sum(getattr(p, "ds_numel", p.numel()) for p in self._parameters)

    @torch.no_grad()
    def forward(self, rows: QueryT) -> OutputsT:
        """What the network answers under the current weights, without gradient.

        Cut into the same micro-batches as ``update``, so that the ratio of a first update is 1 to the last bit
        (to float noise where several updates share a rollout and are cut otherwise).
        """
        return self._answer(self._engine, rows)

    @torch.no_grad()
    def reference_forward(self, rows: QueryT) -> OutputsT | None:
        """The same under the frozen initial weights; ``None`` when no term of the loss asks for them."""
        if self._reference is None:
            return None
        with self._reference_here():
            return self._answer(self._reference, rows)

    def update(self, batch: BatchT) -> dict[str, float]:
        """One optimizer step on the whole batch; ``version`` goes up by one. Returns the metrics of the step.

        Raises: UserError on a loss or gradient that is not finite; the weights are then as before the call.
        """
        batch = self.objective.prepare(batch)
        stats = UpdateStats(self.device)
        lr = self._set_lr()
        parts = self._ranks.micro_batches(len(batch), self._config.micro_batch)
        for index, part in enumerate(parts):
            self._engine.set_gradient_accumulation_boundary(index == len(parts) - 1)
            rows = batch.take(part.rows).to(self.device)
            loss = self._loss(self._engine, rows, torch.tensor(part.real, device=self.device), stats)
            # DeepSpeed averages the ranks' gradients, but our denominator is global already: undo its division.
            self._engine.backward(loss * self._ranks.world, scale_wrt_gas=False)
            self.progress(index + 1, len(parts), "micro-batches")
        metrics = stats.reduce()
        if not math.isfinite(metrics["loss"]):
            raise UserError(self._not_finite("loss", metrics["loss"], stats.not_finite()))
        grad_norm = self._step()
        self.version += 1
        return metrics | {"lr": lr, "grad_norm": grad_norm} | self._check_adam_eps(grad_norm)

    def rehearse(self, batch: BatchT) -> None:
        """The gradient of a few rows in one micro-batch, made and dropped: past the engine, which would add it to those
        of the next update, and on this rank alone.

        Raises: UserError on a loss or gradient that is not finite.
        """
        rows = self.objective.prepare(batch).to(self.device)
        real_B = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        loss = self._loss(self._trainable.module, rows, real_B, UpdateStats(self.device))
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
        norm = torch.nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])
        for what, value in (("loss", loss.detach()), ("gradient norm", norm)):
            if not math.isfinite(float(value)):
                raise UserError(self._not_finite(what, float(value)))

    def weights(self) -> WeightStream:
        """The whole network under the names of its checkpoint; going through it is collective under ZeRO-3."""
        return self._trainable.weights(gathered)

    def adapter(self) -> Adapter | None:
        """The adapters alone, if that is what is trained; collective in the same way."""
        return self._trainable.adapter(gathered)

    def save(self, folder: Path) -> None:
        """Writes trained weights, optimizer state and version into ``folder``; called by every rank."""
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False, exclude_frozen_parameters=True)
        if self._ranks.rank == 0:
            (folder / _ABOUT).write_text(json.dumps({"version": self.version, "layout": self._shard_layout()}))
        dist.barrier()  # no rank may read before rank 0 has written

    def load(self, folder: Path) -> None:
        """Continues exactly where ``save`` was called. The reference policy stays the one of construction.

        Raises: UserError if ``folder`` holds no trainer state, or one of other ranks, ZeRO stage or dtype.
        """
        about = folder / _ABOUT
        if not about.is_file():
            raise UserError(
                f"{folder}: no trainer state here ({_ABOUT} is missing); resume from a folder that has one."
            )
        saved, here = json.loads(about.read_text()), self._shard_layout()
        if saved["layout"] != here:
            raise UserError(f"{folder}: written with {saved['layout']}, this run has {here}; resume with the same.")
        whole = all(parameter.requires_grad for parameter in self._engine.module.parameters())
        self._engine.load_checkpoint(
            str(folder), tag=_TAG, load_lr_scheduler_states=False, load_module_strict=whole
        )  # what is frozen was not saved
        self.version = int(saved["version"])

    def _shard_layout(self) -> str:
        """What decides how DeepSpeed cuts the state into files; it can be read back only in the same way."""
        lora = f", train.lora.rank {self._config.lora.rank}" if self._config.lora else ""
        return (
            f"{self._ranks.world} rank(s), train.zero_stage {self._config.zero_stage}, train.dtype "
            f"{self._config.dtype}{lora}"
        )

    def _answer(self, network: Network, rows: QueryT) -> OutputsT:
        return answer(
            self._trainable,
            network,
            rows,
            ranks=self._ranks,
            micro_batch=self._config.micro_batch,
            device=self.device,
            progress=self.progress,
        )

    def _loss(self, network: Network, rows: BatchT, real_B: Tensor, stats: UpdateStats) -> Tensor:
        """These rows' share of the loss of the whole batch; rows that are not real weigh nothing."""
        inputs = self._trainable.inputs(cast(QueryT, rows))  # a batch is a query with more fields
        outputs = self._trainable.outputs(network(*inputs))
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
        part = f" (its part {' and '.join(map(repr, terms))})" if terms else ""
        return (
            f"update {self.version + 1}: the {what} is {value}{part}, so the weights were left at version "
            f"{self.version}: "
            f"lower train.lr ({self._config.lr:g}) or train.grad_clip ({self._config.grad_clip:g}), or use train.dtype "
            "float32, and resume from the last checkpoint."
        )

    def _check_adam_eps(self, grad_norm: float) -> dict[str, float]:
        """Adam divides by sqrt(v) + eps: with eps above the gradient's RMS it hardly moves (seen at RMS 5e-9)."""
        seen = min(grad_norm, self._config.grad_clip) if self._config.grad_clip else grad_norm
        rms = seen / math.sqrt(self._num_parameters)
        too_large = 0.0 < rms < self._config.eps
        if too_large:
            eps = self._config.eps
            log.warning("train.eps %g exceeds the gradient's RMS %.2g: Adam hardly moves; lower it.", eps, rms)
        return {"grad_rms": rms, "adam_eps_too_large": float(too_large)}

    def _set_lr(self) -> float:
        config = self._config
        lr = config.lr * lr_factor(self.version, config.warmup_updates, config.updates, config.schedule)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        return lr


def _without_frozen(module: nn.Module, state: dict[str, Tensor], prefix: str, _: object) -> None:
    """A checkpoint is of what learns. DeepSpeed, asked for that, forgets second names such as a tied lm_head's."""
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            state.pop(prefix + name, None)


def _place(
    reference: Network | None, device: torch.device, *, stays: bool
) -> Callable[[], AbstractContextManager[object]]:
    """Where the frozen reference is while it is asked: on ``device`` for good, or on a visit there."""
    if not isinstance(reference, nn.Module):  # none, or the trained module itself
        return nullcontext
    if stays:
        reference.to(device)
        return nullcontext
    return partial(visiting, reference, device)
