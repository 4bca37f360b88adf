"""Gives a decoder eyes for the picture that is to be changed: ``python -m policy.references POLICY OUT``.

What is written sees it and has yet to learn what to do with it, by a supervised run on edits.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from policy.conditions import CHANNELS, WAYS
from policy.convert.out_folder import require_new
from policy.references.untrained import write_seeing
from rl.process.command import command
from rl.process.parser import CommandParser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m policy.references", description=__doc__)
    parser.add_argument("policy", help="policy folder, or an embedded model's name")
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--ways", default=CHANNELS, help=f"{', '.join(WAYS)}, with commas between (default: {CHANNELS})"
    )
    options = parser.parse_args(arguments)
    require_new(options.out)
    write_seeing(options.policy, options.out, [one.strip() for one in options.ways.split(",")])
    print(f"{options.out}: a policy folder whose decoder sees references; a supervised run teaches it to use them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
