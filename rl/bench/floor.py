"""The least time of a stage: its products (attention's among them) as fast as this machine does them alone, the
weights and optimizer states that have to pass through memory over its bandwidth, and the rewards' CPU time over all
cores.

Nothing else is in it: no normalisation, no activation, no copy, no Python. A stage at twice its floor spends half of
its time on those.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from rl.bench.contract import StageFloor
from rl.bench.kinds import REWARDS, TRAFFIC
from rl.bench.products import Product

_MEASURED_SHARE = 0.99
_COPIED = 32 << 20
Measure = Callable[[Product], float]


@dataclass
class StageWork:
    """What a stage has to do."""

    products: Mapping[Product, int] = field(default_factory=dict)
    """And how often each is called."""
    traffic: float = 0.0
    """Bytes that are read or written outside of products."""
    cpu_s: float = 0.0
    """Seconds of other processes, on one core."""

    @property
    def flops(self) -> int:
        return sum(product.flops * calls for product, calls in self.products.items())


def stage_floor(stage: str, work: StageWork, measure: Measure, bandwidth: float, cores: int) -> StageFloor:
    """``measure``: seconds of one call; ``bandwidth`` in bytes a second."""
    seconds = products_s(work.products, measure)
    if work.traffic:
        seconds[TRAFFIC] = work.traffic / bandwidth
    if work.cpu_s:
        seconds[REWARDS] = work.cpu_s / cores
    return StageFloor(stage, work.flops / 1e9, sum(seconds.values()), seconds)


def products_s(products: Mapping[Product, int], measure: Measure) -> dict[str, float]:
    """By kind. Those with the most FLOPs are measured, until 99 % are; the rest counts at their mean rate."""
    total = sum(product.flops * calls for product, calls in products.items())
    done, seconds = 0, defaultdict[str, float](float)
    for product, calls in sorted(products.items(), key=lambda one: -one[0].flops * one[1]):
        if done >= _MEASURED_SHARE * total:
            break
        seconds[product.kind] += measure(product) * calls
        done += product.flops * calls
    return {kind: one * total / done for kind, one in seconds.items()}


def memory_bandwidth() -> float:
    """Bytes a second, read and written, of a copy that does not fit into the cache."""
    source = torch.ones(_COPIED)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - began)
    return 2 * source.nbytes / min(seconds[1:])
