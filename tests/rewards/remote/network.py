"""Servers that are functions: what was asked is remembered, and nothing is slept."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import numpy as np

from rewards.remote.client import Remote
from rewards.remote.http import RetryingClient
from rewards.remote.servers import Endpoints
from rl.types import Prompt, Sample

Handler = Callable[[httpx.Request], httpx.Response]
Rows = list[dict[str, object]]
Change = Callable[[Rows], object]
A, B = "http://a:1", "http://b:2"
LIMITS = {"max_bytes": 10**6, "max_pixels": 10**6, "max_batch": 100}


def many(count: int, group: int = 2) -> list[Sample]:
    picture = np.zeros((8, 8, 3), np.uint8)
    return [Sample(f"s{i}", f"g{i // group}", Prompt(f"p{i // group}", "x"), picture) for i in range(count)]


class Wire:
    """The network: answers by ``handler``, and remembers who was asked what and how long was slept."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[str] = []
        self.slept: list[float] = []
        self.now = 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.url.host}{request.url.path}")
        return self.handler(request)

    def endpoints(self, *urls: str, retries: int = 3) -> Endpoints:
        client = RetryingClient(
            token=None,
            timeout_s=5.0,
            retries=retries,
            largest_answer=2**20,
            transport=httpx.MockTransport(self),
            sleep=self.sleep,
            clock=lambda: self.now,
        )
        return Endpoints(urls, client)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def remote(wire: Wire, *urls: str, retries: int = 3, batch_size: int = 32) -> Remote:
    reward = object.__new__(Remote)
    reward.reward, reward.batch_size, reward.encoding = "bright", batch_size, "npy"
    reward._connect(wire.endpoints(*urls, retries=retries))
    wire.asked.clear()
    return reward


def offer(**limits: int) -> httpx.Response:
    rewards = {"bright": {"use": "x:bright", "options": {}}}
    return httpx.Response(200, json={"rewards": rewards, "limits": LIMITS | limits})


def echo(request: httpx.Request, change: Change = lambda rows: rows) -> httpx.Response:
    """A server whose score is the number in the sample's id."""
    if request.url.path != "/score":
        return offer()
    rows = [
        {"id": row["id"], "value": float(row["id"][1:]), "passed": 1.0, "failure": None, "details": {"n": 1}}
        for row in json.loads(request.content)["samples"]
    ]
    return httpx.Response(200, json={"reward": "bright", "scores": change(rows)})
