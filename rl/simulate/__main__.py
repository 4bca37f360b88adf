"""How fast would it be on many workers? ``python -m rl.simulate CONFIG --workers 8..512``.

    python -m rl.simulate examples/blip3o_next/geneval.yaml --workers 8..512 --pictures-per-worker 64
    python -m rl.simulate examples/geneval.yaml --run runs/geneval --workers 3..12 --staleness 1
    python -m rl.simulate examples/geneval.yaml --schedules 10000

The scheduler of a run on many machines with an event queue instead of machines. What each call takes is read from a
table (H100s, derived and not measured) or from a run's own log. Written to ``--out``: ``simulation.json`` and
``simulation.svg``; ``schedules.json`` with ``--schedules``, which tries small runs with faults of every kind. Exit
codes: 0 done, 2 a user's mistake, 3 no run could go on under such faults, or something was lost or doubled, 130
interrupted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from rl.process.command import command
from rl.process.disk import make_folder
from rl.process.output import shown
from rl.run_folder.records import write_atomically
from rl.simulate.arguments import SimulationPlan, read_plan
from rl.simulate.findings import as_json, console_table, scale, sentences
from rl.simulate.picture import draw
from rl.simulate.schedules import try_schedules
from rl.tracking.terminal import Terminal
from rl.types import RunFailure

_TABLE_WIDTH = 140


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, simulate, tell; returns the exit code."""
    plan = read_plan(arguments)
    make_folder(plan.out, "--out", "starting a simulation")
    if plan.schedules is not None:
        return _try(plan, plan.schedules)
    numbers = ", ".join(map(str, plan.workers))
    print(f"{plan.steps} steps on {numbers} workers, without and with faults", file=sys.stderr, flush=True)
    try:
        rows = list(scale(plan))
    except RunFailure as error:
        print(shown(f"error: {error}"), file=sys.stderr)
        return 3
    write_atomically(plan.out / "simulation.json", json.dumps(as_json(plan, rows), indent=1) + "\n")
    write_atomically(plan.out / "simulation.svg", draw(plan, rows))
    Terminal(narrowest=_TABLE_WIDTH).print(console_table(plan, rows))
    for sentence in sentences(plan, rows):
        print(shown(sentence))
    print(shown(f"{plan.out}: simulation.json, simulation.svg"))
    return 0


def _try(plan: SimulationPlan, schedules: int) -> int:
    print(f"{schedules:,} small runs with faults of every kind", file=sys.stderr, flush=True)
    tally = try_schedules(plan.work, schedules, plan.seed)
    write_atomically(plan.out / "schedules.json", json.dumps(tally.as_json(), indent=1) + "\n")
    Terminal(narrowest=_TABLE_WIDTH).print(tally.table())
    for sentence in tally.sentences():
        print(shown(sentence))
    print(shown(f"{plan.out}: schedules.json"))
    return 0 if tally.holds else 3


if __name__ == "__main__":
    sys.exit(main())
