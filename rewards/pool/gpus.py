"""Which GPUs a local worker may see. Ray does this itself on a cluster."""

from __future__ import annotations

import os
import re

from rl.types import UserError


def visible_gpus() -> list[str]:
    """Names for ``CUDA_VISIBLE_DEVICES`` of the GPUs that this process may use, found without CUDA."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip()]
    count = sum(bool(re.fullmatch(r"nvidia\d+", entry)) for entry in os.listdir("/dev"))
    return [str(index) for index in range(count)]


class Devices:
    """The GPUs of this machine: each worker gets the least loaded ones, the first of equals."""

    def __init__(self, gpus: list[str]) -> None:
        self._load = dict.fromkeys(gpus, 0.0)

    def assign(self, name: str, share: float) -> str:
        """The worker's ``CUDA_VISIBLE_DEVICES``; ``""`` for a share of 0.

        Raises ``UserError`` if the reward ``name`` asks for more GPUs than there are.
        """
        if share == 0:
            return ""
        count = max(1, int(share))
        if count > len(self._load):
            raise UserError(
                f"rewards.{name}.gpus is {share:g}, but this machine shows {len(self._load)} GPUs; "
                f"set rewards.{name}.gpus to 0 to run it on the CPU"
            )
        chosen = sorted(self._load, key=lambda gpu: self._load[gpu])[:count]
        for gpu in chosen:
            self._load[gpu] += share / count
        return ",".join(chosen)
