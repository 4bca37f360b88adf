"""``python -m rl.memory [CASE ...] [key=value ...]``: the estimate of ``--dry-run`` beside the peak of a real run.

Each case trains two steps in a process of its own; the larger policies have random weights and are made on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rl.memory.cases import CASES
from rl.memory.figures import record
from rl.memory.measure import measure, table
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.registry import did_you_mean
from rl.types import UserError


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rl.memory", description=__doc__)
    parser.add_argument("given", nargs="*", metavar="CASE or key=value", help=f"of {', '.join(CASES)}; none: all")
    parser.add_argument("--record", action="store_true", help="keep the figures for the README")
    told = parser.parse_intermixed_args(arguments)
    extra = [one for one in told.given if "=" in one]
    names = [one for one in told.given if "=" not in one] or list(CASES)
    for name in names:
        if name not in CASES:
            near = did_you_mean(name, CASES)
            raise UserError(f"there is no case {name!r}{near or ';'} the cases are {', '.join(CASES)}")
    if told.record and extra:
        raise UserError(f"--record keeps the figures of the cases as they are: leave {extra[0]} out")
    found = [measure(CASES[name], extra) for name in names]
    if told.record:
        record(found)
    sys.stdout.write(table(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
