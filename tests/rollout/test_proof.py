"""Exact sums: of bits, in any order, of packed parameters; and what they prove."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from policy.checksums import exact_sum
from rollout.proof import LiveSum, prove, sums_of
from rollout.weights import SyncError


class Published:
    version = 7

    def __init__(self, **sums: int) -> None:
        self._sums = sums

    def sums(self, part: str, dtype: torch.dtype) -> Mapping[str, int]:
        return self._sums

    def source(self, part: str) -> str:
        return f"{part}.bin"


def live(total: int, *names: str) -> LiveSum:
    return LiveSum(names, torch.float32, total)


def test_the_sum_of_bits_by_hand() -> None:
    # float32: 1.0 is 0x3F800000, -0.0 is 0x80000000, which counts as -2**31
    assert exact_sum(torch.tensor([1.0, 1.0])) == 2 * 0x3F800000
    assert exact_sum(torch.tensor([-0.0])) == 2**64 - 2**31
    assert exact_sum(torch.tensor([1.0], dtype=torch.bfloat16)) == 0x3F80
    assert exact_sum(torch.tensor([], dtype=torch.float32)) == exact_sum(torch.zeros(3, 2)) == 0
    assert exact_sum(torch.tensor(3)) == 3


def test_it_knows_no_order_and_sees_one_bit() -> None:
    value = torch.randn(64, 133)
    flat, transposed = value.flatten(), value.T
    assert exact_sum(flat[torch.randperm(len(flat))]) == exact_sum(transposed) == exact_sum(value)
    parts = value.split([7, 126], dim=1)
    assert sum(map(exact_sum, parts)) % 2**64 == exact_sum(value)
    for dtype, words in ((torch.bfloat16, torch.int16), (torch.float32, torch.int32), (torch.float64, torch.int64)):
        rounded = value.to(dtype)
        assert exact_sum(rounded) == int(rounded.view(words).sum(dtype=torch.int64)) % 2**64
    for bit in range(31):
        other = flat.clone()
        other.view(torch.int32)[5] ^= 1 << bit
        assert exact_sum(other) != exact_sum(value)


def test_what_is_proved() -> None:
    prove("ar", [live(5, "q", "k"), live(2, "v")], Published(q=2**64 - 1, k=6, v=2))
    for held, said in (
        ([live(5, "q", "k"), live(2, "v")], r"'q \(packed of 2\)' of ar is not what ar.bin holds"),
        ([live(4, "q", "k")], "no live parameter of ar holds 'v' of ar.bin"),
        ([live(4, "q", "k"), live(2, "x")], "the engine holds 'x', which ar does not have"),
    ):
        with pytest.raises(SyncError, match=f"weights of version 7: .*{said}"):
            prove("ar", held, Published(q=3, k=1, v=2))
    assert sums_of([("w", torch.ones(1)), (("a", "b"), torch.ones(2, dtype=torch.bfloat16))]) == [
        live(0x3F800000, "w"),
        LiveSum(("a", "b"), torch.bfloat16, 2 * 0x3F80),
    ]
