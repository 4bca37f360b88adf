"""``python -m rl.check my_losses:wrong --option clip=0.1``: tries a loss, an advantage, a decoder's loss.

It is called as a run would call it, on small inputs made here: types and shapes, the direction of the gradient, and
whether a row depends on its neighbours. What it is for is told from its arguments' names, or by ``--as loss``.
Exit code 0: fit for a run, warnings included; 1: not fit; 2: it could not be tried.
Rewards have ``python -m rewards.check``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rewards.check.__main__ import show, verdict
from rewards.command_line import parse_options
from rl.check.kinds import KINDS, key_of
from rl.config.schema import Component
from rl.process.command import command
from rl.process.parser import CommandParser


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rl.check", description="Tries a function of the algorithm.")
    parser.add_argument("function", help="module:attr, an installed plug-in or a built-in name")
    parser.add_argument("--as", dest="key", choices=list(KINDS), help="its key in the configuration")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=VALUE", help="as in the YAML's options")
    given = parser.parse_args(arguments)
    key = key_of(given.function, given.key)
    from rl.check.rules import findings  # imports torch

    found = findings(key, Component(use=given.function, options=parse_options(given.option)))
    errors = [show(finding) for finding in found].count("error")
    print(f"{given.function} as {key}: {verdict(errors)}")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
