"""A phase that the memory does not suffice for ends in a sentence that names it and the key to lower."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rl.process.out_of_memory import OutOfMemory, memory_of_phase
from rl.process.peak import peak_bytes
from rl.tracking.stopwatch import Stopwatch
from rl.types import RunFailure

ON_CPU = (
    "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "4000000000 bytes. Error code 12 (Cannot allocate memory)"
)
ON_GPU = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.2 GiB is free."
)


@pytest.mark.parametrize(
    ("phase", "error", "sentence"),
    [
        (
            "update",
            RuntimeError(ON_CPU),
            "in 'update', which asked for 4.00 GB more: lower train.micro_batch, then train.",
        ),
        (
            "paint",
            torch.cuda.OutOfMemoryError(ON_GPU),
            "in 'paint', which asked for 2.50 GiB more: lower render.micro_b",
        ),
        ("sample", MemoryError(), "in 'sample': lower rollout.options.max_num_seqs, or with vLLM rollout.options.kv_"),
        ("sync", MemoryError(), "in 'sync': use bfloat16"),
    ],
)
def test_the_phase_the_amount_and_the_key(phase: str, error: Exception, sentence: str) -> None:
    timer = Stopwatch()
    with pytest.raises(OutOfMemory, match=f"^out of memory {sentence}") as caught, timer(phase):
        raise error
    assert isinstance(caught.value, RunFailure) and caught.value.__cause__ is error


def test_the_inner_phase_is_named() -> None:
    timer = Stopwatch()
    with pytest.raises(OutOfMemory, match="in 'paint'"), timer("evaluate"), timer("paint"):
        raise MemoryError


def test_what_torch_and_numpy_really_say() -> None:
    with pytest.raises(OutOfMemory, match=r"in 'update', which asked for [\d.]+ GB more"), memory_of_phase("update"):
        torch.empty(2**45)
    with pytest.raises(OutOfMemory, match=r"in 'paint', which asked for [\d.]+ TiB more"), memory_of_phase("paint"):
        np.empty(2**45)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), OSError("disk"), RunFailure("out of memory, it says")]
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)) as caught, memory_of_phase("update"):
        raise error
    assert caught.value is error


def test_the_peak_of_a_process() -> None:
    before = peak_bytes()
    block = np.ones(40_000_000)
    assert peak_bytes() - before > 200e6 or before > 300e6
    del block
    assert peak_bytes() >= before
    assert peak_bytes(2**30) == 0  # nobody has this number
