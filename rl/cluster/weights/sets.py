"""A set of weights as its readers have it: mapped, verified to the last bit before anything is used, then read-only."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from policy.checksums import exact_sum
from policy.trainable import Adapter, WeightStream
from rl.cluster.weights.canary import read
from rl.cluster.weights.manifest import MANIFEST_FILE, Manifest, PartEntry, TensorEntry
from rollout.sync import Canary
from rollout.weights import SyncError

_VERIFIERS = 4


class MissingWeights(SyncError):
    """This machine does not have a set of that version: it is to be pulled."""


class DamagedWeights(SyncError):
    """A set that is not what was published; it is not used."""


class WeightSet:
    """One version, whole and verified. While it is open nobody removes its files; its tensors are views of them."""

    def __init__(self, folder: Path, version: int) -> None:
        """Raises: MissingWeights, or DamagedWeights naming version, file and tensor."""
        self.folder, self.version = folder, version
        self._held = _held(folder, version)
        try:
            self.manifest = _read_manifest(folder, version)
            self._tensors = {name: _verified(folder, version, part) for name, part in self.manifest.parts.items()}
        except BaseException:
            self.close()
            raise
        self._rounded: dict[tuple[str, torch.dtype], Mapping[str, int]] = {}

    @property
    def parts(self) -> Sequence[str]:
        """``ar``, ``decoder``."""
        return tuple(self.manifest.parts)

    def stream(self, part: str) -> WeightStream:
        """A part's weights, or its adapters where they are what was published."""
        return WeightStream.of(self._tensors[part].items())

    def adapter(self, part: str) -> Adapter | None:
        """The adapters alone; ``None`` where whole weights were published."""
        config = self.manifest.parts[part].adapter
        return None if config is None else Adapter(config, self.stream(part))

    def source(self, part: str) -> str:
        """The part's file."""
        return str(self.folder / self.manifest.parts[part].file)

    def canaries(self) -> dict[str, Canary]:
        return read(self.manifest.canaries)

    def sums(self, part: str, dtype: torch.dtype) -> Mapping[str, int]:
        """Name -> exact sum of each tensor, rounded to ``dtype``; in its own, the published one."""
        if (part, dtype) not in self._rounded:
            self._rounded[part, dtype] = {
                one.name: one.total if one.torch_dtype == dtype else exact_sum(self._tensors[part][one.name].to(dtype))
                for one in self.manifest.parts[part].tensors
            }
        return self._rounded[part, dtype]

    def close(self) -> None:
        """Its files may go; tensors that somebody keeps stay readable."""
        if self._held >= 0:
            os.close(self._held)
        self._held = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def set_folder(store: Path, version: int) -> Path:
    return store / f"version-{version:06d}"


def _held(folder: Path, version: int) -> int:
    """A descriptor with a shared lock on the manifest. Raises: MissingWeights."""
    path = folder / MANIFEST_FILE
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise MissingWeights(f"weights of version {version}: there is no {path} on this machine.") from error
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    try:
        there = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        there = False
    if not there:
        os.close(descriptor)
        raise MissingWeights(f"weights of version {version}: {folder} was removed; nobody was to ask for it any more.")
    return descriptor


def _read_manifest(folder: Path, version: int) -> Manifest:
    path = folder / MANIFEST_FILE
    try:
        manifest = Manifest.of(path.read_text())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedWeights(f"weights of version {version}: {path} is damaged ({error}).") from error
    if manifest.version != version:
        raise DamagedWeights(
            f"weights of version {version}: {path} is the manifest of version {manifest.version}, so these weights are "
            f"{'old' if manifest.version < version else 'newer'} ones."
        )
    return manifest


def _verified(folder: Path, version: int, part: PartEntry) -> dict[str, Tensor]:
    path = folder / part.file
    if not path.is_file():
        raise DamagedWeights(f"weights of version {version}: {path} is missing.")
    if (size := path.stat().st_size) != part.size:
        first = next((one for one in part.tensors if one.start + one.size > size), None)
        lost = f", so '{first.name}' and what follows it are lost" if first else ""
        raise DamagedWeights(f"weights of version {version}: {path} has {size:,} bytes of {part.size:,}{lost}.")
    whole = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8) if size else torch.empty(0)
    with ThreadPoolExecutor(_VERIFIERS) as pool:  # both checksums let others run
        found = list(pool.map(lambda one: _tensor(whole, one), part.tensors))
    for one, tensor in zip(part.tensors, found, strict=True):
        if tensor is None:
            raise DamagedWeights(
                f"weights of version {version}: '{one.name}' in {path} (bytes {one.start:,} to "
                f"{one.start + one.size:,}) is damaged."
            )
    return {one.name: tensor for one, tensor in zip(part.tensors, found, strict=True) if tensor is not None}


def _tensor(whole: Tensor, one: TensorEntry) -> Tensor | None:
    """``None``: it is not what was published."""
    if not one.sound or one.start + one.size > len(whole):
        return None
    part = whole[one.start : one.start + one.size]
    if zlib.crc32(part.numpy().data) != one.crc:
        return None
    tensor = part.view(one.torch_dtype).view(one.shape)
    return tensor if exact_sum(tensor) == one.total else None
