"""One worker as a Ray actor, wherever the cluster has room: the counterpart of ``local_worker``.

Pictures travel through Ray's object store. Joins the cluster that ``RAY_ADDRESS`` names or that this process is
connected to, else starts one on this machine. The modules of a reward must be importable on the nodes.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from rewards.pool.contract import WorkerLost, import_paths
from rewards.pool.messages import Answer, Ready, Refused, Start, mistake, refusal
from rewards.pool.submission import Ticket
from rewards.pool.worker import LoadedReward
from rl.types import Sample, Score, UserError

_ROOM = " (has the cluster the CPUs and GPUs that it asks for?)"


def connect() -> int:
    """Join the cluster, from the main thread; how many GPUs it has."""
    if not ray.is_initialized():
        ray.init(include_dashboard=False, log_to_driver=False, configure_logging=False)
    return int(ray.cluster_resources().get("GPU", 0))


class _Actor:
    """The far side."""

    def load(self, start: Start) -> Ready | Refused:
        try:
            self.reward = LoadedReward(start)
        except UserError as error:
            return Refused(str(error))
        return self.reward.ready

    def answer(self, number: int, samples: list[Sample]) -> Answer:
        return self.reward.answer(number, samples)  # pictures out of Ray's object store are read-only


class RayWorker:
    """A live actor, see ``rewards.pool.contract.Worker``. Starting only asks for it."""

    def __init__(self, start: Start) -> None:
        self.scored = 0
        self.grown = False
        self.version = ""
        self.probed = False
        self.pid = 0
        self.alive = True
        self._start = start
        self._jobs = 0
        try:
            self._actor = ray.remote(_Actor).options(**_resources(start)).remote()
            self._loading = self._actor.load.remote(start)
        except RayError as error:
            raise WorkerLost(f"could not be started: {' '.join(str(error).split())[:200]}") from error
        self._started = time.monotonic()

    def wait_ready(self, start_timeout_s: float) -> None:
        """Await the loaded reward, counted from the start.

        Raises ``UserError`` if it cannot be loaded, ``WorkerLost`` if the actor died or found no room in time.
        """
        if self.version:
            return
        left = max(0.1, start_timeout_s - (time.monotonic() - self._started))
        reply = self._await(self._loading, left, f"did not start within {start_timeout_s:g} s{_ROOM}")
        if isinstance(reply, Refused):
            self.kill()
            raise UserError(refusal(self._start, reply))
        self.pid, self.version, self.probed = reply.pid, reply.version, reply.probed

    def score(self, ticket: Ticket, timeout_s: float) -> list[Score]:
        """Scores of the ticket's samples in order. Raises ``WorkerLost`` if no valid answer comes in time."""
        self._jobs += 1
        asked = self._actor.answer.remote(self._jobs, ticket.samples)
        answer: Answer = self._await(asked, timeout_s, f"timed out after {timeout_s:g} s")
        if (wrong := mistake(answer, self._jobs, ticket)) is not None:
            self.kill()
            raise WorkerLost(wrong)
        self.scored += len(answer.scores)
        self.grown = answer.grown
        return list(answer.scores)

    def _await(self, promise: Any, timeout_s: float, late: str) -> Any:
        try:
            return ray.get(promise, timeout=timeout_s)
        except GetTimeoutError as error:
            self.kill()
            raise WorkerLost(late) from error
        except RayError as error:
            self.kill()
            reason = str(error).strip().split("\n")[0]
            raise WorkerLost(f"worker died ({type(error).__name__}: {reason})") from error

    def kill(self) -> None:
        """End the actor now; what it is asked in the meantime is lost with it."""
        self.alive = False
        with suppress(RayError):  # the cluster itself is gone
            ray.kill(self._actor)

    def stop(self) -> None:
        """The same: an actor holds nothing but itself."""
        self.kill()


def _resources(start: Start) -> dict[str, Any]:
    needs = start.needs
    environment = needs.environment(start.threads)
    runtime: dict[str, Any] = {"env_vars": environment}
    if needs.python is None:
        environment["PYTHONPATH"] = os.pathsep.join(import_paths())
    else:
        runtime["py_executable"] = needs.python
    if needs.gpus == 0:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return {"num_cpus": needs.cpus or 0, "num_gpus": needs.gpus, "runtime_env": runtime}
