"""The weights of a policy folder, which every machine has: what adapters that come alone are merged into."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file
from torch import Tensor

from policy.checksums import exact_sum
from policy.parts import REFERENCE_PART

_DECODER = ("connector", "transformer", REFERENCE_PART)
_FOLDERS = {"ar": {"ar": ""}, "decoder": {part: f"{part}." for part in _DECODER}}


class BaseWeights:
    """Those of one part, and the sums of their bits, each added up once."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self._sums: dict[tuple[str, torch.dtype], int] = {}

    @classmethod
    def read(cls, policy_folder: Path, part: str, dtype: torch.dtype | None = None) -> Self:
        """Under the names of the part's weights, a tied head under both of its names; mapped, so that all processes of
        a machine share them, but for what ``dtype`` rounds."""
        found: dict[str, Tensor] = {}
        for folder, prefix in _FOLDERS[part].items():
            for file in sorted((policy_folder / folder).glob("*.safetensors")):
                found |= {f"{prefix}{name}": value.to(dtype or value.dtype) for name, value in load_file(file).items()}
        if part == "ar":
            found.setdefault("lm_head.weight", found["model.embed_tokens.weight"])
        return cls(found)

    @property
    def fingerprint(self) -> int:
        """Of all of it, by which machines know that they have the same."""
        told = [f"{name} {self.sum(name, value.dtype)}" for name, value in sorted(self.tensors.items())]
        return zlib.crc32("\n".join(told).encode())

    def sum(self, name: str, dtype: torch.dtype) -> int:
        """The exact sum of one tensor, rounded to ``dtype``."""
        if (name, dtype) not in self._sums:
            self._sums[name, dtype] = exact_sum(self.tensors[name].to(dtype))
        return self._sums[name, dtype]
