"""``python -m rewards.geneval evaluate FOLDER``: score pictures in GenEval's official layout, print its table.

Exit code 0: every picture was scored; 2: a mistake in the call or the folder; 3: some pictures have no verdict (they
are listed, and in no figure); 130: interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.base import describe_exception, failures
from rewards.command_line import parse_options
from rewards.golden import prove
from rewards.library.geneval.colors import AUTO
from rewards.library.geneval.reward import GenEval
from rewards.library.geneval.rules import parse
from rewards.score.geneval_layout import GenEvalLayout
from rewards.score.geneval_rows import GenEvalRows, check_settings, summary, write_settings
from rewards.score.program import score_missing
from rewards.score.result_file import ResultFile
from rl.process.command import command
from rl.process.output import shown
from rl.process.parser import CommandParser
from rl.types import Prompt, Sample, Score, UserError

_LISTED = 10  # failures named one by one


@command
def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return evaluate(arguments)
    except KeyboardInterrupt:
        print("interrupted; the same command with --resume goes on", file=sys.stderr)
        return 130


def evaluate(arguments: argparse.Namespace) -> int:
    """Raises ``UserError``; the exit code."""
    if arguments.batch_size < 1:
        raise UserError(f"--batch-size is {arguments.batch_size}: it must be 1 or more")
    layout = GenEvalLayout(arguments.folder)
    failed = dict(layout.without_pictures)
    options = _options(arguments)
    # Rows elsewhere than beside their pictures say whose they are.
    settings = options if arguments.out is None else options | {"folder": str(arguments.folder.resolve())}
    out = arguments.out or arguments.folder / "results.jsonl"
    if out.exists() and not arguments.resume:
        raise UserError(f"{out} exists: add --resume to go on with it, or name another file with --out")
    if out.exists():
        check_settings(out, settings)
    with ResultFile(out, GenEvalRows()) as results:
        missing = results.missing(layout.pictures)
        if missing:
            reward = _reward(options, [picture.prompt for picture in missing])
            write_settings(out, settings)
            failed |= score_missing(
                layout,
                missing,
                results,
                lambda samples: _scored(reward, samples),
                title="pictures",
                batch_size=arguments.batch_size,
            )
    rows = results.of(layout.pictures)
    if rows:
        print(shown(summary(rows)))
    _report(failed)
    return 3 if failed else 0


def _reward(options: Mapping[str, Any], prompts: Sequence[Prompt]) -> GenEval:
    """With its reference pictures scored, and without a colour classifier if no prompt asks for a colour."""
    if options["colors"] == AUTO and not any(_asks_for_a_color(prompt) for prompt in prompts):
        options = {**options, "colors": None, "colors_options": {}}
    reward = GenEval(**options)
    try:
        prove(reward)
    except UserError as error:
        raise UserError(f"--detector {options['detector']}: {error}") from error
    return reward


def _asks_for_a_color(prompt: Prompt) -> bool:
    wanted = parse(prompt.metadata)
    return wanted is not None and any(clause.color is not None for clause in wanted.include)


def _scored(reward: GenEval, samples: Sequence[Sample]) -> list[Score]:
    """What raises is tried again one by one, so that it costs its own picture only."""
    try:
        return reward(samples)
    except Exception as error:  # a detector may raise anything
        if len(samples) > 1:
            return [score for sample in samples for score in _scored(reward, [sample])]
        return failures(1, str(error) if isinstance(error, UserError) else describe_exception(error))


def _report(failed: Mapping[Path, str]) -> None:
    if not failed:
        return
    print(f"\n{len(failed)} without a verdict, left out of every figure (--resume tries again):", file=sys.stderr)
    for file, reason in list(failed.items())[:_LISTED]:
        print(shown(f"  {file}: {reason}"), file=sys.stderr)
    if len(failed) > _LISTED:
        print(f"  and {len(failed) - _LISTED} more", file=sys.stderr)


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
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
    parser = CommandParser(prog="python -m rewards.geneval", description="GenEval on a folder of pictures.")
    command = parser.add_subparsers(required=True).add_parser(
        "evaluate", help="score FOLDER/00000/samples/0000.png ... by FOLDER/00000/metadata.jsonl and print the table"
    )
    command.add_argument("folder", type=Path, help="the pictures, in GenEval's official layout")
    command.add_argument("--detector", default="mask2former", help="name or module:attr (default mask2former)")
    command.add_argument("--option", action="append", default=[], metavar="K=V", help="an option of the detector")
    command.add_argument(
        "--colors",
        default=AUTO,
        help="clip (official), pixels, module:attr, none, or auto: none if the detector names colours itself or no "
        "prompt asks for any, else clip (default auto)",
    )
    command.add_argument("--color-option", action="append", default=[], metavar="K=V", help="an option of --colors")
    command.add_argument("--threshold", type=float, default=0.3, help="detection score above which an object counts")
    command.add_argument("--counting-threshold", type=float, default=0.9, help="the same for counting prompts")
    command.add_argument("--out", type=Path, help="results file (default: FOLDER/results.jsonl)")
    command.add_argument("--resume", action="store_true", help="score only what the results file lacks")
    command.add_argument("--batch-size", type=int, default=16, help="pictures handed to the detector at once")
    return parser


if __name__ == "__main__":
    sys.exit(main())
