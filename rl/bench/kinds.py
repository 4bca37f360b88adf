"""What a step's seconds and its floor go to, by kind of work: how much of them no faster product could save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from torch.profiler import ProfilerActivity, profile

ATTENTION, PRODUCTS = MULTIPLYING = ("attention", "products and convolutions")
_KINDS = {  # the first whose word is in an operation's name
    ATTENTION: ("attention",),
    PRODUCTS: ("::mm", "::addmm", "::bmm", "::baddbmm", "::linear", "convolution"),
    "compiled loops: norms, activations, rotary": ("compiledfx", "compiledfunction"),
    "copies and gathers": ("copy_", "::cat", "index", "gather", "scatter", "clone", "::pad", "contiguous", "stack"),
    "other operations of torch": ("::",),
}
_REST = "Python, NumPy, waiting for a thread"
TRAFFIC, REWARDS = "weights and optimizer through memory", "rewards on all cores"
"""That a floor has besides; in a step they are part of other kinds."""


class Operation(Protocol):
    """What torch's profiler knows of all calls of one name."""

    key: str
    self_cpu_time_total: float
    """Microseconds, without what it called."""


def by_kind(operations: Iterable[Operation]) -> dict[str, float]:
    """Seconds of each kind."""
    found = dict.fromkeys([*_KINDS, _REST], 0.0)
    for one in operations:
        found[kind_of(one.key)] += one.self_cpu_time_total / 1e6
    return found


def profiled_kinds(act: Callable[[], object]) -> Mapping[str, float]:
    """Of what ``act`` does."""
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        act()
    return by_kind(trace.key_averages())


def kind_of(name: str) -> str:
    """Of an operation: ``aten::addmm``."""
    low = name.lower()
    return next((kind for kind, words in _KINDS.items() if any(word in low for word in words)), _REST)
