"""The command line of a sweep."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.command_line import positive_int
from rl.process.parser import CommandParser
from rl.types import UserError

_LISTS = ("--seeds", "--sweep")


@dataclass(frozen=True)
class SweepArguments:
    """What was typed. ``ray``: None for this machine alone, ``""`` for a cluster that is found, else its address."""

    config: Path
    overrides: tuple[str, ...]
    seeds: tuple[int, ...] | None
    baseline: str | None
    folder: Path
    parallel: int
    ray: str | None
    asha: bool
    dry_run: bool
    collect: bool
    output: str


def read_arguments(given: Sequence[str]) -> SweepArguments:
    """Raises UserError for arguments that do not go together."""
    found = _parser().parse_intermixed_args(_lists_last(given))
    if found.asha and found.ray is None:
        raise UserError("--asha stops runs early on Ray: add --ray")
    if found.ray is not None and found.parallel_given:
        raise UserError("--parallel is for this machine alone: Ray runs as many as its cluster has room for")
    return SweepArguments(
        found.config,
        (*found.overrides, *(found.sweep or ())),
        tuple(found.seeds) if found.seeds else None,
        found.baseline,
        found.folder or Path("runs") / f"{found.config.stem}-sweep",
        found.parallel,
        found.ray,
        found.asha,
        found.dry_run,
        found.collect,
        "json" if found.json else "markdown" if found.markdown else "table",
    )


class _Parallel(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.parallel_given = True


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m rl.sweep",
        description="Arms x seeds of one run: which is better, by how much, how sure, what got worse, at what cost. "
        "The same command again goes on where it stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("config", type=Path, help="the YAML of one run, or of a sweep: examples/ablations/loss.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="key=a,b,c makes one arm of each")
    parser.add_argument("--sweep", nargs="+", metavar="key=a,b", help="the same, also seed=0,1,2")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default 0 1 2")
    parser.add_argument("--baseline", metavar="ARM", help="that the others are compared with; default: the first arm")
    parser.add_argument("--folder", type=Path, help="default runs/<config>-sweep")
    parser.set_defaults(parallel_given=False)
    parser.add_argument(
        "--parallel",
        action=_Parallel,
        type=positive_int,
        default=1,
        metavar="N",
        help="runs at a time on this machine, which share its threads and GPUs; default 1",
    )
    parser.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS", help="on a Ray cluster (its folder must be on a shared disk)"
    )
    parser.add_argument("--asha", action="store_true", help="with --ray: stop runs early whose held-out score is low")
    parser.add_argument("--dry-run", action="store_true", help="check all configurations, print a command per job")
    parser.add_argument("--collect", action="store_true", help="run nothing: page and table of the runs that are there")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print the result as JSON")
    output.add_argument("--markdown", action="store_true", help="print the result as Markdown")
    return parser


def _lists_last(given: Sequence[str]) -> list[str]:
    """``["a.yaml", "--seeds", "0", "1", "x=1"]`` -> ``["a.yaml", "x=1", "--seeds", "0", "1"]``.

    What follows the seeds and is none is not taken for one, and what follows ``--sweep`` and is no key=value neither.
    """
    rest, lists = list(given), list[str]()
    for option, member in zip(_LISTS, (r"-?\d+", r"[^-=][^=]*=.*"), strict=True):
        while option in rest:
            start = rest.index(option)
            end = start + 1
            while end < len(rest) and re.fullmatch(member, rest[end], re.DOTALL):
                end += 1
            lists += rest[start:end]
            del rest[start:end]
    return rest + lists
