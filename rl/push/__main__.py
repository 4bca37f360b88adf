"""Share a run's policy: ``python -m rl.push RUN owner/name [--yes]``.

Without ``--yes`` nothing leaves this machine: the files, their sizes and the card are printed. A new repository is
private unless ``--public`` is given. Exit codes: 0 done, 2 a mistake or a hub that says no.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rl.process.command import command
from rl.process.parser import CommandParser
from rl.push.plan import PushPlan, make_plan
from rl.push.upload import upload


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, plan, tell, and with ``--yes`` upload; returns the exit code."""
    given = _parser().parse_args(arguments)
    plan = make_plan(given.run, given.repository, new_card=given.new_card)
    if not given.yes:
        print(describe(plan, public=given.public))
        return 0
    where = upload(plan, public=given.public)
    print(f"{where}: {len(plan.files)} files, {_size(plan.size)}")
    return 0


def describe(plan: PushPlan, *, public: bool) -> str:
    """What ``--yes`` would do."""
    width = max(len(_size(size)) for _, size in plan.files)
    files = [f"  {_size(size):>{width}}  {name}" for name, size in plan.files]
    kind = "public" if public else "private, unless it exists already"
    return "\n".join(
        [
            plan.card,
            "-" * 20,
            f"{plan.folder} -> {plan.repository} ({kind}): {len(plan.files)} files, {_size(plan.size)}",
            *files,
            "The card above is README.md of this folder: change it there. Nothing was uploaded; --yes does it.",
        ]
    )


def _size(count: int) -> str:
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m rl.push", description="Upload a run's policy to the Hugging Face hub.")
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run folder, or a policy folder with a card")
    add("repository", metavar="owner/name", help="where to, on the hub")
    add("--yes", action="store_true", help="upload; without it nothing leaves this machine")
    add("--public", action="store_true", help="let everybody see a repository that is created")
    add("--new-card", action="store_true", help="write the card again from the run, over what stands in it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
