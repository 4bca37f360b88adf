"""A phase of a run that the memory does not suffice for: one sentence, with the phase and the key to lower."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from rl.types import RunFailure

_SAYS = re.compile(r"out of memory|can't allocate memory|not enough memory|Cannot allocate memory", re.IGNORECASE)
_AMOUNT = re.compile(r"allocate (\d[\d.]*) ?([KMGT]i?B|bytes)", re.IGNORECASE)
_TRAIN = "lower train.micro_batch"
_FIXES = {
    "sample": "lower rollout.options.max_num_seqs, or with vLLM rollout.options.kv_cache_mb",
    "paint": "lower render.micro_batch; with vLLM rollout.sleep=1 lends its memory",
    "forward": _TRAIN,
    "guards": "lower guards.render_fidelity_share",
    "update": f"{_TRAIN}, then train.logprob_chunk; train.gradient_checkpointing=on, train.lora={{}} and a higher "
    "train.zero_stage take less",
    "evaluate": "lower render.micro_batch",
    "decoder": "lower decoder.micro_batch; decoder.gradient_checkpointing=on and decoder.lora={} take less",
}
_ELSE = (
    "use bfloat16 (policy.dtype, train.dtype) or a smaller policy; train.lora={}, or kl=null and anchor=null, save the "
    "reference"
)


class OutOfMemory(RunFailure):
    """The memory did not suffice for a phase."""


@contextmanager
def memory_of_phase(phase: str) -> Iterator[None]:
    """Around one phase. Raises: OutOfMemory for what Python, torch on a CPU and torch on a GPU say of it."""
    try:
        yield
    except OutOfMemory:
        raise  # of a phase inside this one
    except (MemoryError, OSError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        wanted = _wanted(error)
        raise OutOfMemory(
            f"out of memory in '{phase}'{f', which asked for {wanted} more' if wanted else ''}: "
            f"{_FIXES.get(phase.partition(':')[0], _ELSE)} (--dry-run shows what takes how much)."
        ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or (not isinstance(error, RunFailure) and bool(_SAYS.search(str(error))))


def _wanted(error: BaseException) -> str:
    """How much could not be had, in GB or MB, as far as the message says."""
    found = _AMOUNT.search(str(error))
    if found is None:
        return ""
    if found[2].lower() != "bytes":
        return f"{found[1].rstrip('.')} {found[2]}"
    count = float(found[1])
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
