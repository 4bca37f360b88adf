"""A set of weights into a folder, one tensor at a time: a second copy of the model never exists in memory."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from policy.checksums import exact_sum
from policy.trainable import Adapter, WeightStream
from rl.cluster.weights.canary import written
from rl.cluster.weights.manifest import MANIFEST_FILE, Manifest, PartEntry, TensorEntry
from rollout.sync import Canary

_ALIGNED = 64
PublishedPart = WeightStream | Adapter
"""A part as a whole, or its adapters alone."""


def write_set(
    folder: Path, version: int, parts: Mapping[str, PublishedPart], canaries: Mapping[str, Canary] | None = None
) -> Manifest:
    """Into an existing empty folder, the manifest last, all of it on the disk when this returns."""
    entries = {name: _write_part(folder / f"{name}.bin", part) for name, part in parts.items()}
    manifest = Manifest(version, entries, written(canaries or {}))
    write_manifest(folder, manifest.text())
    return manifest


def write_manifest(folder: Path, text: str) -> None:
    with (folder / MANIFEST_FILE).open("wb") as file:
        file.write(text.encode())
        _flush(file)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_part(path: Path, part: PublishedPart) -> PartEntry:
    stream, adapter = (part.weights, part.config) if isinstance(part, Adapter) else (part, None)
    entries: list[TensorEntry] = []
    with path.open("w+b") as file:
        for name, tensor in stream.tensors():
            entries.append(_write_tensor(file, name, tensor, entries))
        _flush(file)
        size = file.tell()
    path.chmod(0o444)
    return PartEntry(path.name, size, entries, adapter)


def _write_tensor(file: BinaryIO, name: str, tensor: Tensor, before: list[TensorEntry]) -> TensorEntry:
    flat = tensor.detach().to("cpu").contiguous().view(-1)
    content = flat.view(torch.uint8).numpy().data
    entry = TensorEntry(
        name=name,
        dtype=str(tensor.dtype).removeprefix("torch."),
        shape=tuple(tensor.shape),
        start=file.tell(),
        size=len(content),
        crc=zlib.crc32(content),
        total=exact_sum(flat),
    )
    for other in before:  # a tied head comes under both of its names
        if _may_be_twins(entry, other) and os.pread(file.fileno(), other.size, other.start) == content:
            return TensorEntry(**{**vars(entry), "start": other.start})
    file.write(content)
    file.write(bytes(-len(content) % _ALIGNED))
    file.flush()
    return entry


def _may_be_twins(one: TensorEntry, other: TensorEntry) -> bool:
    return (one.crc, one.total, one.dtype, one.shape) == (other.crc, other.total, other.dtype, other.shape)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
