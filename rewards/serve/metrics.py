"""What a reward server counts, in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import psutil

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Tally:
    """One reward's counts since the start; ``seconds`` and ``answers`` are the sum and count of latencies."""

    pictures: int = 0
    failures: int = 0
    answers: int = 0
    seconds: float = 0.0

    def add(self, pictures: int, failures: int, seconds: float) -> None:
        self.pictures += pictures
        self.failures += failures
        self.answers += 1
        self.seconds += seconds


@dataclass(frozen=True)
class Snapshot:
    """One reward at the moment of asking."""

    tally: Tally
    queued: int
    restarts: int
    recycled: int
    pids: tuple[int, ...]


@dataclass
class Requests:
    """Answers to ``POST /score`` by HTTP status."""

    by_status: Counter[int] = field(default_factory=Counter)


def render(requests: Requests, rewards: Mapping[str, Snapshot]) -> str:
    """All metrics as text."""
    lines = _metric(
        "requests_total",
        "counter",
        "Answers to POST /score by HTTP status.",
        [({"status": str(status)}, count) for status, count in sorted(requests.by_status.items())],
    )
    per_reward: list[tuple[str, Literal["counter", "gauge"], str, dict[str, float]]] = [
        ("pictures_total", "counter", "Pictures judged.", {n: s.tally.pictures for n, s in rewards.items()}),
        ("failures_total", "counter", "Pictures that failed.", {n: s.tally.failures for n, s in rewards.items()}),
        ("restarts_total", "counter", "Workers lost and replaced.", {n: s.restarts for n, s in rewards.items()}),
        ("recycled_total", "counter", "Workers renewed in time.", {n: s.recycled for n, s in rewards.items()}),
        ("queued", "gauge", "Requests waiting or being scored.", {n: s.queued for n, s in rewards.items()}),
    ]
    for name, kind, text, values in per_reward:
        lines += _metric(name, kind, text, [({"reward": reward}, value) for reward, value in values.items()])
    lines += _seconds(rewards)
    resident = {"server": (os.getpid(),)} | {f"worker {name}": snapshot.pids for name, snapshot in rewards.items()}
    lines += _metric(
        "resident_bytes",
        "gauge",
        "Resident memory of the server and of each reward's workers.",
        [({"process": process}, sum(map(rss_bytes, pids))) for process, pids in resident.items()],
    )
    return "\n".join(lines) + "\n"


def rss_bytes(pid: int) -> int:
    """Resident memory of a process, 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def _seconds(rewards: Mapping[str, Snapshot]) -> list[str]:
    name = "easel_reward_seconds"
    lines = [f"# HELP {name} From the whole request to its answer.", f"# TYPE {name} summary"]
    for reward, snapshot in rewards.items():
        labels = _labels({"reward": reward})
        lines += [f"{name}_sum{labels} {snapshot.tally.seconds!r}", f"{name}_count{labels} {snapshot.tally.answers}"]
    return lines


def _metric(name: str, kind: str, text: str, values: Iterable[tuple[Mapping[str, str], float]]) -> list[str]:
    full = f"easel_reward_{name}"
    rows = [f"{full}{_labels(labels)} {value!r}" for labels, value in values]
    return [f"# HELP {full} {text}", f"# TYPE {full} {kind}", *rows]


def _labels(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
