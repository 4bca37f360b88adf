"""What a set of weights holds: where each tensor lies in which file, and two checksums of each.

``manifest.json`` is one line with the CRC-32 of the next, and the next. A set without it is not there.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch

from policy.json_file import JsonObject

MANIFEST_FILE = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True)
class TensorEntry:
    """One tensor: bytes ``start`` to ``start + size`` of its part's file. A tied one lies where its twin does."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int
    crc: int
    """CRC-32 of its bytes: of the way here."""
    total: int
    """``policy.checksums.exact_sum``: what a follower's live parameters are compared with."""

    @property
    def torch_dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.dtype)
        return found

    @property
    def sound(self) -> bool:
        return self.size == prod(self.shape) * self.torch_dtype.itemsize


@dataclass(frozen=True)
class PartEntry:
    """A part of the policy in one file: all of its weights, or adapters alone."""

    file: str
    size: int
    tensors: Sequence[TensorEntry]
    adapter: JsonObject | None = None
    """peft's configuration, where the tensors are adapters."""


@dataclass(frozen=True)
class Manifest:
    """Of one version."""

    version: int
    parts: Mapping[str, PartEntry]
    canaries: Mapping[str, JsonObject]
    """Questions with the trainer's answers, by kind."""

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts.values())

    def text(self) -> str:
        content = json.dumps({"format": _FORMAT, **asdict(self)}, separators=(",", ":"))
        return f"{zlib.crc32(content.encode()):08x}\n{content}\n"

    @classmethod
    def of(cls, text: str) -> Manifest:
        """Raises: ValueError saying what is wrong with it."""
        crc, _, content = text.partition("\n")
        content = content.removesuffix("\n")
        if crc != f"{zlib.crc32(content.encode()):08x}":
            raise ValueError("its checksum is not that of its content")
        found = json.loads(content)
        if found["format"] != _FORMAT:
            raise ValueError("it was written by another version of easel-rl")
        parts = {name: _part(one) for name, one in found["parts"].items()}
        return cls(found["version"], parts, found["canaries"])


def _part(found: Mapping[str, Any]) -> PartEntry:
    tensors = [TensorEntry(**{**one, "shape": tuple(one["shape"])}) for one in found["tensors"]]
    return PartEntry(found["file"], found["size"], tensors, found["adapter"])
