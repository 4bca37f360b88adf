"""``python -m rl.sweep CONFIG [--seeds 0 1 2] [--parallel 2] [key=value ...] [key=a,b,c ...]``: settings x seeds.

Every run is its own ``python -m rl.launch`` process with its own folder. ``key=a,b`` makes one setting per value;
several of them are crossed. The same command again goes on where the sweep stopped: finished runs are kept, the others
resumed. The table has, per task, the held-out score before, after and the difference: mean over seeds, range, and
Student's 95 % t interval. Written to ``sweep.json`` and ``sweep.md`` in the sweep's folder.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rewards.command_line import positive_int
from rl.config import shipped
from rl.process.command import command
from rl.process.interrupt import INTERRUPTED
from rl.process.output import shown
from rl.process.parser import CommandParser
from rl.run_folder.records import write_atomically
from rl.sweep.again import claim
from rl.sweep.plan import LAUNCH, FinishedRun, plan
from rl.sweep.processes import run_all
from rl.sweep.table import markdown, summarise


def sweep(
    config: Path,
    seeds: Sequence[int],
    overrides: Sequence[str],
    folder: Path,
    parallel: int = 1,
    launch: Sequence[str] = LAUNCH,
) -> int:
    """Runs everything that is not done yet and writes the table; 0 if every run succeeded, 1 otherwise."""
    runs = plan(config, seeds, overrides, folder, launch)
    claim(runs)
    finished = run_all(runs, parallel, lambda line: print(line, flush=True))
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


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 if a run failed, 2 for a mistake in the command, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    found = _parser().parse_intermixed_args(_seeds_last(given))
    folder = found.folder or Path("runs") / f"{found.config.stem}-sweep"
    if note := shipped.note(found.config):
        print(shown(note), file=sys.stderr)
    try:
        return sweep(found.config, found.seeds, found.overrides, folder, found.parallel)
    except KeyboardInterrupt:
        print(shown(f"stopped; go on with: python -m rl.sweep {shlex.join(given)}"), file=sys.stderr)
        return INTERRUPTED


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m rl.sweep",
        description="Settings x seeds of one run, and their table. The same command again goes on where it stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="the YAML of one run, for example examples/geneval.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="key=a,b,c makes one setting of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default 0 1 2")
    parser.add_argument("--parallel", type=positive_int, default=1, metavar="N", help="runs at a time; default 1")
    parser.add_argument("--folder", type=Path, help="default runs/<config>-sweep")
    return parser


def _seeds_last(given: Sequence[str]) -> list[str]:
    """``["a.yaml", "--seeds", "0", "1", "x=1"]`` -> ``["a.yaml", "x=1", "--seeds", "0", "1"]``.

    What follows the seeds and is none is not taken for one.
    """
    rest, seeds = list(given), list[str]()
    while "--seeds" in rest:
        start = rest.index("--seeds")
        end = start + 1
        while end < len(rest) and re.fullmatch(r"-?\d+", rest[end]):
            end += 1
        seeds = rest[start:end]
        del rest[start:end]
    return rest + seeds


if __name__ == "__main__":
    sys.exit(main())
