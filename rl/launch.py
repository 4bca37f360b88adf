"""The command: ``python -m rl.launch CONFIG [key=value ...] [--dry-run] [--resume]``.

Exit codes: 0 done, 2 a mistake in the configuration or the data (one message, no traceback), 3 an engine broke or
disagrees with the trainer, 130 interrupted after saving a checkpoint.
A real run imports its heavy parts only after the configuration, the prompts and the run folder have been checked.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rl.config.load import load
from rl.run_folder import checkpoint
from rl.run_folder.claim import claim_folder
from rl.run_prompts import check_data, notes_on
from rl.types import RunFailure, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, check, run; returns the exit code."""
    given = _parser().parse_intermixed_args(arguments)
    try:
        config = load(given.config, given.overrides)
        train_prompts, eval_prompts = check_data(config)
        for note in notes_on(train_prompts, eval_prompts):
            print(note, file=sys.stderr)
        if given.dry_run:
            from rl.dry_run import describe

            print(describe(config, train_prompts, eval_prompts))
            return 0
        folder = Path(str(config.run.folder))
        claim_folder(config, folder, resume=given.resume)
        checkpoint.clean(folder)
        saved = checkpoint.latest(folder) if given.resume else None
        if saved and saved.step >= (last := config.train.steps):
            print(f"{folder}: this run is finished ({saved.step} of {last} steps); raise train.steps to go on.")
            return 0
        # read when torch is imported, here and in workers: threads that wait by spinning slow a shared machine tenfold
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        from rl.loop import run

        return run(config, saved, resume=given.resume)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except RunFailure as error:
        print(f"error: the run cannot go on: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rl.launch", description="Train an image model by RL.")
    parser.add_argument("config", help="a YAML file, for example examples/geneval.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="train.lr=1e-5, loss=dapo, rewards.ocr=null")
    parser.add_argument("--dry-run", action="store_true", help="check everything, print the resolved run, stop")
    parser.add_argument("--resume", action="store_true", help="go on from the run folder's last checkpoint")
    return parser


if __name__ == "__main__":
    sys.exit(main())
