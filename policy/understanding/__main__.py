"""Gives a policy of a TA-Tok a branch to read pictures with: ``python -m policy.understanding POLICY OUT``.

Its codes stay what they are. What is new, the adapter to the language model, has yet to be learnt, by a supervised run
on questions (``supervised.trained: [ar, understanding.continuous]``, ``supervised.features``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from policy.convert.out_folder import require_new
from policy.understanding.untrained import write_reading
from rl.process.command import command
from rl.process.parser import CommandParser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m policy.understanding", description=__doc__)
    parser.add_argument("policy", help="policy folder whose image tokenizer is a TA-Tok, or a name on the hub")
    parser.add_argument("out", type=Path)
    options = parser.parse_args(arguments)
    require_new(options.out)
    write_reading(options.policy, options.out)
    print(
        f"{options.out}: a policy folder that reads features of pictures; a supervised run on questions teaches it to"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
