"""What the file system answers while a run writes, in words: full, too large, read-only, gone, forbidden."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from rl.types import UserError

WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)
"""What libraries raise where the file system does not take what they write, and elsewhere: see :func:`true_cause`."""
_WORDS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.EFBIG: ("the file would be larger than this shell or file system allows", "raise the limit (ulimit -f)"),
    errno.EROFS: ("the file system is read-only", "make it writable"),
    errno.EACCES: ("there is no permission to write", "give this user write permission"),
    errno.EPERM: ("writing is not permitted", "give this user write permission"),
    errno.ENOENT: ("a folder is gone", "put it back"),
    errno.EEXIST: ("a file is where a folder should be", "move it away"),
    errno.ENOTDIR: ("a file is where a folder should be", "move it away"),
    errno.EISDIR: ("a folder is where a file should be", "move it away"),
    errno.ESTALE: ("the network file system has lost it", "see that it is mounted"),
    errno.EIO: ("the disk reports an input/output error", "look into the system's log"),
    errno.EMFILE: ("too many files are open", "raise the limit (ulimit -n)"),
    errno.ENFILE: ("too many files are open on this machine", "close some"),
}
_OF_ANY_FILE = _WORDS.keys() - {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM}
_OS_ERROR = re.compile(r"(?:Os \{ code: |\(os error )(\d+)")  # how safetensors writes what the system said


@contextmanager
def disk_errors(path: Path, doing: str) -> Iterator[None]:
    """Turns whatever the file system says inside into a UserError that names the file, the reason and the way on."""
    try:
        yield
    except OSError as error:
        raise UserError(sentence(error, path, doing)) from error


def sentence(error: OSError, path: Path | str, doing: str) -> str:
    """``the disk is full: cannot write runs/a/metrics.jsonl (logging step 3); free some space and resume the run``."""
    reason, fix = words(error)
    return f"{reason}: cannot write {path} ({doing}); {fix} and resume the run"


def words(error: OSError) -> tuple[str, str]:
    """(reason, fix) of what the system said."""
    if error.errno in _WORDS:
        return _WORDS[error.errno]
    return error.strerror or str(error), "repair that"


def true_cause(error: Exception, folder: Path) -> OSError | None:
    """What the system said to a library that tells it badly, while it wrote somewhere in ``folder``.

    ``shutil`` collects errors, safetensors puts them into text and torch's writer into "inline_container": where no
    number is to be had, the largest file is made longer to hear the answer again. ``None``: it is no such error.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if found := _OS_ERROR.search(str(error)):
        return _numbered(int(found[1]))
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.ENOENT, errno.EIO):
        if isinstance(error, OSError) and os.strerror(number) in str(error):  # shutil.Error, without a number
            return _numbered(number)
    if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
        return _asked_again(folder) or OSError(None, "torch could not write its file, as on a full disk")
    return error if isinstance(error, OSError) else None


def _asked_again(folder: Path) -> OSError | None:
    try:
        files = [path for path in folder.rglob("*") if path.is_file()]
        if not files:
            (folder / "probe").write_bytes(bytes(1 << 16))
            return None
        largest = max(files, key=lambda path: path.stat().st_size)
        with largest.open("ab") as file:
            for _ in range(16):
                file.write(bytes(1 << 20))
                file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with suppress(OSError):
            (folder / "probe").unlink()
    return None


def _numbered(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@contextmanager
def folder_errors(folder: Path) -> Iterator[None]:
    """For all of a run: what nobody inside has put into words. An error elsewhere that may be a bug passes through."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        inside = bool(name) and Path(name).absolute().is_relative_to(folder.absolute())
        if not inside and error.errno not in _OF_ANY_FILE:
            raise
        raise UserError(sentence(error, name or folder, "while the run was going on")) from error


def quiet_writers() -> None:
    """TensorBoard's writing thread raises its error again where it is asked to write; its own print is left out."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs, /) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            before(args)

    threading.excepthook = hook


def make_folder(folder: Path, flag: str, doing: str) -> None:
    """Raises UserError if it cannot be one; ``flag`` names it on the command line, ``doing`` is what it is for."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{flag} {folder} is a file; name a folder")
    try:
        with disk_errors(folder, doing):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{flag} {folder} cannot be written ({error.strerror}); name another folder") from error
