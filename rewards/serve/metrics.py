"""What a reward server counts, for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Summary, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

disable_created_metrics()  # the times at which counting began: as many lines again


class ServerMetrics:
    """The counts of one server; ``registry`` has them all."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "easel_reward_requests", "Answers to POST /score by HTTP status.", ["status"], registry=registry
        )
        self.pictures = Counter("easel_reward_pictures", "Pictures judged.", ["reward"], registry=registry)
        self.failures = Counter("easel_reward_failures", "Pictures that failed.", ["reward"], registry=registry)
        self.seconds = Summary(
            "easel_reward_seconds", "From the whole request to its answer.", ["reward"], registry=registry
        )
        self.queued = Gauge("easel_reward_queued", "Requests waiting or being scored.", ["reward"], registry=registry)
        self.resident = Gauge(
            "easel_reward_resident_bytes",
            "Resident memory of the server and of each reward's workers.",
            ["process"],
            registry=registry,
        )
        self.resident.labels("server").set_function(lambda: rss_bytes(os.getpid()))
        self._workers = _WorkerCounts()
        registry.register(self._workers)

    def add_reward(
        self,
        name: str,
        *,
        queued: Callable[[], int],
        pids: Callable[[], Sequence[int]],
        restarts: Callable[[], int],
        recycled: Callable[[], int],
    ) -> None:
        """Show a reward, from 0 on; the functions are called whenever the metrics are asked for."""
        for metric in (self.pictures, self.failures, self.seconds):
            metric.labels(name)
        self.queued.labels(name).set_function(queued)
        self.resident.labels(f"worker {name}").set_function(lambda: sum(map(rss_bytes, pids())))
        self._workers.restarts[name], self._workers.recycled[name] = restarts, recycled


class _WorkerCounts(Collector):
    """Counters that the pools keep."""

    def __init__(self) -> None:
        self.restarts: dict[str, Callable[[], int]] = {}
        self.recycled: dict[str, Callable[[], int]] = {}

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield _counter("easel_reward_restarts", "Workers lost and replaced.", self.restarts)
        yield _counter("easel_reward_recycled", "Workers renewed in time.", self.recycled)


def _counter(name: str, text: str, counts: Mapping[str, Callable[[], int]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=["reward"])
    for reward, count in counts.items():
        family.add_metric([reward], count())
    return family


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
