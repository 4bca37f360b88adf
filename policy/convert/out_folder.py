"""The folder that a conversion writes: room for it first, and it appears whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rl.process.disk import true_cause, words
from rl.types import UserError


@contextmanager
def new_folder(out: Path, size: int) -> Iterator[Path]:
    """An unfinished folder beside ``out``, which takes its name in the end. ``size``: bytes that will be written.

    Raises: UserError if ``out`` holds something, the disk is too small, or something goes wrong with it later.
    """
    require_new(out)
    require_room(out, size)
    unfinished = out.absolute().with_name(f".tmp-{out.absolute().name}")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        yield unfinished
        if out.is_dir():
            out.rmdir()
        unfinished.rename(out)
    except OSError as error:
        told = "; ".join(words(true_cause(error, unfinished) or error))
        raise UserError(f"{error.filename or out}: {told}, and convert again.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def require_new(out: Path) -> None:
    """Raises: UserError if ``out`` holds something."""
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty; name a new folder.")


def require_room(out: Path, size: int) -> None:
    """Raises: UserError if the disk of ``out`` has fewer bytes free than ``size``."""
    there = next(one for one in (out.absolute(), *out.absolute().parents) if one.is_dir())
    free = shutil.disk_usage(there).free
    if free < size:
        raise UserError(
            f"{out} would take {size / 1e9:.2f} GB and the disk of {there} has {free / 1e9:.2f} GB free; free some "
            f"space, or name a folder on another disk."
        )
