"""Published weights for workers on other machines: an actor beside whoever trains reads its store's files to them."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rewards.pool.worker_handle import import_paths

_BLOCK_S = 120.0  # for a block of 64 MB


class _Server:
    """What runs in the actor's process."""

    def __init__(self, run: str, room: int) -> None:
        from rl.cluster.weights.store import WeightStore

        self._store = WeightStore.open(run, room=room)

    def read(self, version: int, file: str, start: int, size: int) -> bytes:
        return self._store.read(version, file, start, size)


class FetchFrom:
    """Called by a worker, wherever it is."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __call__(self, version: int, file: str, start: int, size: int) -> bytes:
        block: bytes = ray.get(self._server.read.remote(version, file, start, size), timeout=_BLOCK_S)
        return block


def serve_weights(run: str, room: int, node: str) -> FetchFrom | None:
    """``node``: where they are published. ``None`` where the whole cluster is one machine."""
    if len([node for node in ray.nodes() if node["Alive"]]) == 1:
        return None
    return start_server(run, room, node)


def start_server(run: str, room: int, node: str | None = None) -> FetchFrom:
    """On that machine, or on this one, for whoever is told of it."""
    there = NodeAffinitySchedulingStrategy(node or ray.get_runtime_context().get_node_id(), soft=False)
    environment = {"PYTHONPATH": os.pathsep.join(import_paths()), "CUDA_VISIBLE_DEVICES": ""}
    server = (
        ray.remote(_Server)
        .options(num_cpus=0, max_restarts=0, scheduling_strategy=there, runtime_env={"env_vars": environment})
        .remote(run, room)
    )
    return FetchFrom(server)
