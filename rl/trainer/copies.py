"""Copies of what a trainer trains: slow ones, kept on every rank alike and saved by the first, and that of the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rl.algorithm.copies import Decay, WeightCopy, constant
from rl.config.section import Optimisation
from rl.types import UserError

EMA = "ema"
"""The name of the slow copy that is kept for evaluation."""
_FILE = "copies.safetensors"
Lending = Callable[[], AbstractContextManager[object]]
"""Around work with other weights than those of now."""


class WeightCopies:
    """``{"old": ..., "ema": ...}`` beside the live weights; none at all is a mapping of nothing, and costs nothing."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decays: Mapping[str, Decay], config: Optimisation):
        """Raises: UserError where ZeRO-3 has cut the weights up, of which a copy would need the whole."""
        if decays and config.zero_stage == 3:
            raise UserError(
                f"{config.section}.zero_stage: 3 cuts the weights up, and slow copies of them ({', '.join(decays)}) "
                "need the whole; use stage 2"
            )
        masters = _masters if config.dtype != "float32" else None
        self._copies = {name: WeightCopy(parameters.items(), decay, masters) for name, decay in decays.items()}

    @property
    def names(self) -> Sequence[str]:
        return list(self._copies)

    def follow(self, updates: int, names: Sequence[str]) -> None:
        """A collective call where the weights have masters elsewhere."""
        for name in names:
            self._copies[name].follow(updates)

    @contextmanager
    def lent(self, name: str) -> Iterator[None]:
        """The network computes with a copy inside."""
        with self._copies[name].lent():
            yield

    def save(self, folder: Path) -> None:
        if self._copies:
            whole = {f"{name}/{key}": value for name, one in self._copies.items() for key, value in one.state().items()}
            save_file({key: value.cpu().contiguous() for key, value in whole.items()}, folder / _FILE)

    def check(self, folder: Path) -> None:
        """Raises: UserError if ``folder`` holds no copies, and there are some to be gone on with."""
        if self._copies and not (folder / _FILE).is_file():
            raise UserError(
                f"{folder}: no copies of the weights here ({_FILE} is missing), and this run goes on with "
                f"{', '.join(self._copies)}; resume with the configuration it was written with."
            )

    def load(self, folder: Path, *, first: bool, world: int) -> None:
        """Rank 0 reads; a collective call."""
        if not self._copies:
            return
        saved = load_file(folder / _FILE) if first else {}
        for name, one in self._copies.items():
            held = one.state()
            one.restore({key: _told(saved.get(f"{name}/{key}"), value, world) for key, value in held.items()})


def kept(parameters: Mapping[str, nn.Parameter]) -> Lending:
    """Of the weights as they are now, to be worked with later. All ranks call it, and enter and leave what it returns
    together."""
    if not any(hasattr(one, "ds_id") for one in parameters.values()):
        return WeightCopy(parameters.items(), constant(1.0)).lent
    return _CutCopy(list(parameters.values())).lent


class _CutCopy:
    """Of weights that ZeRO-3 has cut up: every rank keeps its own pieces."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters
        self._copy = self._pieces()

    @contextmanager
    def lent(self) -> Iterator[None]:
        own = self._pieces()
        try:
            with torch.no_grad():
                self._put(self._copy)
                yield
        finally:
            self._put(own)

    def _pieces(self) -> list[Tensor]:
        return [_piece(one).detach().clone() for one in self._parameters]

    @torch.no_grad()
    def _put(self, pieces: Sequence[Tensor]) -> None:
        for one, piece in zip(self._parameters, pieces, strict=True):
            _piece(one).copy_(piece)
            if one.numel() == one.ds_numel:  # type: ignore[attr-defined]  # some stay whole beside their pieces
                whole = [torch.empty_like(piece) for _ in range(dist.get_world_size())]
                dist.all_gather(whole, piece)
                one.copy_(torch.cat(whole)[: one.numel()].view_as(one))


def _piece(parameter: nn.Parameter) -> Tensor:
    piece: Tensor = parameter.ds_tensor  # type: ignore[attr-defined]
    return piece


def _told(saved: Tensor | None, like: Tensor, world: int) -> Tensor:
    """Rank 0's, on every rank."""
    whole = torch.empty_like(like) if saved is None else saved.to(like.device)
    if world > 1:
        dist.broadcast(whole, src=0)
    return whole


def _masters(live: Tensor) -> Tensor:
    """The float32 weights that the optimizer steps; a collective call."""
    from deepspeed.utils import safe_get_full_fp32_param

    found: Tensor = safe_get_full_fp32_param(live)
    return found
