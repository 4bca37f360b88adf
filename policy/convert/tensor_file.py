"""One ``.safetensors`` file: where each tensor's bytes lie, and a new file from bytes that lie elsewhere.

The library reads and writes whole tensors; here bytes are carried over, so that a model larger than memory passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path

from rl.types import UserError

BLOCK = 1 << 20
"""Numbers that are read at a time."""
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_LENGTH = 8  # bytes of the number that a file begins with: how long its header is
_METADATA = "__metadata__"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on the disk; ``start`` and ``size`` count bytes of ``file``."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Its bytes, ``BLOCK`` numbers at a time."""
        step = BLOCK * _BYTES[self.dtype]
        with self.file.open("rb") as content:
            content.seek(self.start)
            for done in range(0, self.size, step):
                yield content.read(min(step, self.size - done))


@dataclass(frozen=True)
class TensorFile:
    """``header``: its first bytes as they stand, up to the first tensor. ``tensors``: by name, in the file's order."""

    path: Path
    header: bytes
    tensors: Mapping[str, StoredTensor]


def read_tensor_file(file: Path) -> TensorFile:
    """The header alone. Raises: UserError if it is no whole file of this format."""
    with file.open("rb") as content:
        first = content.read(_LENGTH)
        length = int.from_bytes(first, "little")
        text = content.read(length) if length < file.stat().st_size else b""
    begin = _LENGTH + length
    try:
        listed = json.loads(text)
        tensors = {name: _stored(file, begin, entry) for name, entry in listed.items() if name != _METADATA}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file} is no whole .safetensors file; download it again.") from None
    if any(one.size != prod(one.shape) * _BYTES.get(one.dtype, 0) for one in tensors.values()):
        raise UserError(f"{file} holds numbers of another kind than {', '.join(_BYTES)}; convert it first.")
    end = max((one.start + one.size for one in tensors.values()), default=begin)
    if end != file.stat().st_size:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes and should have {end:,}; download it again.")
    return TensorFile(file, first + text, dict(sorted(tensors.items(), key=lambda pair: pair[1].start)))


def write_tensor_file(file: Path, tensors: Mapping[str, StoredTensor]) -> None:
    """Wide numbers first, so that each lies at a multiple of its width, as the library expects."""
    ordered = sorted(tensors.items(), key=lambda pair: (-_BYTES[pair[1].dtype], pair[0]))
    ends = list(accumulate(one.size for _, one in ordered))
    listed: dict[str, object] = {_METADATA: {"format": "pt"}}
    for (name, one), end in zip(ordered, ends, strict=True):
        listed[name] = {"dtype": one.dtype, "shape": one.shape, "data_offsets": [end - one.size, end]}
    text = json.dumps(listed, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _LENGTH)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(_LENGTH, "little") + text)
        for _, one in ordered:
            out.writelines(one.blocks())


def _stored(file: Path, begin: int, entry: Mapping[str, object]) -> StoredTensor:
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(shape, list) or not isinstance(offsets, list):
        raise TypeError
    start, end = offsets
    return StoredTensor(file, str(entry["dtype"]), tuple(map(int, shape)), begin + int(start), int(end) - int(start))
