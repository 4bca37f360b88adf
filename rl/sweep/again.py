"""The same sweep once more: runs that are done are kept, the others go on from where they stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from rl.evaluation.results import load_all
from rl.run_folder.records import read_metrics, write_atomically
from rl.sweep.plan import SweepRun
from rl.types import UserError

_SHOWN = 3


def is_done(run: SweepRun) -> bool:
    """It has logged its last step, and evaluated before and after."""
    rows = read_metrics(run.folder)
    return bool(rows) and rows[-1].step + 1 >= run.steps and len(load_all(run.folder)) > 1


def has_begun(folder: Path) -> bool:
    """There is a logged step or a checkpoint to go on from."""
    return bool(read_metrics(folder)) or any(folder.glob("checkpoints/step-*"))


def claim(runs: Sequence[SweepRun]) -> None:
    """Notes each run's configuration beside its folder.

    Raises: UserError, before anything is written, if a folder holds a run of another configuration.
    """
    for run in runs:
        _check(run)
    for run in runs:
        run.record.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(run.record, run.resolved)


def _check(run: SweepRun) -> None:
    if not run.record.is_file():
        if run.folder.exists():
            raise UserError(f"{run.folder} exists already and is not of this sweep: choose another --folder")
        return
    before = yaml.safe_load(run.record.read_text(encoding="utf-8"))
    changed = list(_differing(before, yaml.safe_load(run.resolved)))
    if changed and run.folder.exists():
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UserError(
            f"{run.folder} holds a run with another configuration ({', '.join(changed[:_SHOWN])}{more}): "
            "choose another --folder, or remove the old sweep"
        )


def _differing(before: object, now: object, key: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in sorted(before.keys() | now.keys(), key=str):
            yield from _differing(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif before != now:
        yield key
