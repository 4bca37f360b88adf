"""Whether a tensor is the one it was, and what is written where it is not; some megabytes of it at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from policy.convert.tensor_file import StoredTensor

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Of one shape: the same numbers, ``other`` rounded to the type of ``one``; of one type: the same bytes."""
    pairs = zip(one.blocks(), other.blocks(), strict=True)
    if one.dtype == other.dtype:
        return all(block == again for block, again in pairs)
    dtype = _DTYPES[one.dtype]
    return all(torch.equal(_tensor(block, one), _tensor(again, other).to(dtype)) for block, again in pairs)


def blocks_as(tensor: StoredTensor, dtype: str) -> Iterator[bytes]:
    """Its bytes as numbers of another type."""
    if tensor.dtype == dtype:
        yield from tensor.blocks()
        return
    for block in tensor.blocks():
        yield _tensor(block, tensor).to(_DTYPES[dtype]).view(torch.uint8).numpy().tobytes()


def _tensor(block: bytes, stored: StoredTensor) -> Tensor:
    return torch.frombuffer(bytearray(block), dtype=_DTYPES[stored.dtype])
