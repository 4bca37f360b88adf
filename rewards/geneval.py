"""``python -m rewards.geneval evaluate FOLDER``: score pictures in GenEval's official layout, print its table.

Exit code 0: every picture was scored; 2: a mistake in the call or the folder; 3: some pictures have no verdict (they
are listed, and in no figure); 130: interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rewards.command_line import parse_options
from rewards.golden import prove
from rewards.library.geneval.reward import GenEval
from rewards.score.geneval_evaluate import Failure, Job, Results, in_order, jobs, score
from rewards.score.geneval_folder import read_layout
from rewards.score.geneval_summary import summary
from rl.types import UserError

_LISTED = 10  # failures named one by one


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return evaluate(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130


def evaluate(arguments: argparse.Namespace) -> int:
    """Raises ``UserError``; the exit code."""
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size is {arguments.batch_size}: it must be 1 or more")
    layout = read_layout(arguments.folder)
    settings = _settings(arguments)
    results = _results(arguments, settings)
    found, failed = jobs(layout)
    todo = results.missing(found)
    if todo:
        reward = GenEval(**settings)
        prove(reward)
        results.open()
        failed += _score_with_progress(todo, len(found), reward, results, arguments.batch_size)
    rows = list(in_order(results.rows, layout))
    if rows:
        print(summary(rows))
    _report(failed)
    return 3 if failed else 0


def _results(arguments: argparse.Namespace, settings: dict[str, Any]) -> Results:
    """Rows elsewhere than beside their pictures say whose they are."""
    if arguments.out is None:
        return Results(arguments.folder / "results.jsonl", settings, resume=arguments.resume)
    return Results(arguments.out, settings | {"folder": str(arguments.folder.resolve())}, resume=arguments.resume)


def _score_with_progress(
    todo: Sequence[Job], total: int, reward: GenEval, results: Results, batch_size: int
) -> list[Failure]:
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=total, completed=total - len(todo))
        return score(todo, reward, results, batch_size=batch_size, on_batch=lambda count: progress.advance(task, count))


def _report(failed: Sequence[Failure]) -> None:
    if not failed:
        return
    print(f"\n{len(failed)} without a verdict, left out of every figure (--resume tries again):", file=sys.stderr)
    for failure in failed[:_LISTED]:
        print(f"  {failure.file}: {failure.reason}", file=sys.stderr)
    if len(failed) > _LISTED:
        print(f"  and {len(failed) - _LISTED} more", file=sys.stderr)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the reward; they are what a resumed evaluation must share."""
    return {
        "detector": arguments.detector,
        "detector_options": parse_options(arguments.option),
        "colors": None if arguments.colors == "none" else arguments.colors,
        "colors_options": parse_options(arguments.color_option, "--color-option"),
        "threshold": arguments.threshold,
        "counting_threshold": arguments.counting_threshold,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rewards.geneval", description="GenEval on a folder of pictures.")
    command = parser.add_subparsers(required=True).add_parser(
        "evaluate", help="score FOLDER/00000/samples/0000.png ... by FOLDER/00000/metadata.jsonl and print the table"
    )
    command.add_argument("folder", type=Path, help="the pictures, in GenEval's official layout")
    command.add_argument("--detector", default="mask2former", help="name or module:attr (default mask2former)")
    command.add_argument("--option", action="append", default=[], metavar="K=V", help="an option of the detector")
    command.add_argument("--colors", default="clip", help="clip (official), pixels, module:attr, or none")
    command.add_argument("--color-option", action="append", default=[], metavar="K=V", help="an option of --colors")
    command.add_argument("--threshold", type=float, default=0.3, help="detection score above which an object counts")
    command.add_argument("--counting-threshold", type=float, default=0.9, help="the same for counting prompts")
    command.add_argument("--out", type=Path, help="results file (default: FOLDER/results.jsonl)")
    command.add_argument("--resume", action="store_true", help="score only what the results file lacks")
    command.add_argument("--batch-size", type=int, default=16, help="pictures handed to the detector at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
