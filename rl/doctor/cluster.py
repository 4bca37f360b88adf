"""What the cluster of a run offers, and whether the run's workers fit: joins it, or starts what the run would start."""

from __future__ import annotations

import ray

from rl.cluster.places import needs_of, on_cluster
from rl.config.load import load
from rl.config.schema import Config
from rl.preflight.requirements import Check
from rl.process.interrupt import Interrupt
from rl.types import RunFailure, UserError


def cluster_checks(path: str) -> list[Check]:
    """Of the configuration in that file."""
    config = load(path, [])
    try:
        with Interrupt() as interrupt, on_cluster(config, interrupt):
            return describe(config)
    except (UserError, RunFailure) as error:
        return [Check("cluster", "workers", "missing", "no room, or no cluster", str(error))]


def describe(config: Config) -> list[Check]:
    """The one that this process is connected to."""
    there, nodes = ray.cluster_resources(), sum(node["Alive"] for node in ray.nodes())
    cluster, needs = config.cluster, needs_of(config)
    cpus = cluster.samplers * needs["sample"].cpus + cluster.painters * needs["paint"].cpus
    gpus = cluster.samplers * needs["sample"].gpus + cluster.painters * needs["paint"].gpus
    store = there.get("object_store_memory", 0.0) / 1e9
    workers = f"{cluster.samplers} x sampler, {cluster.painters} x painter, {needs['sample'].threads} threads each"
    return [
        Check("cluster", "machines", "ok", f"{nodes}, Ray {ray.__version__}"),
        Check("cluster", "workers", "ok", workers),
        Check("cluster", "CPUs", "ok", f"{cpus:g} of {there.get('CPU', 0.0):g}"),
        Check("cluster", "GPUs", "ok", f"{gpus:g} of {there.get('GPU', 0.0):g}"),
        Check("cluster", "room for pictures", "ok", f"{store:.1f} GB, half of it for the steps under way"),
    ]
