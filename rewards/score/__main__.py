"""Score a folder of pictures: ``python -m rewards.score --reward ocr --prompts p.jsonl FOLDER --out scores.jsonl``.

A picture is called ``<prompt id>.png`` or ``<prompt id>-<n>.png``; the prompt file is that of a run (JSON lines, or
plain text), or a source of prompts by its name (``--prompts imgedit_bench --prompts-option path=FILE``). Edits are
scored against the pictures that the prompts hold (``"image": "cat.png"``). Rows are written batch by batch and the same
command goes on where it was interrupted; ``--retry-failed`` scores failures again. Exit codes: 0 done, 2 a user's
mistake (also if nothing could be scored), 3 more than ``--max-failed-fraction`` failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rewards.command_line import (
    add_reward_arguments,
    named_components,
    parse_options,
    positive_float,
    positive_int,
)
from rewards.pool.pool import RewardPool
from rewards.score.layout import PromptIdLayout
from rewards.score.program import score_missing
from rewards.score.result_file import ResultFile
from rewards.score.score_rows import ScoreRows, failed_fraction, summary
from rl.config.schema import Component, RewardPoolConfig
from rl.data.prompt_list import PromptList, keys_of
from rl.data.prompts import load_prompts, prompt_file
from rl.data.stream import require_applicable
from rl.process.command import command
from rl.process.output import shown
from rl.process.parser import CommandParser
from rl.registry import is_module_attr, names
from rl.types import UserError


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, score what is missing, print the summary; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        return score_folder(given)
    except KeyboardInterrupt:
        print(shown(f"interrupted; the same command goes on from {given.out}"), file=sys.stderr)
        return 130


def score_folder(given: argparse.Namespace) -> int:
    """The command. Raises ``UserError`` on wrong arguments or files and on a reward that cannot be loaded."""
    rewards = named_components(given.rewards, given.workers)
    if len(rewards) != 1:
        raise UserError(f"--reward is given {len(rewards)} times; score with one reward at a time, each with its --out")
    name, reward = next(iter(rewards.items()))
    found = _prompts(given.prompts, given.prompt_options)
    for note in found.notes:
        print(shown(f"{given.prompts}: {note}"), file=sys.stderr)
    prompts = {prompt.id: prompt for prompt in found}
    layout = PromptIdLayout(given.folder, prompts)
    with ResultFile(given.out, ScoreRows(reward.use, reward.options)) as results:
        if given.retry_failed:
            results.remove({file for file, row in results.rows.items() if row["failure"] is not None})
        missing = results.missing(layout.pictures)
        if missing:
            require_applicable(found, rewards)
            with RewardPool({name: reward}, RewardPoolConfig(timeout_s=given.timeout)) as pool:
                score_missing(
                    layout,
                    missing,
                    results,
                    lambda samples: pool.score(samples)[name],
                    title=name,
                    batch_size=given.batch_size,
                    version=pool.versions[name] or "unknown",  # more than one, if the code changes at this very moment
                )
    rows = results.of(layout.pictures)
    unpainted = len(prompts) - len({picture.prompt.id for picture in layout.pictures})
    kept = len(rows) - len(missing)
    print(shown(summary(name, rows, unpainted=unpainted, kept=kept, out=given.out, left_out=layout.left_out)))
    if not any(row["value"] is not None or row["failure"] is not None for row in rows):
        raise UserError(
            f"nothing was scored: {name} is not applicable to any of the {len(rows)} pictures; what their prompts hold "
            f"beside the text: {keys_of(found)}"
        )
    return 3 if failed_fraction(rows) > given.max_failed_fraction else 0


def _prompts(named: str, options: Sequence[str]) -> PromptList:
    """A prompt file, or a source of prompts by its name. Raises ``UserError``."""
    if Path(named).is_file() or (named not in names("prompts") and not is_module_attr(named)):
        if options:
            raise UserError(f"--prompts-option {options[0]}: --prompts {named} is a file, which takes no options")
        return prompt_file(named)
    return load_prompts(Component(use=named, options=parse_options(options, "--prompts-option")), "--prompts")


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(prog="python -m rewards.score", description=(__doc__ or "").partition("\n")[0])
    add_reward_arguments(parser)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="with <prompt id>.png or <prompt id>-<n>.png")
    add(
        "--prompts",
        required=True,
        metavar="FILE",
        help="JSON lines: prompt, id, and the keys that the reward needs; .txt: a prompt per line; or a source's name",
    )
    add(
        "--prompts-option",
        dest="prompt_options",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of the source of prompts",
    )
    add("--out", type=Path, required=True, metavar="FILE", help="JSON lines, one row per picture; continued if there")
    add("--retry-failed", action="store_true", help="score the pictures again that failed before")
    add("--batch-size", type=positive_int, default=32, metavar="N", help="pictures at a time (default 32)")
    add("--timeout", type=positive_float, default=60.0, metavar="S", help="of a batch in a worker (default 60 s)")
    add("--max-failed-fraction", type=float, default=0.05, metavar="X", help="exit code 3 above it (default 0.05)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
