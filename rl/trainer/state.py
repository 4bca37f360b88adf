"""What training has made of the weights, in a form that no number of ranks and no ZeRO stage has left a trace in.

Of every trained parameter, whole and under its own name: its value in float32 and AdamW's two moments and step. Rank 0
writes and reads the files, one parameter after another is put together from the ranks' pieces or handed out to them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from rl.types import UserError

if TYPE_CHECKING:
    from deepspeed import DeepSpeedEngine

VALUE, MOMENTS, STEP = "value", ("exp_avg", "exp_avg_sq"), "step"
_FILE_BYTES = 1 << 30
_INDEX = "index.json"


@dataclass(frozen=True)
class Piece:
    """The entries of a flattened parameter from ``start`` on that this rank holds; both are changed in place."""

    start: int
    values: Tensor


class TrainingState:
    """The state behind a DeepSpeed engine, parameter by parameter. All methods are called by every rank."""

    def __init__(self, engine: DeepSpeedEngine, module: nn.Module, did: Callable[[], None] = lambda: None) -> None:
        self._engine, self._did = engine, did
        self._parameters = {name: one for name, one in module.named_parameters() if one.requires_grad}
        self._first, self._world = dist.get_rank() == 0, dist.get_world_size()

    @torch.no_grad()
    def save(self, folder: Path) -> None:
        """Into ``folder``, written by rank 0, at most a gigabyte at one time in memory."""
        writer = _Writer(folder) if self._first else None
        for name, parameter in self._parameters.items():
            for key in (VALUE, *MOMENTS):
                whole = self._whole(parameter, key)
                if writer and whole is not None:
                    writer.add(f"{name}/{key}", whole)
            step = self._step_of(parameter)
            if writer and step is not None:
                writer.add(f"{name}/{STEP}", step.detach().float().cpu().reshape(1).clone())
            self._did()
        if writer:
            writer.close()

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Raises: UserError, on rank 0, if a parameter is missing or has another shape."""
        reader = _Reader(folder) if self._first else None
        for name, parameter in self._parameters.items():
            found = reader.of(name, _shape(parameter)) if reader else {}
            for key in _told(sorted(found), self._world):
                whole = self._handed_out(found.get(key), key, parameter)
                self._put(parameter, key, whole)
            self._did()

    def _whole(self, parameter: nn.Parameter, key: str) -> Tensor | None:
        """On rank 0 and the CPU; ``None`` of a moment that no step has made yet."""
        piece = self._piece(parameter, key)
        if not self._sharded or self._world == 1:
            here = piece if self._first else None
            return None if here is None else here.values.detach().float().cpu().reshape(_shape(parameter)).clone()
        if key != VALUE and not self._has_moments():
            return None
        whole = torch.zeros(_size(parameter), dtype=torch.float32, device=self._engine.device)
        if piece is not None:
            whole[piece.start : piece.start + len(piece.values)] = piece.values
        dist.reduce(whole, dst=0)
        return whole.cpu().reshape(_shape(parameter)) if self._first else None

    def _handed_out(self, whole: Tensor | None, key: str, parameter: nn.Parameter) -> Tensor:
        shape = (1,) if key == STEP else _shape(parameter)
        if whole is None:
            whole = torch.empty(shape, dtype=torch.float32)
        whole = whole.float().to(self._engine.device)
        if self._world > 1:
            dist.broadcast(whole, src=0)
        return whole

    def _put(self, parameter: nn.Parameter, key: str, whole: Tensor) -> None:
        if key != VALUE:
            self._make_moments(parameter)
        if key == STEP:
            for state in self._states(parameter):
                state[STEP] = torch.full_like(state[STEP], whole.item())
            return
        flat, piece = whole.flatten(), self._piece(parameter, key)
        if piece is not None:
            piece.values.copy_(flat[piece.start : piece.start + len(piece.values)])
        if key == VALUE:
            self._put_into_network(parameter, flat)

    def _put_into_network(self, parameter: nn.Parameter, flat: Tensor) -> None:
        """The weights that the network computes with, in their own precision."""
        if not hasattr(parameter, "ds_id"):
            parameter.copy_(flat.view_as(parameter))
            return
        if parameter.numel() == len(flat):  # small ones stay whole beside their shards
            parameter.copy_(flat.view_as(parameter))
        shard: Tensor = parameter.ds_tensor  # type: ignore[attr-defined]
        part = flat[shard.numel() * dist.get_rank() :][: shard.numel()]
        shard.view(-1)[: len(part)].copy_(part)

    # What follows knows how DeepSpeed keeps its state.

    @property
    def _sharded(self) -> bool:
        return bool(self._engine.zero_optimization_stage())

    @property
    def _adamw(self) -> torch.optim.Optimizer:
        optimizer: torch.optim.Optimizer = self._engine.optimizer.optimizer if self._sharded else self._engine.optimizer
        return optimizer

    def _flats(self) -> list[Tensor]:
        """The tensors that AdamW steps: this rank's parts, or the parameters themselves."""
        shards = getattr(self._engine.optimizer, "fp32_partitioned_groups_flat", None)
        return list(shards) if shards else [one for group in self._adamw.param_groups for one in group["params"]]

    def _states(self, parameter: nn.Parameter) -> list[dict[str, Tensor]]:
        """AdamW's, of the tensors that hold this parameter; all have made the same number of steps."""
        states: Mapping[Any, dict[str, Tensor]] = self._adamw.state
        held = self._flats() if self._sharded else [parameter]
        return [states[one] for one in held if states.get(one)]

    def _step_of(self, parameter: nn.Parameter) -> Tensor | None:
        return next((state[STEP] for state in self._states(parameter)), None)

    def _has_moments(self) -> bool:
        return any(self._adamw.state.get(one) for one in self._flats())

    def _make_moments(self, parameter: nn.Parameter) -> None:
        """Zeros, as AdamW makes them at its first step."""
        made = False
        on_device = any(group.get("fused") or group.get("capturable") for group in self._adamw.param_groups)
        for one in self._flats() if self._sharded else [parameter]:
            if not self._adamw.state.get(one):
                step = torch.zeros((), dtype=torch.float32, device=one.device if on_device else "cpu")
                self._adamw.state[one] = {STEP: step, **{key: torch.zeros_like(one) for key in MOMENTS}}
                made = True
        if made and hasattr(self._engine.optimizer, "_lazy_init_hp_params_optimizer_state"):
            self._engine.optimizer._lazy_init_hp_params_optimizer_state()

    def _piece(self, parameter: nn.Parameter, key: str) -> Piece | None:
        """``None`` if this rank holds nothing of it, or not yet."""
        if not self._sharded:
            tensor = parameter if key == VALUE else self._adamw.state.get(parameter, {}).get(key)
            return None if tensor is None else Piece(0, tensor.view(-1))
        if hasattr(parameter, "ds_id"):
            return self._shard(parameter, key)
        held = parameter._hp_mapping  # type: ignore[attr-defined]
        if held is None or (key != VALUE and not held.optim_fragment):
            return None
        values = held.hp_fragment if key == VALUE else held.optim_fragment[key]
        return Piece(held.lp_fragment_address.start, values)

    def _shard(self, parameter: nn.Parameter, key: str) -> Piece | None:
        """Of ZeRO-3: an equal part on every rank, the last ones with padding at their end."""
        if key != VALUE and not self._has_moments():
            return None
        optimizer = self._engine.optimizer
        values, _ = optimizer._get_fp32_opt_state_partition(
            parameter, release_swap_buffers=False, optim_state_key=None if key == VALUE else key
        )
        start = values.numel() * dist.get_rank()
        return Piece(start, values[: max(0, _size(parameter) - start)])


