"""The Ray cluster that a run works on: joined or started, and whether it has room."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from rewards.needs import fair_threads
from rewards.pool.gpus import visible_gpus
from rl.cluster.jobs import RoleName
from rl.cluster.machines import require_our_code
from rl.config.schema import Config
from rl.config.sections.cluster_rules import ranks_of
from rl.process.interrupt import FAILED, Interrupt
from rl.types import RunFailure, UserError

_ANSWER_S = 5.0
_OTHER_VERSION, _NO_ADDRESS = "Version mismatch", "Invalid address"  # Ray's words
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PICTURES_SHARE = 0.5  # of the object stores: prompts, tokens and Ray's own need the rest


@dataclass(frozen=True)
class WorkerNeeds:
    """Of one worker."""

    cpus: float
    gpus: float
    threads: int


@contextmanager
def on_cluster(config: Config, interrupt: Interrupt) -> Iterator[None]:
    """Inside, this process is connected to the run's cluster; one that was started for it ends afterwards.

    Raises: UserError if it does not answer, is another version's, lacks our code, or will never have room for the
    run's workers;
    RunFailure if none can be started here. Ends the process if Ray itself does not come up.
    """
    if ray.is_initialized():
        _check_room(config)
        yield
        return
    address = config.cluster.address or os.environ.get("RAY_ADDRESS")
    with _patience(config.cluster.start_timeout_s, interrupt, address):
        if address is None:
            _start_here(config)
        else:
            _join(address)
    interrupt.install()  # Ray has its own for SIGTERM
    try:
        _check_room(config)
        if address is not None:
            require_our_code()
        yield
    finally:
        ray.shutdown()


def needs_of(config: Config) -> Mapping[RoleName, WorkerNeeds]:
    """What each worker of a role gets, on the cluster that this process is connected to."""
    cluster, threads, usual = config.cluster, _threads(config), _usual_gpus()
    asked: dict[RoleName, float | None] = {"sample": cluster.sampler_gpus, "paint": cluster.painter_gpus}
    return {
        role: WorkerNeeds(cluster.cpus, usual if share is None else share, threads) for role, share in asked.items()
    }


def trainer_needs(config: Config) -> WorkerNeeds:
    """What each of ``cluster.trainers`` gets."""
    return WorkerNeeds(config.cluster.cpus, _usual_gpus(), _threads(config))


def _threads(config: Config) -> int:
    said, cluster = os.environ.get("OMP_NUM_THREADS", ""), config.cluster
    if cluster.threads is not None:
        return cluster.threads
    busy = ranks_of(config) + cluster.samplers + cluster.painters
    return int(said) if said.isdigit() and int(said) else fair_threads(busy)


def _usual_gpus() -> float:
    return 1.0 if ray.cluster_resources().get("GPU", 0) or visible_gpus() else 0.0


@contextmanager
def _patience(seconds: float, interrupt: Interrupt, address: str | None) -> Iterator[None]:
    """Ray has no deadline for all of its start, nor for joining a cluster."""
    what, advice = "Ray has not started", "look into /tmp/ray/session_latest/logs"
    if address is not None:
        what = f"cluster.address: {address} has not let this machine in"
        advice = "see that Ray runs there and that its ports are open"
    words = f"error: the run cannot go on: {what} within {seconds:g} s; {advice}, or raise cluster.start_timeout_s"
    late = threading.Timer(seconds, interrupt.end, [words, FAILED])
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


def _start_here(config: Config) -> None:
    """With as many CPUs in its books as the workers ask for: they share those of this machine."""
    cluster = config.cluster
    wanted = cluster.cpus * (cluster.samplers + cluster.painters + cluster.trainers)
    cpus = max(os.cpu_count() or 1, int(wanted) + 1 + sum(one.workers or 2 for one in config.rewards.values()))
    quiet = {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
    gpus, ranks = visible_gpus(), 0 if cluster.trainers else config.train.ranks
    if not gpus:
        _init(num_cpus=cpus, **quiet)
        return
    ours, theirs = gpus[:ranks], gpus if config.rollout.sleep else gpus[ranks:]
    os.environ[_VISIBLE] = ",".join(theirs)  # Ray counts what it sees; the trainer lends the first ones, or keeps them
    try:
        _init(num_cpus=cpus, num_gpus=len(theirs), **quiet)
    finally:
        os.environ[_VISIBLE] = ",".join(ours)


def _init(**options: Any) -> None:
    try:
        ray.init(address="local", **options)  # without it one that somebody has started here would be joined
    except Exception as error:  # a start that fails is Exception itself: Ray has no narrower one
        words = " ".join(str(error).split())[:300]
        raise RunFailure(
            f"Ray could not be started on this machine ({words}); look into /tmp/ray/session_latest/logs, or try again "
            "when it is less busy"
        ) from error


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "://" not in address:
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        except OSError as error:
            raise UserError(
                f"cluster.address: {address} does not answer ({error}); start Ray there (ray start --head), or leave "
                "the key out to start one here."
            ) from error
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if _OTHER_VERSION in reason:
            reason += "; install the same Ray and Python on both"
        if _NO_ADDRESS in reason:
            reason += "; write host:port, or auto for this machine's cluster"
        raise UserError(f"cluster.address: {address} can't be joined: {reason}") from error


def require_room_for_pictures(config: Config, picture_bytes: int) -> None:
    """All that may be painted and not yet scored must lie in the cluster's object stores. Raises: UserError."""
    samples = config.data.prompts_per_step * config.rollout.group_size * config.render.renders
    wanted, has = samples * picture_bytes * (config.loop.staleness + 1), ray.cluster_resources()["object_store_memory"]
    if wanted > has * _PICTURES_SHARE:
        raise UserError(
            f"cluster: {config.loop.staleness + 1} steps of {samples:,} pictures take {wanted / 1e9:.2f} GB, and Ray's "
            f"object stores have {has / 1e9:.2f} GB, of which at most half is for them; start Ray with a larger "
            "--object-store-memory, or lower loop.staleness, data.prompts_per_step or rollout.group_size"
        )


