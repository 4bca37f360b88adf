"""A run folder belongs to one run: who may write there, and with which configuration a run goes on."""

from __future__ import annotations

from pathlib import Path

import yaml

from rl.config.load import dump, load
from rl.config.schema import Config
from rl.run_folder.records import METRICS_FILE, write_atomically
from rl.types import UserError

CONFIG_FILE = "config.yaml"
MAY_CHANGE = ("train.steps", "checkpoint.", "tracking.", "guards.", "reward_pool.", "eval.every", "run.folder")


def claim_folder(config: Config, folder: Path, *, resume: bool) -> None:
    """Creates the folder and writes the resolved configuration.

    Raises: UserError if the folder holds another run, if there is nothing to resume, or if a resumed run's
    configuration differs where it would make it a different run.
    """
    file = folder / CONFIG_FILE
    if resume:
        _check_same_run(config, file)
    elif file.exists() or (folder / METRICS_FILE).exists():
        raise UserError(
            f"run.folder: {folder} already holds a run; pass --resume to go on with it, "
            f"or give this run a folder of its own, for example run.folder={folder}-2."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(file, dump(config))
    except OSError as error:
        raise UserError(f"run.folder: cannot write to {folder} ({error.strerror}); choose another folder.") from error


def _check_same_run(config: Config, file: Path) -> None:
    if not file.exists():
        raise UserError(f"run.folder: {file.parent} holds no run to resume; start it without --resume.")
    # read as a configuration, so that keys that did not exist yet have their defaults
    before, now = _flat(yaml.safe_load(dump(load(file)))), _flat(yaml.safe_load(dump(config)))
    changed = [
        key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key) and not _may_change(key)
    ]
    if changed:
        shown = ", ".join(f"{key} (was {before.get(key)}, now {now.get(key)})" for key in changed[:5])
        raise UserError(
            f"{file}: a resumed run must keep its configuration, but these keys differ: {shown}; "
            "resume with the old values, or start a new run in another run.folder."
        )


def _may_change(key: str) -> bool:
    return any(key == allowed or (allowed.endswith(".") and key.startswith(allowed)) for allowed in MAY_CHANGE)


def _flat(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict) or not tree:
        return {prefix.rstrip("."): tree}
    found: dict[str, object] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.")
    return found
