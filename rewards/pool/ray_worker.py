"""One worker as a Ray actor, wherever the cluster has room: the counterpart of ``worker_handle.WorkerProcess``.

Pictures travel through Ray's object store. Joins the cluster that ``RAY_ADDRESS`` names or that this process is
connected to, else starts one on this machine. The modules of a reward must be importable on the nodes.
"""

from __future__ import annotations

import os
from contextlib import suppress

import ray
from ray.exceptions import GetTimeoutError, RayError

from rewards.pool.messages import Ready, Refused, Start, WorkerReply
from rewards.pool.submission import Call
from rewards.pool.worker import LoadedReward
from rewards.pool.worker_handle import Worker, WorkerLost, import_paths
from rl.types import Sample, UserError


def connect() -> int:
    """Join the cluster, from the main thread; how many GPUs it has."""
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    return int(ray.cluster_resources().get("GPU", 0))


class _Actor:
    """What runs in the actor's process."""

    def load(self, start: Start) -> Ready | Refused:
        try:
            self.reward = LoadedReward(start)
        except UserError as error:
            return Refused(str(error))
        return self.reward.ready

    def answer(self, number: int, samples: list[Sample]) -> WorkerReply:
        return self.reward.answer(number, samples)  # pictures out of Ray's object store are read-only


class RayWorker(Worker):
    """A live actor. Starting only asks for it."""

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self._killed = False
        try:
            self._actor = ray.remote(_Actor).options(**_resources(start)).remote()
            self._loading = self._actor.load.remote(start)
        except RayError as error:
            raise WorkerLost(f"could not be started: {' '.join(str(error).split())[:200]}") from error

    @property
    def alive(self) -> bool:
        return not self._killed

    def _reply(self, call: Call | None, timeout_s: float, late: str) -> object:
        if call is None:
            promise, late = self._loading, f"{late} (has the cluster the CPUs and GPUs that it asks for?)"
        else:
            promise = self._actor.answer.remote(self._requests, call.samples)
        try:
            return ray.get(promise, timeout=timeout_s)
        except GetTimeoutError as error:
            raise self._lost(late) from error
        except RayError as error:
            reason = str(error).strip().split("\n")[0]
            raise self._lost(f"worker died ({type(error).__name__}: {reason})") from error

    def kill(self) -> None:
        """End the actor now; what it is asked in the meantime is lost with it."""
        self._killed = True
        with suppress(RayError):  # the cluster itself is gone
            ray.kill(self._actor)

    def stop(self) -> None:
        """The same: an actor holds nothing but itself."""
        self.kill()


def _resources(start: Start) -> dict[str, object]:
    needs = start.needs
    environment = needs.environment(start.threads)
    runtime: dict[str, object] = {"env_vars": environment}
    if needs.python is None:
        environment["PYTHONPATH"] = os.pathsep.join(import_paths())
    else:
        runtime["py_executable"] = needs.python
    if needs.gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return {"num_cpus": needs.cpus or 0, "num_gpus": needs.gpus, "runtime_env": runtime}
