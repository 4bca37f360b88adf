"""Whether a cluster's machines have this code, asked before anything is loaded."""

from __future__ import annotations

import os
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import rl
from rewards.pool.worker_handle import import_paths
from rl.types import UserError

_ANSWER_S = 60.0
_NO_CODE = "failed to import on the worker"  # Ray's words


def require_our_code() -> None:
    """Raises: UserError naming the first machine that lacks it, has another version of it, or does not answer."""
    here, ours = ray.get_runtime_context().get_node_id(), rl.__version__
    others = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] != here]
    for node, answer in [(node, _asked(node["NodeID"])) for node in others]:
        name = f"cluster: the machine {node['NodeManagerAddress']}"
        try:
            found = ray.get(answer, timeout=_ANSWER_S)
        except GetTimeoutError as error:
            raise UserError(
                f"{name} has not started a process within {_ANSWER_S:g} s; look into /tmp/ray/session_latest/logs "
                "there, or take it out of the cluster (ray stop)."
            ) from error
        except RayError as error:
            reason = lacking(error) or " ".join(str(error).split("\n")[0].split())[:300]
            raise UserError(
                f"{name} can't import easel-rl ({reason}); install version {ours} in the environment in which Ray was "
                "started there."
            ) from error
        if found != ours:
            raise UserError(f"{name} has easel-rl {found} and this one {ours}; install the same version on both.")


def lacking(error: BaseException) -> str | None:
    """``ModuleNotFoundError: No module named 'rl'``, where that is why a worker could not do what was asked."""
    words = str(error)
    return words.strip().splitlines()[-1].strip() if _NO_CODE in words else None


def _asked(node: str) -> Any:
    environment = {"PYTHONPATH": os.pathsep.join(import_paths()), "CUDA_VISIBLE_DEVICES": ""}
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return (
        ray.remote(_version)
        .options(num_cpus=0, max_retries=0, scheduling_strategy=there, runtime_env={"env_vars": environment})
        .remote()
    )


def _version() -> str:
    return rl.__version__
