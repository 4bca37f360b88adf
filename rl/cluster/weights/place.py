"""Where a run's sets lie on a machine, who uses them, and what dead runs have left.

``/dev/shm/easel-weights-UID/RUN/users/`` has a file for each process of the run, locked for as long as it lives,
however it ends. A run whose files nobody has locked is dead, and the next run on this machine removes what it left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rl.process.disk import words
from rl.types import UserError

_SHARED = Path("/dev/shm")
_USERS, _LOCK = "users", ".lock"
_LOOK_S, _PATIENCE_S = 0.05, 60.0


def bases() -> list[Path]:
    """Of all runs of this user, the better one first: shared memory, then the folder for temporary files."""
    roots = [root for root in (_SHARED, Path(tempfile.gettempdir())) if root.is_dir() and os.access(root, os.W_OK)]
    return [root / f"easel-weights-{os.getuid()}" for root in roots]


class StorePlace:
    """A process's share in the folder of its run."""

    def __init__(self, run: str, room: int, candidates: Sequence[Path]) -> None:
        """``room``: bytes that all of the run's sets need at one time. Raises: UserError if no place has them."""
        self._base = _chosen(run, room, candidates)
        self.folder = self._base / run
        with locked(self._base / _LOCK, _PATIENCE_S, f"to open {self.folder}"):
            sweep(self._base, sparing=run)
            users = self.folder / _USERS
            users.mkdir(parents=True, exist_ok=True)
            _remove_halves(self.folder)
            self._mine = users / f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
            self._descriptor = os.open(self._mine, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def leave(self) -> None:
        """The last process takes the folder with it."""
        if self._descriptor < 0:
            return
        with locked(self._base / _LOCK, _PATIENCE_S, f"to close {self.folder}"):
            self._mine.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1
            if not _used(self.folder):
                shutil.rmtree(self.folder, ignore_errors=True)


def sweep(base: Path, sparing: str = "") -> list[str]:
    """Removes what runs left whose processes are all gone; the caller has the lock. Returns their names."""
    gone = []
    for folder in sorted(path for path in base.iterdir() if (path / _USERS).is_dir()):
        if folder.name != sparing and folder.stat().st_uid == os.getuid() and not _used(folder):
            shutil.rmtree(folder, ignore_errors=True)
            gone.append(folder.name)
    return gone


@contextmanager
def locked(path: Path, wait_s: float, doing: str) -> Iterator[None]:
    """Alone among the processes of this machine. Raises: UserError if another one stays for longer than ``wait_s``."""
    descriptor, until = os.open(path, os.O_RDWR | os.O_CREAT, 0o600), time.monotonic() + wait_s
    try:
        while not _taken(descriptor):
            if time.monotonic() > until:
                raise UserError(
                    f"{path} has been locked by another process of this machine for {wait_s:g} s, and is needed "
                    f"{doing}: end that process."
                )
            time.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_halves(folder: Path) -> None:
    """What killed processes of a living run were about: sets half written or half removed, whose names end with their
    process's number."""
    alive = set()
    for user in (folder / _USERS).glob("*"):
        if _alive(user):
            alive.add(user.name.partition("-")[0])
        else:
            user.unlink(missing_ok=True)
    for half in (*folder.glob(".new-*"), *folder.glob(".gone-*")):
        if half.name.rpartition("-")[2] not in alive:
            shutil.rmtree(half, ignore_errors=True)


def _used(folder: Path) -> bool:
    """Whether a process lives that has opened it."""
    return any(_alive(user) for user in (folder / _USERS).glob("*"))


def _alive(user: Path) -> bool:
    try:
        descriptor = os.open(user, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _taken(descriptor)
    finally:
        os.close(descriptor)


def _chosen(run: str, room: int, candidates: Sequence[Path]) -> Path:
    """All processes of a run find the same one: where it has begun, else where there is room."""
    for base in candidates:
        if (base / run / _USERS).is_dir():
            return base
    looked = []
    for base in candidates:
        try:
            base.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            looked.append(f"{base}: {words(error)[0]}")
            continue
        free = shutil.disk_usage(base).free
        if base.stat().st_uid != os.getuid():
            looked.append(f"{base} belongs to another user")
        elif free < room:
            looked.append(f"{base} has {free / 1e9:.2f} GB free")
        else:
            return base
    raise UserError(
        f"the sets of weights of this run need {room / 1e9:.2f} GB on each machine, and {'; '.join(looked)}: give "
        "shared memory more room (docker run --shm-size), set TMPDIR to a disk that has it, or lower loop.staleness."
    )