class _Writer:
    """Tensors into files of about a gigabyte, the next one beginning when the last is full."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._bytes, self._count = folder, 0, 0
        self._waiting: dict[str, Tensor] = {}
        self._where: dict[str, str] = {}

    def add(self, name: str, tensor: Tensor) -> None:
        self._waiting[name] = tensor.contiguous()
        self._bytes += tensor.nbytes
        if self._bytes >= _FILE_BYTES:
            self._write()

    def close(self) -> None:
        self._write()
        (self._folder / _INDEX).write_text(json.dumps(self._where))

    def _write(self) -> None:
        if not self._waiting:
            return
        file = f"state-{self._count:05d}.safetensors"
        save_file(self._waiting, self._folder / file)
        self._where |= dict.fromkeys(self._waiting, file)
        self._waiting, self._bytes, self._count = {}, 0, self._count + 1


class _Reader:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._where: dict[str, str] = json.loads((folder / _INDEX).read_text())
        self._open: dict[str, Any] = {}

    def of(self, name: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
        """``value`` and, if a step has been made, the rest."""
        keys = [key for key in (VALUE, *MOMENTS, STEP) if f"{name}/{key}" in self._where]
        found = {key: self._tensor(f"{name}/{key}") for key in keys}
        if VALUE not in found:
            raise UserError(f"{self._folder}: no state of '{name}' here; resume with the policy it was written with.")
        if tuple(found[VALUE].shape) != shape:
            raise UserError(
                f"{self._folder}: '{name}' has shape {tuple(found[VALUE].shape)} here and {shape} in this policy; "
                "resume with the policy it was written with."
            )
        return found

    def _tensor(self, name: str) -> Tensor:
        file = self._where[name]
        if file not in self._open:
            self._open[file] = safe_open(self._folder / file, framework="pt")
        tensor: Tensor = self._open[file].get_tensor(name)
        return tensor


def _told(keys: list[str], world: int) -> Iterator[str]:
    """Which kinds of tensors rank 0 has found for a parameter, ``value`` before what belongs to it."""
    box = [keys]
    if world > 1:
        dist.broadcast_object_list(box, src=0)
    return iter(sorted(box[0], key=lambda key: (key != VALUE, key == STEP)))


def _size(parameter: nn.Parameter) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _shape(parameter: nn.Parameter) -> tuple[int, ...]:
    return tuple(getattr(parameter, "ds_shape", parameter.shape))
