"""Where a model reward's weights come from, and where and how they run: files, devices, number types, batches.

A checkpoint is a local path or a name on the Hugging Face hub (``owner/name``, or ``owner/name:file`` for a single
file). Pickles are read with ``weights_only=True``: a weight file cannot run code.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rewards.library.models.hub import check_reachable, check_revision, out_of_reach
from rl.types import UserError

ModuleT = TypeVar("ModuleT", bound=nn.Module)
_BROKEN = (pickle.UnpicklingError, struct.error, RuntimeError, EOFError, OSError, ValueError, KeyError, SafetensorError)
DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """The options that all model rewards share; ``at`` is their key, for error messages."""

    at: str
    device: torch.device
    dtype: torch.dtype
    batch_size: int

    def place(self, module: ModuleT) -> ModuleT:
        """The module on the device, in the number type, for inference only."""
        return module.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)


def runtime(at: str, device: str, dtype: str, batch_size: int) -> Runtime:
    """Checked options. ``device``: ``auto`` (CUDA if there is any), ``cpu``, ``cuda`` or ``cuda:1``."""
    if dtype not in DTYPES:
        raise UserError(f"{at}.dtype is {dtype!r}: it must be one of {', '.join(DTYPES)}")
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise UserError(f"{at}.batch_size is {batch_size!r}: it must be a whole number of 1 or more")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdecimal()):
        raise UserError(f"{at}.device is {device!r}: it must be 'auto', 'cpu', 'cuda' or 'cuda:0'")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{at}.device is {device!r}, and torch sees {torch.cuda.device_count()} CUDA devices; "
            f"set it to 'auto' or 'cpu'"
        )
    return Runtime(at, torch.device(device), DTYPES[dtype], batch_size)


def find_file(checkpoint: str, *, at: str, option: str = "checkpoint", revision: str | None = None) -> Path:
    """The local path of a weight file, downloaded if it is ``owner/name:file`` and not in the hub's cache."""
    check_revision(checkpoint, revision, at=at)
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    repo, separator, file = checkpoint.partition(":")
    if not separator or not file:
        raise UserError(
            f"{at}.{option}: there is no file {checkpoint!r}; name a weight file, or owner/name:file on "
            f"the Hugging Face hub"
        )
    check_reachable(checkpoint, (file,), at=at, option=option, revision=revision)
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (OSError, ValueError) as error:  # offline and not cached, no such repository, a malformed name
        raise out_of_reach(checkpoint, error, at=at, option=option, revision=revision) from error


def read_weights(path: Path, *, at: str) -> dict[str, Tensor]:
    """The state dict in a .safetensors, .pth, .pt or .bin file (there under ``state_dict`` or at the top)."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise UserError(
            f"{at}.checkpoint: {path} can't be read as weights ({_first_line(error)}); "
            f"name a state dict saved as .safetensors, .pth or .pt"
        ) from error
    state = state["state_dict"] if isinstance(state, Mapping) and "state_dict" in state else state
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{at}.checkpoint: {path} holds no state dict (names with tensors)")
    return dict(state)


def fill(module: nn.Module, state: Mapping[str, Tensor], *, at: str) -> None:
    """Copy ``state`` into ``module``; raises ``UserError`` unless names and shapes are exactly those of the module."""
    expected = module.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    reshaped = sorted(name for name in expected.keys() & state.keys() if expected[name].shape != state[name].shape)
    for what, names in (("lacks", missing), ("has the unknown", unexpected), ("has another shape of", reshaped)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise UserError(f"{at}.checkpoint: the checkpoint {what} {names[0]}{more}: it is another model's")
    module.load_state_dict(dict(state))


def batches(items: int, size: int) -> list[slice]:
    """Slices of at most ``size`` that cover ``range(items)``."""
    return [slice(start, start + size) for start in range(0, items, size)]


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:120] or type(error).__name__
