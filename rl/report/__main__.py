"""``python -m rl.report RUN [RUN ...]``: a run folder -> one self-contained page, ``RUN/report.html``.

Reads only the run folder (metrics.jsonl, evaluation-*.json and .png, pictures, config.yaml, environment.json), so it
works for a run that is still going, was stopped, or came from another machine. ``--together PAGE.html``: one page of
all runs side by side. Nothing is fetched by the pages.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rl.process.command import command
from rl.process.parser import CommandParser
from rl.report.page import write_report
from rl.report.together import write_together
from rl.types import UserError


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one sentence when a folder cannot be reported on."""
    parser = CommandParser(prog="python -m rl.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="+", type=Path, help="run folder")
    parser.add_argument("--together", type=Path, metavar="PAGE", help="write one page of all runs side by side")
    given = parser.parse_args(arguments)
    if given.together is not None:
        if len(given.run) < 2:
            raise UserError("--together: a page of runs side by side needs two at least")
        print(write_together(given.run, given.together))
        return 0
    for folder in given.run:
        print(write_report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
