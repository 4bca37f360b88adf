"""``python -m rl.memory [CASE ...] [key=value ...]``: the estimate of ``--dry-run`` beside the peak of a real run.

Each case trains two steps in a process of its own; the larger policies have random weights and are made on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rl.memory.cases import CASES
from rl.memory.measure import measure, table
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.registry import did_you_mean
from rl.types import UserError


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rl.memory", description=__doc__)
    parser.add_argument("given", nargs="*", metavar="CASE or key=value", help=f"of {', '.join(CASES)}; none: all")
    given = parser.parse_args(arguments).given
    extra = [one for one in given if "=" in one]
    names = [one for one in given if "=" not in one] or list(CASES)
    for name in names:
        if name not in CASES:
            near = did_you_mean(name, CASES)
            raise UserError(f"there is no case {name!r}{near or ';'} the cases are {', '.join(CASES)}")
    sys.stdout.write(table([measure(CASES[name], extra) for name in names]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
