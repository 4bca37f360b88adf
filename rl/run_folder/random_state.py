"""The global random-number generators in and out of a checkpoint."""

from __future__ import annotations

import base64
import random
from typing import TypedDict

import numpy as np
import torch


class RngState(TypedDict):
    """Of Python's, NumPy's and torch's global generators, as JSON."""

    python: tuple[int, list[int], float | None]
    numpy: tuple[str, list[int], int, int, float]
    torch: list[str]


def rng_state() -> RngState:
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    torch_states = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    return {
        "python": (version, list(internal), gauss),
        "numpy": (str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)),
        "torch": [base64.b64encode(value.numpy().tobytes()).decode() for value in torch_states],
    }


def restore_rng(state: RngState) -> None:
    """Sets the global generators to a ``rng_state()``."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    cpu, *devices = (torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8) for text in state["torch"])
    torch.set_rng_state(cpu)
    if torch.cuda.is_available() and devices:
        torch.cuda.set_rng_state_all(devices)
