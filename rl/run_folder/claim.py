"""A run folder belongs to one run: whether a new run may begin there, and with which configuration.

A folder without a logged step and without a checkpoint is free: a start that failed (a wrong path, missing weights, a
tracker that is not installed) keeps nobody out. Only files that runs write are replaced, and only in a folder whose
``config.yaml`` a run wrote.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from rl.config.load import dump
from rl.config.schema import Config
from rl.run_folder import checkpoint
from rl.run_folder.experience import EXPERIENCE_FOLDER, FILES
from rl.run_folder.records import METRICS_FILE, write_atomically
from rl.types import UserError

CONFIG_FILE = "config.yaml"
_OURS = ("environment.json", "inputs.json", METRICS_FILE, "report.html", "evaluation-*.json", "evaluation-*.png")
_INNER = (
    *("pictures/train-*.png", "pictures/train-*.jsonl", "pictures/groups-*.png", "pictures/groups-*.jsonl"),
    "tensorboard/events.out.tfevents.*",
    f"{EXPERIENCE_FOLDER}/{FILES}",
)
_FOLDERS = ("checkpoints", "policy")


def is_free(folder: Path) -> bool:
    """Whether no run has come as far as a logged step or a checkpoint there."""
    log = folder / METRICS_FILE
    logged = log.is_file() and b"\n" in log.read_bytes()  # half a line is what a kill leaves
    return not logged and not checkpoint.found(folder)


def begin_new(config: Config, folder: Path) -> None:
    """Writes the resolved configuration of a run that begins here, over what failed starts have left.

    Raises: UserError if the folder holds another run, or files that no run wrote under the names that runs use.
    """
    if not is_free(folder):
        raise UserError(
            f"run.folder: {folder} already holds a run; pass --resume to go on with it, "
            f"or give this run a folder of its own, for example {shlex.quote(f'run.folder={folder}-2')}."
        )
    if not written_by_a_run(folder / CONFIG_FILE):
        _refuse_foreign(folder)
    try:
        for leftover in (path for pattern in (*_OURS, *_INNER) for path in folder.glob(pattern)):
            leftover.unlink()
    except OSError as error:
        raise UserError(f"run.folder: cannot write to {folder} ({error.strerror}); choose another folder.") from error
    write_configuration(config, folder)


def write_configuration(config: Config, folder: Path) -> None:
    """``config.yaml``, complete. Raises: UserError if it cannot be written."""
    write_atomically(folder / CONFIG_FILE, dump(config))


def written_by_a_run(file: Path) -> bool:
    """Whether this is the ``config.yaml`` that a run wrote, and not somebody's own file of that name."""
    head = dump(Config()).split("\n", 1)[0]
    try:
        with file.open(encoding="utf-8", errors="replace") as lines:
            return lines.readline().rstrip("\n") == head
    except OSError:
        return False


def _refuse_foreign(folder: Path) -> None:
    patterns = (CONFIG_FILE, *_OURS, *_FOLDERS)
    found = sorted(path.name for pattern in patterns for path in folder.glob(pattern))
    if found:
        raise UserError(
            f"run.folder: {folder} holds {', '.join(found[:3])}{' and more' if len(found) > 3 else ''}, which no run "
            f"wrote and this one would replace; choose another folder, for example "
            f"{shlex.quote(f'run.folder={folder}/run')}."
        )
