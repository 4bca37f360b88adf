"""The same sweep once more: runs that are done are kept, the others go on from where they stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rl.config.load import load
from rl.config.schema import Config
from rl.evaluation.results import load_all
from rl.run_folder.claim import CONFIG_FILE, written_by_a_run
from rl.run_folder.records import read_metrics, write_atomically
from rl.run_folder.resume import Difference, as_found, differences
from rl.sweep.plan import SweepRun
from rl.types import UserError

_SHOWN = 3


def is_done(run: SweepRun, folder: Path | None = None) -> bool:
    """It has logged its last step, and evaluated before and after. ``folder``: another one than its own."""
    folder = folder or run.folder
    rows = read_metrics(folder)
    return bool(rows) and rows[-1].step + 1 >= run.steps and len(load_all(folder)) > 1


def has_begun(folder: Path) -> bool:
    """There is a logged step or a checkpoint to go on from."""
    return bool(read_metrics(folder)) or any(folder.glob("checkpoints/step-*"))


def claim(runs: Sequence[SweepRun]) -> None:
    """Notes each run's configuration beside its folder.

    Raises: UserError, before anything is written, if a folder holds a run of another configuration.
    """
    for run in runs:
        check_own(run)
    for run in runs:
        run.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(run.record, run.resolved)


def check_own(run: SweepRun) -> None:
    """Raises: UserError if its folder is somebody else's. A job of an array is known by the configuration it wrote."""
    if not run.folder.exists():
        return
    written = _written(run)
    if written is None:
        raise UserError(f"{run.folder} exists already and is not of this sweep: choose another --folder")
    changed = [one.key for one in changes(load(written), run.config)]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UserError(
            f"{run.folder} holds a run with another configuration ({', '.join(changed[:_SHOWN])}{more}): "
            "choose another --folder, or remove the old sweep"
        )


def _written(run: SweepRun) -> Path | None:
    own = run.folder / CONFIG_FILE
    if run.record.is_file():
        return run.record
    return own if written_by_a_run(own) else None


def changes(before: Config, now: Config) -> list[Difference]:
    """Every key that makes it another run: all but the folder and where numbers are sent."""
    return list(differences(_identity(before), _identity(as_found(now, before))))


def _identity(config: Config) -> dict[str, object]:
    found = config.model_dump(mode="json", exclude={"tracking": True, "run": {"folder"}})
    return dict(found)
