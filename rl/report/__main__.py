"""``python -m rl.report RUN [RUN ...]``: a run folder -> one self-contained page, ``RUN/report.html``.

Reads only the run folder (metrics.jsonl, evaluation-*.json and .png, config.yaml, environment.json), so it works
for a run that is still going, was stopped, or came from another machine. Nothing is fetched by the page.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rl.process.command import command
from rl.process.parser import CommandParser
from rl.report.page import write_report


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with one sentence when a folder cannot be reported on."""
    parser = CommandParser(prog="python -m rl.report", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", nargs="+", type=Path, help="run folder")
    for folder in parser.parse_args(arguments).run:
        print(write_report(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
