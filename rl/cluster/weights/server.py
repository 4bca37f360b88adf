"""Published weights for workers on other machines: an actor beside whoever trains reads its store's files to them. Its
process is started again by Ray, for the files outlive it; if its machine is gone, so are they, and the run ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rewards.pool.worker_handle import import_paths
from rl.cluster.weights.sets import MissingWeights

_BLOCK_S = 120.0  # for a block of 64 MB
_WATCH = "watch"


class _Server:
    """What runs in the actor's process."""

    def __init__(self, run: str, room: int) -> None:
        from rl.cluster.weights.store import WeightStore

        self._store = WeightStore.open(run, room=room)

    def read(self, version: int, file: str, start: int, size: int) -> bytes:
        return self._store.read(version, file, start, size)

    @ray.method(concurrency_group=_WATCH)
    def stay(self) -> None:
        """Never answers: an error says that there is no such actor any more, nor will be."""
        threading.Event().wait()


class FetchFrom:
    """Called by a worker, wherever it is."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __call__(self, version: int, file: str, start: int, size: int) -> bytes:
        """Raises: MissingWeights if they don't come."""
        try:
            block: bytes = ray.get(self._server.read.remote(version, file, start, size), timeout=_BLOCK_S)
        except RayTaskError:
            raise
        except GetTimeoutError as error:
            raise MissingWeights(
                f"weights of version {version}: the machine that trains has not sent {file} within {_BLOCK_S:g} s."
            ) from error
        except RayError as error:
            raise MissingWeights(
                f"weights of version {version}: the machine that trains can't send {file} ({type(error).__name__})."
            ) from error
        return block


class WeightServer:
    """The run's side of it. ``lost`` hears one sentence if it is gone for good, on a thread of its own."""

    def __init__(self, run: str, room: int, lost: Callable[[str], None], node: str | None = None) -> None:
        """``node``: the machine where weights are published; ``None``: this one."""
        self._node, self._lost, self._closed = node or ray.get_runtime_context().get_node_id(), lost, False
        environment = {"PYTHONPATH": os.pathsep.join(import_paths()), "CUDA_VISIBLE_DEVICES": ""}
        self._actor = (
            ray.remote(concurrency_groups={_WATCH: 1})(_Server)
            .options(
                num_cpus=0,
                max_restarts=-1,
                max_task_retries=-1,  # reading twice is reading
                scheduling_strategy=NodeAffinitySchedulingStrategy(self._node, soft=False),
                runtime_env={"env_vars": environment},
            )
            .remote(run, room)
        )
        self.fetch = FetchFrom(self._actor)
        self._stays = self._actor.stay.remote()
        self._stays.future().add_done_callback(self._ended)

    def close(self) -> None:
        self._closed = True
        ray.kill(self._actor)

    def _ended(self, future: Future[None]) -> None:
        """Called by Ray's own thread."""
        threading.Thread(target=self._tell, args=[future.exception()], daemon=True).start()

    def _tell(self, error: BaseException | None) -> None:
        if self._closed:
            return
        machine: Mapping[str, Any] = next((one for one in ray.nodes() if one["NodeID"] == self._node), {})
        where = f"the machine {machine.get('NodeManagerAddress', self._node)}"
        if machine.get("Alive"):
            why = f"the process that sends weights from {where} can't be started ({type(error).__name__})"
        else:
            why = f"{where} has gone, and with it the weights that samplers and painters take"
        self._lost(why)


def serve_weights(run: str, room: int, node: str, lost: Callable[[str], None]) -> WeightServer | None:
    """``node``: where they are published. ``None`` where the whole cluster is one machine."""
    if len([node for node in ray.nodes() if node["Alive"]]) == 1:
        return None
    return WeightServer(run, room, lost, node)
