"""The command: ``python -m rl.launch CONFIG [key=value ...] [--dry-run] [--resume]``.

Exit codes: 0 done, 2 a mistake in the configuration or the data, or a disk that takes no more (one message, no
traceback), 3 an engine broke or disagrees with the trainer, 130 interrupted: after saving a checkpoint, or before the
first step. Signals are handled from the first moment on; everything that takes time is imported after that.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rl.process.interrupt import Interrupt
from rl.process.output import prepare_output
from rl.process.parser import CommandParser
from rl.process.streams import keep_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, check, run; returns the exit code."""
    typed = list(sys.argv[1:] if arguments is None else arguments)
    with Interrupt() as interrupt:
        prepare_output()
        keep_streams()
        given = _parser().parse_intermixed_args(typed)
        from rl.start import Command, start

        command = Command(given.config, given.overrides, typed, dry_run=given.dry_run, resume=given.resume)
        return start(command, interrupt)


def _parser() -> CommandParser:
    parser = CommandParser(prog="python -m rl.launch", description="Train an image model by RL.")
    parser.add_argument("config", help="a YAML file, for example examples/geneval.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="train.lr=1e-5, loss=dapo, rewards.ocr=null")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the resolved run, stop")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    return parser


if __name__ == "__main__":
    sys.exit(main())
