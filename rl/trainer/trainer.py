"""The learner: one no-grad forward, one optimizer step per update, whatever the micro-batches, ranks and ZeRO stage.

Every rank is given the same global batch and works on its own slice of the rows; results are the same on all ranks.
"""

from __future__ import annotations

import copy
import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from policy.ar import image_forward
from policy.layout import TokenLayout
from rl.algorithm.anchor import AnchorTerm
from rl.algorithm.correction import Correction, mismatch
from rl.algorithm.kl import KLTerm
from rl.algorithm.losses import SurrogateLoss
from rl.algorithm.stats import UpdateStats
from rl.config.schema import TrainConfig
from rl.trainer.engine import ImagePolicy, named_weights, pick_device, start_engine
from rl.types import Batch, Forward, UserError

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

log = logging.getLogger(__name__)
_TAG = "engine"
_ABOUT = "trainer.json"


@dataclass(frozen=True)
class Algorithm:
    """The loss side of the choices, options already bound (the advantage comes with the batch)."""

    surrogate: Callable[[Tensor, Tensor, Tensor], SurrogateLoss]  # rl.algorithm.losses
    aggregation: Callable[[Tensor], Tensor]  # rl.algorithm.losses
    kl: Callable[[Tensor, Tensor], KLTerm] | None = None  # rl.algorithm.kl
    correction: Callable[[Tensor, Tensor], Correction] | None = None  # rl.algorithm.correction
    anchor: Callable[[Tensor, Tensor], AnchorTerm] | None = None  # rl.algorithm.anchor

    @property
    def needs_reference(self) -> bool:
        return self.kl is not None or self.anchor is not None


@dataclass(frozen=True)
class _MicroBatch:
    prompt_ids: list[Sequence[int]]
    tokens_BT: Tensor
    old_logprobs_BT: Tensor
    reference_logprobs_BT: Tensor | None
    reference_hidden_BSD: Tensor | None
    advantages_B: Tensor
    weights_BT: Tensor  # aggregation weights of the global batch
    correction_BT: Tensor | None
    temperature: float


