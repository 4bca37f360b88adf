"""What a reward needs of the machine, declared beside it and read from its source, before any process is started.

A class carries ``needs = Needs(cpus=2, batch_size=8)`` or ``needs = {"cpus": 2}`` in its body, a function
``@declares(needs={...})`` above it. The values must be literals: interpreter, threads and GPUs are chosen before
the reward's module is imported anywhere. The worker compares what it imports with what was read here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rl.config.declared import build_declared, read_source
from rl.types import UserError

if TYPE_CHECKING:
    from rl.config.schema import RewardComponent

OVERRIDES = ("workers", "batch_size", "cpus", "gpus", "python")
# Read by glibc when a process starts: every array comes from the heap, and the heap stays (``rewards.pool.memory``).
KEEP_MEMORY: Final = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True)
class Needs:
    """``Needs(gpus=0.5, batch_size=16)``. Raises ``UserError`` for a value that cannot be met anywhere.

    ``workers``: processes. ``batch_size``: most samples in one call; groups stay together where they fit into it.
    ``cpus``: threads of the numerical libraries in each worker (``None``: the machine's cores divided by what is busy
    at the same time, unless the environment says how many).
    ``gpus``: share of a GPU per worker; 0 hides all GPUs, 0.5 lets two workers share one, 2 gives two. What a reward
    declares is a wish, not met on a machine without GPUs; what the YAML says must be met.
    ``thread_safe``: may be called from several threads at once; a batch is then scored in ``cpus`` parts at the same
    time, each with single-threaded libraries. ``whole_groups``: a group is never divided, however large, and its
    scores are not cached, because they depend on its other members.
    ``python``: interpreter of a virtual environment of its own, with numpy in it; our packages are found from there.
    """

    workers: int = 1
    batch_size: int = 32
    cpus: int | None = None
    gpus: float = 0
    thread_safe: bool = False
    whole_groups: bool = False
    python: str | None = None

    def __post_init__(self) -> None:
        for name in ("workers", "batch_size"):
            _whole_number(name, getattr(self, name))
        if self.cpus is not None:
            _whole_number("cpus", self.cpus)
        gpus = self.gpus
        number = isinstance(gpus, (int, float)) and not isinstance(gpus, bool)
        if not number or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise UserError(f"`gpus` is {gpus!r}: it must be 0, a share up to 1, or a whole number of GPUs")
        for name in ("thread_safe", "whole_groups"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"`{name}` is {getattr(self, name)!r}: it must be True or False")
        if self.python is not None and not isinstance(self.python, str):
            raise UserError(f"`python` is {self.python!r}: it must be the path of a Python interpreter")

    @property
    def call_threads(self) -> int:
        """Calls of the reward at the same time inside one worker."""
        return self.cpus or 1 if self.thread_safe else 1

    def environment(self, threads: int | None) -> dict[str, str]:
        """Environment variables of a worker: the numerical libraries' threads, and how memory is kept.

        ``threads``: where ``cpus`` says nothing; ``None`` leaves it to the environment.
        """
        kept = {name: value for name, value in KEEP_MEMORY.items() if name not in os.environ}
        if self.cpus is not None:
            threads = 1 if self.thread_safe else self.cpus
        elif any(name in os.environ for name in _THREAD_VARIABLES):
            threads = None
        return kept if threads is None else kept | dict.fromkeys(_THREAD_VARIABLES, str(threads))


def _whole_number(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"`{name}` is {value!r}: it must be a whole number of at least 1")


def fair_threads(busy: int) -> int:
    """Threads for each of ``busy`` processes. More than the cores in all: they wait for each other's time slices, and
    what takes 16 ms may take a second."""
    return max(1, len(os.sched_getaffinity(0)) // max(1, busy))


def settle_needs(name: str, reward: RewardComponent, gpus: int = 0) -> tuple[Needs, Needs]:
    """(what counts, what the source declares): the entries of ``rewards.<name>`` override the declaration.

    ``gpus``: how many there are; a declared wish above that is dropped.
    Raises ``UserError`` for wrong declarations and overrides and for an interpreter that is not there.
    """
    declared = declared_needs(reward.use)
    given = {key: value for key in OVERRIDES if (value := getattr(reward, key)) is not None}
    if declared.gpus > gpus:
        given.setdefault("gpus", 0)
    try:
        needs = replace(declared, **given)
    except UserError as error:
        raise UserError(f"rewards.{name}: {error}") from error
    if needs.python is None:
        return needs, declared
    if not Path(needs.python).is_file():
        raise UserError(
            f"rewards.{name}.python: there is no interpreter {needs.python!r}; "
            f"name the `bin/python` of the reward's virtual environment"
        )
    if not os.access(needs.python, os.X_OK):
        raise UserError(f"rewards.{name}.python: {needs.python!r} may not be executed; `chmod +x` it or name another")
    return needs, declared


def as_needs(declaration: object, use: str) -> Needs:
    """A reward's ``needs`` attribute as ``Needs``; ``None`` needs nothing special."""
    if declaration is None:
        return Needs()
    if isinstance(declaration, Needs):
        return declaration
    if not isinstance(declaration, Mapping):
        raise UserError(f"{use!r}: its `needs` is a {type(declaration).__name__}; write a Needs or a mapping")
    return build_declared(Needs, declaration, use, "needs")


def check_declared(target: object, read: Needs, use: str) -> None:
    """In the worker: raises ``UserError`` if ``target`` declares other needs than were read from its source."""
    found = as_needs(getattr(target, "needs", None), use)
    if found != read:
        different = {key: value for key, value in asdict(found).items() if value != getattr(read, key)}
        raise UserError(
            f"{use!r} declares the needs {different}, which could not be read from its source: write `needs` with "
            f"literal values in the body of the class (beside a function: `{use.partition(':')[2]}.needs = {{...}}`)"
        )


def declared_needs(use: str) -> Needs:
    """The needs written in the source of the reward ``use``, without importing it; the defaults if none are."""
    try:
        source = read_source("rewards", use)
        declaration = source.value("needs") if source else None
    except UserError:  # the worker imports it, perhaps in another environment, and says it with the YAML key
        return Needs()
    return as_needs(declaration, use)
