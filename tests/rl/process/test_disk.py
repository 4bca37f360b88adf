"""What the file system says, in words, also through libraries that tell it badly."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rl.process.disk import disk_errors, is_write_error, true_cause, words
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


def test_what_safetensors_says(tmp_path: Path) -> None:
    text = 'Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left on device" })'
    cause = true_cause(Exception(text), tmp_path)
    assert cause is not None
    assert words(cause)[0] == "the disk is full"


def test_a_fault_of_ours_is_none(tmp_path: Path) -> None:
    assert true_cause(RuntimeError("shape mismatch"), tmp_path) is None
    assert not is_write_error(FileNotFoundError(errno.ENOENT, "a module's own file"))
    assert is_write_error(OSError(errno.ENOSPC, "full"))
