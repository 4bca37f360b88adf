"""Checkpoints that a ``kill -9`` or a full disk cannot spoil.

``RUN/checkpoints/step-000025/`` holds one folder per part and ``manifest.json``: the step, a small state, and size and
CRC-32 of every file. All of it is written to ``.tmp-step-000025``, the manifest last, and appears by one rename; so a
folder with a final name is complete, and anything else is a leftover of a killed run that nobody reads.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from rl.data.drawing.draws import DrawState
from rl.process.disk import WRITE_ERRORS, true_cause, words
from rl.types import UserError

if TYPE_CHECKING:
    from rl.run_folder.random_state import RngState

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"


class RunState(TypedDict):
    """What a run needs of itself to go on, beside its parts."""

    version: int
    rng: RngState
    draws: NotRequired[DrawState]


class _Manifest(TypedDict):
    format: int
    step: int
    state: RunState
    files: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Checkpoint:
    """A complete, verified checkpoint. ``folder / part`` is what that part wrote; ``state`` as it was given."""

    folder: Path
    step: int
    state: RunState


def save(
    run_folder: Path,
    step: int,
    parts: Mapping[str, Callable[[Path], None]],
    state: RunState,
    keep: int,
    usable: Callable[[int], bool] = lambda step: True,
) -> Path:
    """Writes one checkpoint and then drops all but the newest ``keep``, and the newest that is ``usable`` if none of
    those is. Returns its folder.

    Each part is called with an existing empty folder of its name; ``state`` is JSON.
    Raises: UserError if the folder cannot be written, for instance because the disk is full; the earlier checkpoints
    are then untouched and the unfinished one is removed.
    """
    folder = _folder(run_folder, step)
    unfinished = folder.with_name(f".tmp-{folder.name}")
    try:
        clean(run_folder)
        unfinished.mkdir(parents=True)
        for name, write in parts.items():
            (unfinished / name).mkdir(exist_ok=True)
            write(unfinished / name)
        _write_manifest(unfinished, step, state)
        _publish(unfinished, folder)
        _prune(run_folder, keep, usable)
    except WRITE_ERRORS as error:
        cause = true_cause(error, unfinished)
        if cause is None:
            raise
        shutil.rmtree(unfinished, ignore_errors=True)
        raise UserError(_write_failure(run_folder, step, cause)) from error
    return folder


def found(run_folder: Path, step: int | None = None) -> bool:
    """Whether there is a complete checkpoint, intact or not, also one that was being replaced; or that of ``step``."""
    if step is not None:
        return _folder(run_folder, step) in _complete(run_folder)
    return bool(_complete(run_folder)) or any((run_folder / "checkpoints").glob(".old-step-*"))


def oldest(run_folder: Path, usable: Callable[[int], bool] = lambda step: True) -> int | None:
    """The step of the oldest complete checkpoint that is usable; ``None`` if there is none."""
    return min(filter(usable, map(_step_of, _complete(run_folder))), default=None)


def newest(run_folder: Path) -> int | None:
    """The step of the newest complete checkpoint, intact or not."""
    return max(map(_step_of, _complete(run_folder)), default=None)


def way_on(run_folder: Path) -> str:
    """What a resume does now, in words."""
    if found(run_folder):
        return "--resume goes on from the last checkpoint"
    return "there is no checkpoint yet, so --resume starts from the beginning"


def latest(run_folder: Path, usable: Callable[[int], bool] = lambda step: True) -> Checkpoint | None:
    """The newest checkpoint whose files are all as written; ``None`` if there is none.

    ``usable``: whether a run can go on from the checkpoint of that step; one that steps ahead needs their experience.
    A damaged one is skipped with a warning. Raises: UserError if all are damaged, naming the newest one's problem.
    """
    problems = []
    for folder in filter(lambda one: usable(_step_of(one)), _complete(run_folder)):
        found = _verify(folder)
        if not isinstance(found, str):
            return Checkpoint(folder, found["step"], found["state"])
        problems.append(found)
        log.warning("%s; trying the checkpoint before it.", found)
    if problems:
        raise UserError(f"{problems[0]}, and no earlier checkpoint is intact; start again in a new run.folder.")
    return None


def clean(run_folder: Path) -> None:
    """Removes what killed writes left behind; puts back a checkpoint that was being replaced by one of its step."""
    checkpoints = run_folder / "checkpoints"
    for replaced in checkpoints.glob(".old-step-*"):
        original = checkpoints / replaced.name.removeprefix(".old-")
        if original.exists():
            shutil.rmtree(replaced)
        else:
            replaced.rename(original)
    for unfinished in checkpoints.glob(".tmp-step-*"):
        shutil.rmtree(unfinished)


def _folder(run_folder: Path, step: int) -> Path:
    return run_folder / "checkpoints" / f"step-{step:06d}"


def _complete(run_folder: Path) -> list[Path]:
    """Checkpoint folders, newest first."""
    folders = [path for path in (run_folder / "checkpoints").glob("step-*") if (path / MANIFEST).is_file()]
    return sorted(folders, key=_step_of, reverse=True)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _write_manifest(folder: Path, step: int, state: RunState) -> None:
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        _sync(path)
        files[path.relative_to(folder).as_posix()] = [path.stat().st_size, _crc32(path)]
    manifest = {"format": 1, "step": step, "state": state, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest))
    _sync(folder / MANIFEST)
    for inner in (path for path in folder.rglob("*") if path.is_dir()):
        _sync(inner)
    _sync(folder)


def _publish(unfinished: Path, folder: Path) -> None:
    replaced = folder.with_name(f".old-{folder.name}")
    if folder.exists():
        folder.rename(replaced)
    unfinished.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _prune(run_folder: Path, keep: int, usable: Callable[[int], bool]) -> None:
    kept, older = _complete(run_folder)[: max(1, keep)], _complete(run_folder)[max(1, keep) :]
    if not any(usable(_step_of(folder)) for folder in kept):
        still = next((folder for folder in older if usable(_step_of(folder))), None)
        older = [folder for folder in older if folder != still]
    for folder in older:
        # Out of sight first: a kill in the middle of the removal must not leave a folder with a final name.
        doomed = folder.with_name(f".tmp-{folder.name}")
        folder.rename(doomed)
        shutil.rmtree(doomed)


def _verify(folder: Path) -> _Manifest | str:
    """The manifest, or what is wrong with the checkpoint."""
    try:
        manifest: _Manifest = json.loads((folder / MANIFEST).read_text())
        files = manifest["files"]
    except (ValueError, KeyError, OSError):
        return f"{folder}: {MANIFEST} is damaged"
    for name, (size, crc) in files.items():
        path = folder / name
        if not path.is_file():
            return f"{folder}: {name} is missing"
        if path.stat().st_size != size or _crc32(path) != crc:
            return f"{folder}: {name} is damaged"
    return manifest


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return value


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_failure(run_folder: Path, step: int, error: OSError) -> str:
    reason, fix = words(error)
    kept = _complete(run_folder)
    rest = f"resume later from {kept[0].name}" if kept else "no earlier checkpoint exists"
    room = ", lower checkpoint.keep" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return (
        f"{run_folder / 'checkpoints'}: {reason} while saving step {step}: {fix}{room} or choose another run.folder "
        f"({rest})."
    )
