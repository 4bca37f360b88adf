"""Runs that somebody has made already: the same configuration, the same prompts and policy, by the same code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rl.config.load import load
from rl.config.schema import Config
from rl.preflight.prompts import check_data
from rl.run_folder.claim import CONFIG_FILE, written_by_a_run
from rl.run_folder.code import code_fingerprint
from rl.run_folder.environment import ENVIRONMENT_FILE
from rl.run_folder.inputs import INPUTS_FILE, fingerprints
from rl.run_folder.records import read_json
from rl.sweep.again import changes, is_done
from rl.sweep.plan import SweepRun
from rl.types import UserError


def find_earlier(runs: Sequence[SweepRun], place: Path) -> dict[Path, Path]:
    """Folder of a run that is missing -> folder of a finished run below ``place`` that is the same."""
    missing = [run for run in runs if not run.folder.exists()]
    found: dict[Path, Path] = {}
    own = {run.folder.resolve() for run in runs}
    for folder in _folders(place) if missing else ():
        if folder.resolve() in own or (config := _made_by_this_code(folder)) is None:
            continue
        for run in missing:
            same = run.folder not in found and not changes(config, run.config)
            if same and is_done(run, folder) and _same_inputs(folder, run.config):
                found[run.folder] = folder
    return found


def _folders(place: Path) -> Iterator[Path]:
    """Run folders and those of other sweeps."""
    for depth in ("*", "*/*"):
        yield from sorted(file.parent for file in place.glob(f"{depth}/{ENVIRONMENT_FILE}"))


def _made_by_this_code(folder: Path) -> Config | None:
    file = folder / CONFIG_FILE
    try:
        codes = [session.get("code") for session in read_json(folder / ENVIRONMENT_FILE)["sessions"]]
        if set(codes) != {code_fingerprint()} or not written_by_a_run(file):
            return None
        return load(file)
    except (UserError, KeyError, TypeError):  # of another version, or damaged: no run to lean on
        return None


def _same_inputs(folder: Path, config: Config) -> bool:
    train, held_out = check_data(config)
    file = folder / INPUTS_FILE
    return file.is_file() and read_json(file) == fingerprints(config, {"data.train": train, "data.eval": held_out})
