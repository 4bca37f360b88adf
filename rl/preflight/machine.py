"""What a run will certainly miss on this machine, found within a second or so: before anything heavy is imported.

What can't be known quickly is no error, and nothing is downloaded but a policy that is a name on the hub.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from policy.folder import read_policy_config, resolve_folder
from rewards.pool.gpus import visible_gpus
from rl.config.schema import Config
from rl.config.sections.cluster_rules import counted, ranks_key, ranks_of
from rl.preflight.adapters import learning_numbers, lora_problems
from rl.preflight.components import problems
from rl.preflight.requirements import version
from rl.preflight.room import checkpoint_bytes, folder_problems
from rl.preflight.weights import require_whole_weights
from rl.types import UserError

_TO_A_CORE = 4  # samplers and painters that share it are not faster than one


def check_machine(config: Config, ranks_here: int = 1) -> None:
    """Raises UserError with all that is missing: parts of the policy, packages, weights, servers, GPUs for
    ``ranks_here``, a place to write.
    """
    folder = resolve_folder(config.policy.path)
    read_policy_config(folder)
    require_whole_weights(folder)
    adapters = list(lora_problems(config, folder))
    trained = 0 if adapters or not config.train.steps else learning_numbers(config, folder)
    found = [
        *problems(config),
        *compiler_problems(config),
        *engine_problems(config, usable_gpus()),
        *adapters,
        *rank_problems(ranks_here, usable_gpus()),
        *worker_problems(config, usable_gpus(), os.cpu_count() or 1),
    ]
    found += folder_problems(Path(str(config.run.folder)), checkpoint_bytes(trained))
    if len(found) == 1:
        raise UserError(found[0])
    if found:
        lines = "\n".join(f"  {sentence}" for sentence in dict.fromkeys(found))
        raise UserError(f"{len(found)} things are missing on this machine:\n{lines}")


def usable_gpus() -> int:
    """Of this machine; 0 with a torch that knows none."""
    return 0 if (version("torch") or "").endswith("+cpu") else len(visible_gpus())


def rank_problems(ranks: int, gpus: int) -> Iterator[str]:
    """Where there are GPUs, each rank takes one; without, they share the CPU."""
    if gpus and ranks > gpus:
        yield (
            f"train.ranks: {ranks} ranks need a GPU each and this machine shows {gpus}; lower train.ranks to {gpus}, "
            "or hide all GPUs (CUDA_VISIBLE_DEVICES=) to train on the CPU"
        )


def worker_problems(config: Config, gpus: int, cores: int) -> Iterator[str]:
    """Workers and trainers of a cluster which is to be started here; one that is there says so itself."""
    cluster = config.cluster
    if not config.loop.ahead or cluster.address or os.environ.get("RAY_ADDRESS"):
        return
    workers = f"{counted(cluster.samplers, 'sampler')} and {counted(cluster.painters, 'painter')}"
    if not gpus and cluster.samplers + cluster.painters > _TO_A_CORE * cores:
        yield (
            f"cluster: {workers} are more than {_TO_A_CORE} to a core, and this machine has {cores}; lower "
            "cluster.samplers or cluster.painters, or name a cluster of more machines (cluster.address)"
        )
    if not gpus and cluster.trainers > cores:
        yield (
            f"cluster.trainers: {cluster.trainers} ranks need a core each and this machine has {cores}; lower it, or "
            "name a cluster of more machines (cluster.address)"
        )
    for key, count, each in (
        ("sampler_gpus", cluster.samplers, cluster.sampler_gpus),
        ("painter_gpus", cluster.painters, cluster.painter_gpus),
    ):
        if not gpus and count and each:
            yield (
                f"cluster.{key}: is {each:g}, and this machine shows no GPU; leave it out to work on the CPU, or name "
                "a cluster that has GPUs (cluster.address)"
            )
    others = ((cluster.samplers, cluster.sampler_gpus), (cluster.painters, cluster.painter_gpus))
    ranks = 0 if config.rollout.sleep else ranks_of(config)  # samplers that sleep share those of the trainer
    wanted = ranks + sum(count * (1.0 if each is None else each) for count, each in others)
    if gpus and wanted > gpus:
        yield (
            f"{ranks_key(config)}: {counted(ranks_of(config), 'rank')}, {workers} need {wanted:g} GPUs and this "
            f"machine shows {gpus}; lower their numbers, or name a cluster of more machines (cluster.address)"
        )


def engine_problems(config: Config, gpus: int) -> Iterator[str]:
    """What ``rollout.engine: auto`` turns out to be cannot do."""
    if config.rollout.sleep and config.rollout.engine == "auto" and not (gpus and version("vllm")):
        yield "rollout.sleep: rollout.engine auto is torch here, which keeps its memory; set sleep to 0"


def compiler_problems(config: Config) -> Iterator[str]:
    """What torch.compile would say in the middle of the first step."""
    if config.policy.compile and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
        yield "policy.compile: torch.compile needs a C++ compiler, and here is no g++ or clang++: install one"
