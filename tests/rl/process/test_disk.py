"""What the file system says, in words, also through libraries that tell it badly."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rl.process.disk import disk_errors, folder_errors, true_cause, words
from rl.types import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full: cannot write a/log (logging step 3); free some space and resume the run"),
        (errno.EDQUOT, "the disk quota is used up: cannot write a/log"),
        (errno.EFBIG, "the file would be larger than this shell or file system allows: cannot write a/log"),
        (errno.EROFS, "the file system is read-only: cannot write a/log"),
        (errno.EACCES, "there is no permission to write: cannot write a/log"),
        (errno.ENOENT, "a folder is gone: cannot write a/log"),
        (errno.EIO, "the disk reports an input/output error: cannot write a/log"),
        (errno.ETIMEDOUT, "Connection timed out: cannot write a/log"),
    ],
)
def test_every_answer_is_one_sentence(number: int, said: str) -> None:
    with pytest.raises(UserError) as caught, disk_errors(Path("a/log"), "logging step 3"):
        raise OSError(number, os.strerror(number))
    assert str(caught.value).startswith(said)


def test_a_file_size_limit_is_not_called_a_full_disk(tmp_path: Path) -> None:
    """torch's writer says nothing of the reason: it is asked for again."""
    code = f"""
import resource, torch
from pathlib import Path
from rl.process.disk import true_cause, words
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    torch.save(torch.zeros(1_000_000), {str(tmp_path / "state.pt")!r})
except RuntimeError as error:
    print(words(true_cause(error, Path({str(tmp_path)!r}))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "larger than this shell or file system allows" in done.stdout, done.stderr
    assert "raise the limit (ulimit -f)" in done.stdout


def test_the_errors_that_copying_collects(tmp_path: Path) -> None:
    collected = shutil.Error([("a", "b", f"[Errno 30] {os.strerror(errno.EROFS)}: 'b'")])
    cause = true_cause(collected, tmp_path)
    assert cause is not None
    assert words(cause)[0] == "the file system is read-only"


@pytest.mark.parametrize(
    "text",
    [
        'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })',
        "Error while serializing: I/O error: No space left on device (os error 28)",
    ],
)
def test_what_safetensors_says(text: str, tmp_path: Path) -> None:
    cause = true_cause(Exception(text), tmp_path)
    assert cause is not None
    assert words(cause)[0] == "the disk is full"


def test_a_fault_of_ours_is_none(tmp_path: Path) -> None:
    assert true_cause(RuntimeError("shape mismatch"), tmp_path) is None
    with pytest.raises(FileNotFoundError), folder_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/elsewhere/module.py")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "full", "/elsewhere/log"), "the disk is full: cannot write /elsewhere/log (while"),
        (OSError(errno.EIO, "broken"), "the disk reports an input/output error: cannot write {folder} (while the run"),
        (
            FileNotFoundError(errno.ENOENT, "gone", b"{folder}/tensorboard/x"),
            "a folder is gone: cannot write {folder}/t",
        ),
        (
            PermissionError(errno.EACCES, "no", "{folder}/pictures"),
            "there is no permission to write: cannot write {fol",
        ),
    ],
)
def test_what_nobody_has_put_into_words(error: OSError, said: str, tmp_path: Path) -> None:
    if isinstance(error.filename, bytes):
        error.filename = error.filename.replace(b"{folder}", os.fsencode(tmp_path))
    elif error.filename:
        error.filename = error.filename.replace("{folder}", str(tmp_path))
    with pytest.raises(UserError) as caught, folder_errors(tmp_path):
        raise error
    assert str(caught.value).startswith(said.replace("{folder}", str(tmp_path)).removesuffix("{fol"))


def test_a_writing_thread_of_tensorboard_prints_no_traceback(tmp_path: Path) -> None:
    code = f"""
import shutil, threading
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from rl.process.disk import quiet_writers
quiet_writers()
writer = EventFileWriter({str(tmp_path / "events")!r})
shutil.rmtree({str(tmp_path / "events")!r})
try:
    for _ in range(1000):
        writer._async_writer.write(b"x")
        writer.flush()
except FileNotFoundError:
    print("raised again")
other = threading.Thread(target=lambda: 1 / 0)
other.start()
other.join()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "raised again\n"
    assert "FileNotFoundError" not in done.stderr
    assert "ZeroDivisionError" in done.stderr  # anything else is shown as ever
