"""The weight sets of one run on one machine: published, pulled, loaded, and dropped when nobody needs them.

A set appears by one rename and is never changed. Who works with weights names a version and loads it before it starts;
a late joiner, a restart and a second attempt are the same call.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from policy.trainable import Adapter, WeightStream
from rl.cluster.weights.manifest import MANIFEST_FILE, Manifest
from rl.cluster.weights.place import StorePlace, bases, locked
from rl.cluster.weights.sets import DamagedWeights, MissingWeights, WeightSet, set_folder
from rl.cluster.weights.write import write_manifest, write_set
from rl.process.disk import words
from rl.types import UserError
from rollout.sync import Canary
from rollout.weights import SyncError

log = logging.getLogger(__name__)
Reader = Callable[[str, int, int], bytes]
"""(file of a set, first byte, how many) -> at most so many bytes, none at its end."""
BLOCK = 64 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_WHOLE = 1 << 30  # more than any manifest


class WeightStore:
    """``with WeightStore.open(run_id) as store: store.publish(3, {"ar": trainer.weights()}); store.load(3)``."""

    def __init__(self, place: StorePlace) -> None:
        self._place = place
        self.folder = place.folder

    @classmethod
    def open(cls, run: str, *, room: int = 0, candidates: Sequence[Path] | None = None) -> Self:
        """``run``: a name that every process of this start of the run has, and no other run. ``room``: bytes that its
        sets need at one time. What dead runs of this user left is removed.

        Raises: UserError if there is no such room.
        """
        if not _NAME.fullmatch(run):
            raise ValueError(f"the name of a run is to be a file's name, got {run!r}")
        return cls(StorePlace(run, room, bases() if candidates is None else candidates))

    def publish(
        self,
        version: int,
        parts: Mapping[str, WeightStream],
        *,
        canaries: Mapping[str, Canary] | None = None,
        adapters: Mapping[str, Adapter] | None = None,
    ) -> Manifest:
        """Of ``adapters`` there go out only they, not the weights that they are for. A version that is there already,
        as after the replay of a step, must be the same.

        Raises: SyncError naming the first tensor that is not, UserError if there is no room.
        """
        with self._unfinished(version) as folder:
            manifest = write_set(folder, version, {**parts, **(adapters or {})}, canaries)
            if not self.has(version):
                folder.rename(set_folder(self.folder, version))
                return manifest
        with self.load(version) as there:
            _require_same(there.manifest, manifest)
            return there.manifest

    def versions(self) -> list[int]:
        """Those that are here, whole."""
        found = self.folder.glob("version-*")
        return sorted(int(path.name.removeprefix("version-")) for path in found if (path / MANIFEST_FILE).is_file())

    def has(self, version: int) -> bool:
        return (set_folder(self.folder, version) / MANIFEST_FILE).is_file()

    def load(self, version: int) -> WeightSet:
        """Verified whole; close it when the weights are in. Raises: MissingWeights, DamagedWeights."""
        return WeightSet(set_folder(self.folder, version), version)

    def prune(self, lowest: int) -> list[int]:
        """Removes all versions below the lowest one that may still be named; what somebody has open stays until the
        next call. Returns what has gone."""
        return [version for version in self.versions() if version < lowest and self._removed(version)]

    def drop(self, version: int) -> None:
        """A damaged one, so that it is pulled anew."""
        shutil.rmtree(set_folder(self.folder, version), ignore_errors=True)

    def read(self, version: int, file: str, start: int, size: int) -> bytes:
        """Of a set that is here, for a machine that lacks it. Raises: MissingWeights."""
        if not _NAME.fullmatch(file):
            raise ValueError(f"a set has no file {file!r}")
        path = set_folder(self.folder, version) / file
        try:
            with path.open("rb") as content:
                content.seek(start)
                return content.read(size)
        except FileNotFoundError as error:
            raise MissingWeights(f"weights of version {version}: there is no {path} to be sent.") from error

    def pull(self, version: int, reader: Reader, *, wait_s: float = 600.0) -> None:
        """Fetches a set from a machine that has it, one block at a time; the machine's other processes wait for it.

        Raises: MissingWeights, DamagedWeights, UserError if there is no room or the wait is too long.
        """
        with locked(self.folder / f".pull-{version}.lock", wait_s, f"to pull the weights of version {version}"):
            if self.has(version):
                return
            with self._unfinished(version) as folder:
                _fetch(folder, version, reader)
                WeightSet(folder, version).close()  # verified before anybody sees it
                folder.rename(set_folder(self.folder, version))

    def close(self) -> None:
        """The last process of the run removes its folder."""
        self._place.leave()

    def discard(self) -> None:
        """At the end of a run: the sets go now, whoever still has one keeps what is mapped."""
        for version in self.versions():
            self.drop(version)
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _unfinished(self, version: int) -> Iterator[Path]:
        """A folder that nobody looks at; gone afterwards, unless it was renamed. Raises: UserError if it is full."""
        folder = self.folder / f".new-{version}-{os.getpid()}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir()
            yield folder
        except OSError as error:
            if isinstance(error, (TimeoutError, ConnectionError)):  # of whoever was to send it
                raise
            reason, fix = words(error)
            room = error.errno in (errno.ENOSPC, errno.EDQUOT)
            more = "give shared memory more room (docker run --shm-size) or lower loop.staleness" if room else fix
            raise UserError(
                f"the weights of version {version} cannot be written to {self.folder}: {reason}; {more}, and resume "
                "the run."
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _removed(self, version: int) -> bool:
        folder = set_folder(self.folder, version)
        try:
            descriptor = os.open(folder / MANIFEST_FILE, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            doomed = folder.with_name(f".gone-{version}-{os.getpid()}")
            folder.rename(doomed)
        except BlockingIOError:
            log.debug("weights of version %d are being read; they go later", version)
            return False
        finally:
            os.close(descriptor)
        shutil.rmtree(doomed, ignore_errors=True)
        return True


def _fetch(folder: Path, version: int, reader: Reader) -> None:
    text = reader(MANIFEST_FILE, 0, _WHOLE).decode(errors="replace")
    try:
        manifest = Manifest.of(text)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedWeights(f"weights of version {version}: {MANIFEST_FILE} came damaged ({error}).") from error
    for part in manifest.parts.values():
        with (folder / part.file).open("wb") as file:
            while (done := file.tell()) < part.size:
                block = reader(part.file, done, min(BLOCK, part.size - done))
                if not block:
                    raise DamagedWeights(
                        f"weights of version {version}: {part.file} ended after {done:,} of {part.size:,} bytes."
                    )
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        (folder / part.file).chmod(0o444)
    write_manifest(folder, text)


def _require_same(there: Manifest, again: Manifest) -> None:
    """Raises: SyncError naming the first difference."""
    for name, part in there.parts.items():
        new = again.parts.get(name)
        for one, other in zip(part.tensors, new.tensors if new else (), strict=False):
            if one != other:
                raise SyncError(
                    f"weights of version {there.version}: '{other.name}' of {name} is not what was published before "
                    "under this version; a replayed step has to repeat what it was."
                )
    if there.parts != again.parts:
        raise SyncError(f"weights of version {there.version}: other tensors than were published before under it.")
