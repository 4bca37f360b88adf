"""A worker as a Ray actor. It dies once and for all: another one takes its place, under another name."""

from __future__ import annotations

import os
from typing import Any

import ray

from rewards.pool.worker_handle import import_paths
from rl.cluster.jobs import RoleName, WorkerStart
from rl.cluster.places import WorkerNeeds
from rl.types import UserError


class _Actor:
    """What runs in the actor's process. Nothing heavy is imported before it is told to load."""

    def load(self, role: RoleName, start: WorkerStart) -> str | None:
        """Returns why it can't, if that is a user's mistake."""
        from rl.process.loading import loading

        with loading():
            from rl.cluster.worker.roles import ROLES
        try:
            self._role: Any = ROLES[role](start)
        except UserError as error:
            return str(error)
        return None

    def work(self, version: int | None, job: object) -> Any:
        return self._role.work(version, job)

    def hold(self, version: int, part: str = "ar") -> float | None:
        """The difference that its canary has found."""
        weights = self._role.weights if part == "ar" else self._role.decoder_weights
        weights.hold(version)
        mismatch: float | None = weights.mismatch
        return mismatch

    def sleep(self, level: int) -> None:
        self._role.sleep(level)


def start_actor(needs: WorkerNeeds) -> Any:
    """Asks for one; it waits for room. Calls are made once: what comes of a death is for the scheduler to say."""
    environment = {
        "OMP_NUM_THREADS": str(needs.threads),
        "OMP_WAIT_POLICY": "passive",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONPATH": os.pathsep.join(import_paths()),
    }
    if not needs.gpus:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return (
        ray.remote(_Actor)
        .options(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_restarts=0,
            max_task_retries=0,
            runtime_env={"env_vars": environment},
        )
        .remote()
    )
