"""``python -m rl.sweep CONFIG --seeds 0 1 2 [--parallel 2] [key=value ...] [key=a,b,c ...]``: settings x seeds.

Every run is its own ``python -m rl.launch`` process with its own folder. ``key=a,b`` makes one setting per value;
several of them are crossed. The table has, per task, the held-out score before, after and the difference: mean over
seeds, range, and Student's 95 % t interval. Written to ``sweep.json`` and ``sweep.md`` in the sweep's folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rl.evaluation.results import load_all
from rl.run_folder.records import write_atomically
from rl.sweep.plan import LAUNCH, FinishedRun, SweepRun, plan
from rl.sweep.table import markdown, summarise
from rl.types import UserError

_TAIL_LINES = 15


def run_one(run: SweepRun) -> FinishedRun:
    """Runs the process to its end, its output in ``<folder>.log``."""
    run.log.parent.mkdir(parents=True, exist_ok=True)
    with run.log.open("wb") as log:
        code = subprocess.run(run.command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    with run.log.open(encoding="utf-8", errors="replace") as lines:
        tail = "".join(deque(lines, maxlen=_TAIL_LINES))
    if code == 0 and len(load_all(run.folder)) < 2:
        return FinishedRun(
            run, 1, tail + "\nit ended without an evaluation before and one after: see eval.at_start, at_end"
        )
    return FinishedRun(run, code, "" if code == 0 else tail)


def run_all(runs: Sequence[SweepRun], parallel: int = 1) -> list[FinishedRun]:
    """In sequence, or ``parallel`` at a time as Ray tasks; a failed run does not stop the others."""
    if parallel <= 1:
        return [_told(run_one(run)) for run in runs]
    import ray  # needed only here; costs seconds

    ray.init(num_cpus=parallel, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        waiting = {ray.remote(num_cpus=1, max_retries=0)(run_one).remote(run): run for run in runs}
        finished: dict[Path, FinishedRun] = {}
        while len(finished) < len(runs):
            [ready], _ = ray.wait([task for task, run in waiting.items() if run.folder not in finished])
            finished[waiting[ready].folder] = _told(ray.get(ready))
    finally:
        ray.shutdown()
    return [finished[run.folder] for run in runs]


def _told(finished: FinishedRun) -> FinishedRun:
    run = finished.run
    outcome = "done" if finished.code == 0 else f"FAILED with exit code {finished.code}"
    print(f"{run.folder}: {outcome}", flush=True)
    return finished


def sweep(
    config: Path,
    seeds: Sequence[int],
    overrides: Sequence[str],
    folder: Path,
    parallel: int = 1,
    launch: Sequence[str] = LAUNCH,
) -> int:
    """Runs everything and writes the table; 0 if every run succeeded, 1 otherwise."""
    runs = plan(config, seeds, overrides, folder, launch)
    taken = [run.folder for run in runs if run.folder.exists()]
    if taken:
        raise UserError(f"{taken[0]} exists already: choose another --folder, or remove the old sweep")
    finished = run_all(runs, parallel)
    failures = [one for one in finished if one.code != 0]
    rows = summarise([one.run for one in finished if one.code == 0])
    record = {
        "config": str(config),
        "runs": [{**_named(one), "code": one.code, "tail": one.tail} for one in finished],
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(folder / "sweep.json", json.dumps(record, indent=1) + "\n")
    text = markdown(rows, failures)
    write_atomically(folder / "sweep.md", text)
    print(text, flush=True)
    return 1 if failures else 0


def _named(finished: FinishedRun) -> dict[str, object]:
    run = finished.run
    return {"setting": run.setting, "seed": run.seed, "folder": str(run.folder), "command": list(run.command)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 if a run failed, 2 for a mistake in the command."""
    parser = argparse.ArgumentParser(prog="python -m rl.sweep", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="key=a,b,c makes one setting of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time (Ray); default 1")
    parser.add_argument("--folder", type=Path, help="default runs/<config>-sweep")
    found = parser.parse_intermixed_args(arguments)
    folder = found.folder or Path("runs") / f"{found.config.stem}-sweep"
    try:
        return sweep(found.config, found.seeds, found.overrides, folder, found.parallel)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
