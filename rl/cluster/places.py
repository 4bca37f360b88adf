"""The Ray cluster that a run works on: joined or started, and whether it has room."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

from rewards.needs import fair_threads
from rewards.pool.gpus import visible_gpus
from rl.cluster.jobs import RoleName
from rl.cluster.machines import require_our_code
from rl.cluster.room import Kind, Machine, left_over
from rl.config.schema import Config
from rl.config.sections.cluster_rules import counted, ranks_of
from rl.process.interrupt import FAILED, Interrupt
from rl.types import RunFailure, UserError

_ANSWER_S = 5.0
_OTHER_VERSION, _NO_ADDRESS = "Version mismatch", "Invalid address"  # Ray's words
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_NEARLY = 1e-6
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
    """Of its own: without ``local`` Ray would join one that somebody has started on this machine."""
    _hush()
    try:
        ray.init(address="local", **options)
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
    _hush()
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if _OTHER_VERSION in reason:
            reason += "; install the same Ray and Python on both"
        if _NO_ADDRESS in reason:
            reason += "; write host:port, or auto for this machine's cluster"
        raise UserError(f"cluster.address: {address} can't be joined: {reason}") from error


def _hush() -> None:
    """At each start Ray would say that it protects itself by a token, and how to switch that off."""
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)


def require_room_for_pictures(
    config: Config, picture_bytes: int, *, way_bytes: int = 0, references: bool = False
) -> None:
    """All that may be painted and not yet scored must lie in the cluster's object stores, each with the way to it, and
    with ``references`` a picture for each prompt that changes one. Raises: UserError."""
    painted = config.data.prompts_per_step * config.rollout.group_size * config.render.renders
    pictures = painted + config.data.prompts_per_step * references
    steps = config.loop.staleness + 1
    wanted = (pictures * picture_bytes + painted * way_bytes) * steps
    has = ray.cluster_resources()["object_store_memory"]
    if wanted > has * _PICTURES_SHARE:
        keys = [*["loop.staleness"] * (steps > 1), "data.prompts_per_step", "rollout.group_size"]
        raise UserError(
            f"cluster: {counted(steps, 'step')} of {pictures:,} pictures take{'s' * (steps == 1)} "
            f"{wanted / 1e9:.2f} GB, and Ray's object stores have {has / 1e9:.2f} GB, of which at most half is for "
            f"them; start Ray with a larger --object-store-memory, or lower {_listed(keys, 'or')}"
        )


def _check_room(config: Config) -> None:
    """Raises: UserError saying what is missing where the workers could never be placed."""
    kinds = _kinds(config)
    there = ray.cluster_resources()
    for resource in ("cpus", "gpus"):
        wanted = sum(kind.count * getattr(kind, resource) for kind in kinds)
        has, unit = there.get(resource[:-1].upper(), 0.0), resource[:-1].upper()
        if wanted > has + _NEARLY:
            words = [counted(kind.count, kind.word) for kind in kinds]
            need = "needs" if sum(kind.count for kind in kinds) == 1 else "need"
            keys = "cluster.cpus" if resource == "cpus" else "cluster.sampler_gpus, cluster.painter_gpus"
            raise UserError(
                f"cluster: {_listed(words, 'and')} {need} {_amount(wanted, unit)} and the cluster has {has:g}; lower "
                f"{_numbers(kinds)}, or what each reserves ({keys})."
            )
    machines = [
        Machine(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    for kind in kinds:
        _check_alone(kind, machines)
    _check_together(kinds, machines)


def _kinds(config: Config) -> list[Kind]:
    """How many of each there are to be, and what one of them needs."""
    cluster, needs = config.cluster, needs_of(config)
    asked = [("sampler", cluster.samplers, needs["sample"]), ("painter", cluster.painters, needs["paint"])]
    asked.append(("trainer", cluster.trainers, trainer_needs(config)))
    return [Kind(word, count, need.cpus, need.gpus) for word, count, need in asked if count]


def _check_alone(kind: Kind, machines: Sequence[Machine]) -> None:
    """A worker lies on one machine: what is left over on several is of no use to it."""
    if (left := left_over([kind], machines)[0]) > 0:
        gpus = [] if kind.word == "trainer" else [f"cluster.{kind.word}_gpus"]
        keys = _listed([f"cluster.{kind.word}s", "cluster.cpus", *gpus], "or")
        raise UserError(
            f"cluster: {'each of ' * (kind.count > 1)}{counted(kind.count, kind.word)} needs {_needed(kind)} of one "
            f"machine, and the cluster's machines ({_described(machines)}) have room for {kind.count - left}; lower "
            f"{keys}."
        )


def _check_together(kinds: Sequence[Kind], machines: Sequence[Machine]) -> None:
    """Where each kind alone has room. Ray places one worker after the other and moves none, so that it needs at least
    what the best arrangement needs."""
    left = left_over(kinds, machines)
    missing = [counted(count, kind.word) for kind, count in zip(kinds, left, strict=True) if count]
    if missing:
        asked = [f"{counted(kind.count, kind.word)} of {_needed(kind)}" for kind in kinds]
        more = next(kind for kind, count in zip(kinds, left, strict=True) if count)
        raise UserError(
            f"cluster: {_listed(asked, 'and')} never have room together on the cluster's machines "
            f"({_described(machines)}), each of them on one: {_listed(missing, 'and')} "
            f"{'is' if sum(left) == 1 else 'are'} left over; lower {_numbers(kinds)}, or add a machine with "
            f"{_needed(more)}."
        )


def _numbers(kinds: Sequence[Kind]) -> str:
    return _listed([f"cluster.{kind.word}s" for kind in kinds], "or")


def _needed(kind: Kind) -> str:
    return f"{_amount(kind.cpus, 'CPU')} and {_amount(kind.gpus, 'GPU')}"


def _described(machines: Sequence[Machine]) -> str:
    """``8 CPUs with 3 GPUs and 2 x 8 CPUs with 1 GPU``."""
    found = Counter(f"{_amount(one.cpus, 'CPU')} with {_amount(one.gpus, 'GPU')}" for one in machines)
    return _listed([f"{times} x {words}" if times > 1 else words for words, times in found.items()], "and")


def _listed(words: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _amount(number: float, unit: str) -> str:
    """``1 CPU``, ``0.5 GPUs``."""
    return f"{number:g} {unit}{'s' * (number != 1)}"
