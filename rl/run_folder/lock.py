"""One run folder, one process: ``run.lock`` says who writes there, on which machine, since when.

The file appears with its content by one ``link``, which is safe on NFS, too. Its owner also holds a ``flock`` on it for
as long as it lives, so another process of the same machine knows whether it is still there; a number that was given to
another process since is no trouble. What an owner that was killed left behind is taken over on its own machine; from
another machine nobody can tell, and the message says what to do.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import psutil

from rl.types import UserError

LOCK_FILE = "run.lock"
_ATTEMPTS = 20


@dataclass(frozen=True)
class Owner:
    """Who holds a run folder. ``machine`` outlives a restart, ``boot`` and ``namespace`` (of process ids) don't."""

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: float
    since: str

    @classmethod
    def here(cls) -> Owner:
        return cls(
            host=socket.gethostname(),
            machine=_read("/etc/machine-id"),
            boot=_read("/proc/sys/kernel/random/boot_id"),
            namespace=_link("/proc/self/ns/pid"),
            pid=os.getpid(),
            started=psutil.Process().create_time(),
            since=datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        )

    @property
    def near(self) -> bool:
        """Whether it is, or was before a restart, on this machine, where its ``flock`` can be seen."""
        here = Owner.here()
        if self.boot and self.boot == here.boot:
            return True
        return bool(self.machine) and (self.host, self.machine) == (here.host, here.machine)

    @property
    def runs(self) -> bool:
        """Whether that very process is alive; ``False``, too, where this process cannot see it."""
        here = Owner.here()
        if (self.boot, self.namespace) != (here.boot, here.namespace):
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) < 1.0
        except psutil.Error:
            return False


@contextmanager
def hold(folder: Path) -> Iterator[Callable[[], None]]:
    """Makes the folder and holds it; yields what lets go of it, for whoever ends the process without leaving here.

    Raises: UserError if another process holds it or the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _take(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"run.folder: cannot write to {folder} ({reason}); choose another folder.") from error

    def release() -> None:
        with suppress(OSError):  # the folder may be gone, and the lock with it
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                path.unlink()
            os.close(descriptor)

    try:
        yield release
    finally:
        release()


def _take(path: Path) -> int:
    """The descriptor whose ``flock`` says that this process lives."""
    owner = Owner.here()
    own = path.with_name(f".{path.name}-{owner.host}-{owner.pid}")
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _try_flock(descriptor)
        os.write(descriptor, (json.dumps(asdict(owner)) + "\n").encode())
        os.fsync(descriptor)
        for _ in range(_ATTEMPTS):
            if _put(own, path) or _taken_over(own, path):
                return descriptor
        raise UserError(f"run.folder: other runs start in {path.parent} again and again; give each a folder of its own")
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        own.unlink(missing_ok=True)


def _put(own: Path, path: Path) -> bool:
    """Whether the lock is ours now: by a link, or by a new file where the file system knows no links."""
    try:
        os.link(own, path)
    except FileExistsError:
        return own.stat().st_nlink == 2  # NFS may do it and answer twice
    except OSError:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        os.replace(own, path)
    return True


def _taken_over(own: Path, path: Path) -> bool:
    """Whether a lock that nobody holds any more became ours; ``False``: look again.

    Raises: UserError if it is held, or nobody can tell.
    """
    try:
        old = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        owner = _owner(path, old)
        free = _try_flock(old)  # also keeps out whoever wants to take it over at the same time
        if not owner.near:
            raise UserError(_elsewhere(path, owner))
        if free is False or owner.runs:
            raise UserError(_in_use(path, owner))
        if not os.path.samestat(os.fstat(old), os.stat(path)):
            return False
        os.replace(own, path)
        return True
    except FileNotFoundError:
        return False
    finally:
        os.close(old)


def _try_flock(descriptor: int) -> bool | None:
    """Whether nobody else holds it; ``None`` where the file system has no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _owner(path: Path, descriptor: int) -> Owner:
    try:
        return Owner(**json.loads(os.pread(descriptor, 1 << 16, 0)))
    except (ValueError, TypeError) as error:
        raise UserError(
            f"run.folder: another run is starting in {path.parent}, or {path} is damaged: if no run is there, remove "
            "that file"
        ) from error


def _in_use(path: Path, owner: Owner) -> str:
    visible = owner.namespace == Owner.here().namespace  # in another container the number means another process
    who, stop = (f"process {owner.pid}", f" (kill {owner.pid})") if visible else ("a process of another container", "")
    return (
        f"run.folder: {path.parent} is in use: {who} of this machine has been running there since {owner.since}; wait "
        f"for it, stop it{stop}, or give this run a folder of its own, for example "
        f"{shlex.quote(f'run.folder={path.parent}-2')}."
    )


def _elsewhere(path: Path, owner: Owner) -> str:
    return (
        f"run.folder: {path.parent} is in use by process {owner.pid} on {owner.host} since {owner.since}, which cannot "
        f"be seen from here; if that run is gone (killed, its machine down), remove {path} and start again."
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