class Trainer:
    """Owns the weights, their version and the optimizer. ``ar`` is trained in place."""

    def __init__(
        self,
        ar: Qwen3ForCausalLM,
        layout: TokenLayout,
        config: TrainConfig,
        algorithm: Algorithm,
        *,
        device: torch.device | None = None,
    ) -> None:
        self.version = 0
        self.device = device or pick_device()
        self._config = config
        self._algorithm = algorithm
        self._layout = layout
        self._ar = ar.to(device=self.device, dtype=getattr(torch, config.dtype)).requires_grad_(True)
        # Copied before the engine takes the weights over; the language model only, never the decoder.
        self._reference = copy.deepcopy(self._ar).eval().requires_grad_(False) if algorithm.needs_reference else None
        self._engine = start_engine(ImagePolicy(self._ar, layout, config.logprob_chunk), config, self.device)
        self._rank, self._world = dist.get_rank(), dist.get_world_size()
        self._num_parameters = sum(getattr(p, "ds_numel", p.numel()) for p in self._ar.parameters())

    @torch.no_grad()
    def forward(self, prompt_ids: Sequence[Sequence[int]], tokens_BT: Tensor, temperature: float) -> Forward:
        """Hidden states, log-probs and entropy of B samples under the current weights, without gradient.

        Cut into the same micro-batches as ``update``, so that the first ratio is 1 to the last bit.
        """
        parts: list[tuple[Tensor, ...]] = []
        for rows in self._micro_rows(len(prompt_ids)):
            parts.append(self._engine([prompt_ids[i] for i in rows], self._take(tokens_BT, rows), temperature))
        return self._gather(parts, len(prompt_ids))

    @torch.no_grad()
    def reference_forward(
        self, prompt_ids: Sequence[Sequence[int]], tokens_BT: Tensor, temperature: float
    ) -> Forward | None:
        """The same under the frozen initial policy; ``None`` when neither a KL term nor an anchor is on."""
        if self._reference is None:
            return None
        parts: list[tuple[Tensor, ...]] = []
        for rows in self._micro_rows(len(prompt_ids)):
            ids, tokens = [prompt_ids[i] for i in rows], self._take(tokens_BT, rows)
            chunk = self._config.logprob_chunk
            out = image_forward(self._reference, self._layout, ids, tokens, temperature=temperature, chunk=chunk)
            parts.append((out.hidden_BSD, out.logprobs_BT, out.entropy_BT))
        return self._gather(parts, len(prompt_ids))

    def update(self, batch: Batch) -> dict[str, float]:
        """One optimizer step on the whole batch; ``version`` goes up by one. Returns the metrics of the step.

        Raises: UserError on a loss or gradient that is not finite; the weights are then as before the call.
        """
        correction = self._correction(batch)
        micro_batches = self._micro_batches(batch, correction)
        stats = UpdateStats(self.device)
        lr = self._set_lr()
        for index, micro in enumerate(micro_batches):
            self._engine.set_gradient_accumulation_boundary(index == len(micro_batches) - 1)
            loss = self._micro_loss(micro, stats)
            # DeepSpeed averages the ranks' gradients, but our denominator is global already: undo its division.
            self._engine.backward(loss * self._world, scale_wrt_gas=False)
        metrics = stats.reduce()
        grad_norm = self._step(metrics["loss"])
        self.version += 1
        metrics |= mismatch(batch.old_logprobs_BT, batch.rollout_logprobs_BT, batch.valid_B)
        if correction is not None:
            clipped_NT = correction.clipped_BT[batch.valid_B]
            metrics["correction_clipped"] = clipped_NT.double().mean().item() if clipped_NT.numel() else 0.0
        return metrics | {"lr": lr, "grad_norm": grad_norm} | self._check_adam_eps(grad_norm)

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """(name, full weight) of the language model, tied lm_head included; collective under ZeRO-3."""
        return named_weights(self._ar, self._config.zero_stage)

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state and version into ``folder``; called by every rank."""
        self._engine.save_checkpoint(str(folder), tag=_TAG, save_latest=False)
        if self._rank == 0:
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
        self._engine.load_checkpoint(str(folder), tag=_TAG, load_lr_scheduler_states=False)
        self.version = int(saved["version"])

    def _shard_layout(self) -> str:
        """What decides how DeepSpeed cuts the state into files; it can be read back only in the same way."""
        return f"{self._world} rank(s), train.zero_stage {self._config.zero_stage}, train.dtype {self._config.dtype}"

    def _micro_loss(self, micro: _MicroBatch, stats: UpdateStats) -> Tensor:
        """This micro-batch's share of the global loss."""
        hidden_BSD, logprobs_BT, entropy_BT = self._engine(micro.prompt_ids, micro.tokens_BT, micro.temperature)
        surrogate = self._algorithm.surrogate(logprobs_BT, micro.old_logprobs_BT, micro.advantages_B)
        policy_BT = surrogate.loss_BT if micro.correction_BT is None else surrogate.loss_BT * micro.correction_BT
        kl = None
        if self._algorithm.kl is not None and micro.reference_logprobs_BT is not None:
            kl = self._algorithm.kl(logprobs_BT, micro.reference_logprobs_BT)
        anchor = None
        if self._algorithm.anchor is not None and micro.reference_hidden_BSD is not None:
            anchor = self._algorithm.anchor(hidden_BSD, micro.reference_hidden_BSD)
        total_BT = policy_BT if kl is None else policy_BT + kl.loss_BT
        total_BT = total_BT if anchor is None else total_BT + anchor.loss_B1
        loss = (micro.weights_BT * total_BT).sum()
        kl_BT = None if kl is None else kl.values_BT
        anchor_B1 = None if anchor is None else anchor.values_B1
        stats.add(micro.weights_BT, loss, policy_BT, surrogate, entropy_BT, kl_BT, anchor_B1)
        return loss

    def _step(self, loss: float) -> float:
        """Clips and steps. Returns the gradient's norm before clipping."""
        if not math.isfinite(loss):
            raise UserError(self._not_finite("loss", loss))
        if self._config.zero_stage == 0:
            limit = self._config.grad_clip or math.inf
            norm = float(torch.nn.utils.clip_grad_norm_(self._ar.parameters(), limit))
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

    def _not_finite(self, what: str, value: float) -> str:
        return (
            f"update {self.version + 1}: the {what} is {value}, so the weights were left at version {self.version}: "
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
        total = config.steps * config.updates_per_rollout
        lr = config.lr * lr_factor(self.version, config.warmup_steps, total, config.schedule)
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _correction(self, batch: Batch) -> Correction | None:
        if self._algorithm.correction is None:
            return None
        return self._algorithm.correction(batch.old_logprobs_BT, batch.rollout_logprobs_BT)

    def _micro_batches(self, batch: Batch, correction: Correction | None) -> list[_MicroBatch]:
        mask_BT = batch.valid_B.unsqueeze(-1).expand_as(batch.tokens_BT)
        weights_BT = self._algorithm.aggregation(mask_BT)
        size = len(batch.prompt_ids)
        real = iter(self._real_rows(size))
        micro_batches = []
        for rows in self._micro_rows(size):
            real_B1 = torch.tensor([[next(real)] for _ in rows], device=self.device)
            reference, reference_hidden = batch.reference_logprobs_BT, batch.reference_hidden_BSD
            micro = _MicroBatch(
                prompt_ids=[batch.prompt_ids[i] for i in rows],
                tokens_BT=self._take(batch.tokens_BT, rows),
                old_logprobs_BT=self._take(batch.old_logprobs_BT, rows),
                reference_logprobs_BT=None if reference is None else self._take(reference, rows),
                reference_hidden_BSD=None if reference_hidden is None else self._take(reference_hidden, rows),
                advantages_B=self._take(batch.advantages_B, rows),
                weights_BT=self._take(weights_BT, rows) * real_B1,
                correction_BT=None if correction is None else self._take(correction.weights_BT, rows),
                temperature=batch.temperature,
            )
            micro_batches.append(micro)
        return micro_batches

    def _micro_rows(self, size: int) -> list[list[int]]:
        """This rank's rows of a global batch, in micro-batches. Every rank gets equally many (collectives run inside
        the model under ZeRO-3), so the last ranks may repeat the last row; ``_real_rows`` says which ones count.
        """
        per_rank = math.ceil(size / self._world)
        first = self._rank * per_rank
        rows = [min(row, size - 1) for row in range(first, first + per_rank)]
        step = self._config.micro_batch
        return [rows[start : start + step] for start in range(0, per_rank, step)]

    def _real_rows(self, size: int) -> list[bool]:
        per_rank = math.ceil(size / self._world)
        first = self._rank * per_rank
        return [row < size for row in range(first, first + per_rank)]

    def _take(self, tensor: Tensor, rows: Sequence[int]) -> Tensor:
        return tensor[list(rows)].to(self.device)

    def _gather(self, parts: Sequence[tuple[Tensor, ...]], size: int) -> Forward:
        """All ranks' micro-batches of (hidden, log-probs, entropy) as one."""
        hidden, logprobs, entropy = (self._all_rows(torch.cat(column), size) for column in zip(*parts, strict=True))
        return Forward(hidden, logprobs, entropy)

    def _all_rows(self, mine: Tensor, size: int) -> Tensor:
        """All ranks' slices in row order, without the repeated rows."""
        if self._world == 1:
            return mine
        slices = [torch.empty_like(mine) for _ in range(self._world)]
        dist.all_gather(slices, mine.contiguous())
        return torch.cat(slices)[:size]


def lr_factor(update: int, warmup: int, total: int, schedule: str) -> float:
    """Learning-rate multiplier of update 0, 1, ...: linear warm-up, then constant, or half a cosine that would reach 0
    at ``total`` (SGDR, arXiv 1608.03983, equation 5). A function of the update alone, so resuming needs no state.
    """
    if update < warmup:
        return (update + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (update - warmup) / max(1, total - warmup))
    return 0.5 * (1.0 + math.cos(math.pi * progress))