def _check_room(config: Config) -> None:
    asked = _asked(config)
    there = ray.cluster_resources()
    for resource in ("cpus", "gpus"):
        wanted = sum(count * getattr(need, resource) for count, need in asked.values())
        has = there.get(resource[:-1].upper(), 0.0)
        if wanted > has:
            keys = "cluster.cpus" if resource == "cpus" else "cluster.sampler_gpus, cluster.painter_gpus"
            words = [f"{count} {word}s" for word, (count, _) in asked.items()]
            counts = [f"cluster.{word}s" for word in asked]
            raise UserError(
                f"cluster: {_listed(words, 'and')} need {wanted:g} {resource[:-1].upper()}s and the cluster has "
                f"{has:g}; lower {_listed(counts, 'or')}, or what each reserves ({keys})."
            )
    for word, (count, need) in asked.items():
        _check_machines(word, count, need)


def _asked(config: Config) -> dict[str, tuple[int, WorkerNeeds]]:
    """How many of each kind, and what one of them needs."""
    cluster, needs = config.cluster, needs_of(config)
    asked = {"sampler": (cluster.samplers, needs["sample"]), "painter": (cluster.painters, needs["paint"])}
    return asked | ({"trainer": (cluster.trainers, trainer_needs(config))} if cluster.trainers else {})


def _listed(words: Sequence[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _check_machines(word: str, count: int, need: WorkerNeeds) -> None:
    """A worker lies on one machine: what is left over on several is of no use to it."""
    machines: Sequence[Mapping[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    room = sum(_fit(machine, need) for machine in machines)
    if room < count:
        each = " and ".join(f"{machine.get('CPU', 0):g} CPUs, {machine.get('GPU', 0):g} GPUs" for machine in machines)
        keys = "cluster.cpus" if word == "trainer" else f"cluster.cpus or cluster.{word}_gpus"
        raise UserError(
            f"cluster: each of {count} {word}s needs {need.cpus:g} CPUs and {need.gpus:g} GPUs of one machine, and the "
            f"cluster's machines ({each}) have room for {room}; lower cluster.{word}s, {keys}."
        )


def _fit(machine: Mapping[str, float], need: WorkerNeeds) -> int:
    """Workers that it has room for, if it does nothing else."""
    asked = (("CPU", need.cpus), ("GPU", need.gpus))
    return int(min((machine.get(name, 0.0) / amount + 1e-6 for name, amount in asked if amount), default=1e6))
