"""What the cluster of a run offers, and whether the run's workers fit: joins it, or starts what the run would start."""

from __future__ import annotations

import ray

from rl.cluster.places import needs_of, on_cluster, trainer_needs
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
    cluster, needs, trainer = config.cluster, needs_of(config), trainer_needs(config)
    all_of_them = [(cluster.samplers, needs["sample"]), (cluster.painters, needs["paint"]), (cluster.trainers, trainer)]
    cpus, gpus = (sum(count * getattr(one, what) for count, one in all_of_them) for what in ("cpus", "gpus"))
    store = there.get("object_store_memory", 0.0) / 1e9
    workers = f"{cluster.samplers} x sampler, {cluster.painters} x painter, "
    workers += f"{cluster.trainers} x trainer, " if cluster.trainers else ""
    workers += f"{needs['sample'].threads} threads each"
    return [
        Check("cluster", "machines", "ok", f"{nodes}, Ray {ray.__version__}"),
        Check("cluster", "workers", "ok", workers),
        Check("cluster", "CPUs", "ok", f"{cpus:g} of {there.get('CPU', 0.0):g}"),
        Check("cluster", "GPUs", "ok", f"{gpus:g} of {there.get('GPU', 0.0):g}"),
        Check("cluster", "room for pictures", "ok", f"{store:.1f} GB, half of it for the steps under way"),
    ]
