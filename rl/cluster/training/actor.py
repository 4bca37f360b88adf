"""A rank of the trainer as a Ray actor. It dies once and for all, and with it the others: a new one takes its place."""

from __future__ import annotations

import os
import socket
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rewards.pool.worker_handle import import_paths
from rl.cluster.places import WorkerNeeds
from rl.cluster.training.messages import Residence, TrainerStart
from rl.process.ranks import Place

_BESIDE, _FILES = "beside", "files"
"""Threads beside the one that trains: one answers how far it is, one removes files."""


class _Actor:
    """What runs in the actor's process. Nothing heavy is imported before it is told to."""

    def __init__(self) -> None:
        self._beat: Any = None

    def where(self) -> Residence:
        context = ray.get_runtime_context()
        return Residence(socket.gethostname(), os.getpid(), ray.util.get_node_ip_address(), context.get_node_id())

    def serve(self, address: str) -> int:
        """Of the first rank: the store through which all meet, at a port that is bound when it is told."""
        from rl.cluster.training.meeting import served

        self._served = served(address)
        return int(self._served.port)

    def join(self, start: TrainerStart, place: Place) -> None:
        """Builds its part of the trainer, together with the others. Raises: UserError."""
        from rl.process.loading import loading

        with loading():
            from rl.cluster.training.meeting import prepare
            from rl.cluster.training.rank import Beat, TrainerRank
        prepare(place, os.environ)
        self._beat = Beat()
        self._rank = TrainerRank(start, place, self._beat)

    def follow(self) -> None:
        self._rank.follow()

    def do(self, what: str, *arguments: object) -> Any:
        """A method of its :class:`rl.cluster.training.rank.TrainerRank`."""
        return getattr(self._rank, what)(*arguments)

    @ray.method(concurrency_group=_FILES)
    def prune(self, lowest: int) -> None:
        self._rank.prune(lowest)

    @ray.method(concurrency_group=_BESIDE)
    def progress(self) -> tuple[int, int]:
        """Grow while it gets on: what all ranks do alike, and what it does alone."""
        return (self._beat.progress, self._beat.alone) if self._beat else (0, 0)


def start_rank(group: PlacementGroup, rank: int, needs: WorkerNeeds) -> Any:
    """Asks for one in its place of the group; it waits for room. Calls are made once."""
    environment = {
        "OMP_NUM_THREADS": str(needs.threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONPATH": os.pathsep.join(import_paths()),
    }
    if not needs.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return (
        ray.remote(concurrency_groups={_BESIDE: 1, _FILES: 1})(_Actor)
        .options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            runtime_env={"env_vars": environment},
        )
        .remote()
    )
