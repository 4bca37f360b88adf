"""What this machine has and what is missing: ``python -m rl.doctor`` (``--deep`` also runs each part once).

Versions come from package metadata and presence from ``find_spec``: nothing heavy is imported, so the answer takes
about a second. Exit code 0: everything the examples need is there; 1: something is missing, and the last column says
what to type.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from rl.doctor.checks import check_engines, check_machine, check_pins, check_policy, check_tracking
from rl.doctor.components import check_components
from rl.preflight.requirements import Check
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import UserError


@command
def main(argv: list[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rl.doctor", description="What this machine has and what is missing.")
    parser.add_argument("--deep", action="store_true", help="also import and run each engine and reward once (minutes)")
    cluster = "also what the cluster of that run offers, and if it fits"
    parser.add_argument("--cluster", metavar="CONFIG", nargs="?", const="", help=cluster)
    arguments = parser.parse_args(argv)
    if arguments.cluster == "":
        raise UserError(
            "--cluster: needs the file of a run, whose workers it counts; write, for example, "
            "--cluster examples/geneval.yaml"
        )
    checks = all_checks()
    if arguments.deep:
        from rl.doctor.deep import deep_checks

        checks += deep_checks(lambda what: print(f"running {what} ...", file=sys.stderr, flush=True))
    if arguments.cluster:
        from rl.doctor.cluster import cluster_checks

        checks += cluster_checks(arguments.cluster)
    show(checks, Console())
    return 1 if any(check.status == "missing" for check in checks) else 0


def all_checks() -> list[Check]:
    first = [*check_machine(), *check_engines(), *check_policy()]
    return [*first, *check_components(), *check_tracking(), *check_pins()]


def show(checks: Iterable[Check], console: Console) -> None:
    """A table on a terminal; one plain line per check elsewhere."""
    checks = list(checks)
    if console.is_terminal:
        console.print(as_table(checks))
    else:
        for check in checks:
            line = f"{check.status:8} {check.part}: {check.name}: {check.found}"
            print(f"{line} -> {check.fix}" if check.fix else line, file=console.file)
    missing = [check for check in checks if check.status == "missing"]
    verdict = f"{len(missing)} of {len(checks)} checks failed" if missing else "all that the examples need is there"
    print(verdict, file=console.file)


def as_table(checks: list[Check]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("part", "what", "", "found", "to type if not"):
        table.add_column(title, overflow="fold")
    style = {"ok": "green", "limited": "yellow", "missing": "bold red"}
    for check in checks:
        mark = f"[{style[check.status]}]{check.status}[/]"
        table.add_row(check.part, check.name, mark, check.found, check.fix)
    return table


if __name__ == "__main__":
    sys.exit(main())
