"""The most memory that the run's process has held so far."""

from __future__ import annotations

import torch

from rl.process.peak import peak_bytes


def peaks() -> dict[str, float]:
    """GB: ``peak_gb`` of this process, ``gpu_peak_gb`` of what torch has reserved on its GPU, if it has one."""
    found = {"peak_gb": round(peak_bytes() / 1e9, 3)}
    if torch.cuda.is_available():
        found["gpu_peak_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 3)
    return found
