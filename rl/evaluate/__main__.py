"""Measure policies by the same rules: ``python -m rl.evaluate --policy runs/geneval --policy shapes``.

    python -m rl.evaluate --policy base=shapes --policy runs/geneval --config examples/geneval.yaml
    python -m rl.evaluate --policy pipelines/sd --pipeline-option steps=20 --prompts p.jsonl --reward geneval

Written to ``--out``: ``evaluation.json`` and ``table.md`` (means, intervals, paired differences), ``grid.png`` (side by
side), ``config.yaml``, and for each policy its pictures in GenEval's official layout with a line of scores each. The
same command goes on with what is there. Exit codes: 0 done, 2 a user's mistake, 3 an engine broke or more than
``reward_pool.max_failed_fraction`` of a reward's scores failed (they are in no mean), 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from policy.folder import read_policy_config
from rl.config.load import dump
from rl.config.schema import Config
from rl.evaluate.arguments import EvaluateArguments, read_arguments
from rl.evaluate.candidates import Candidate, find_candidates
from rl.evaluate.out_folder import claim_out
from rl.evaluate.overlap import overlaps
from rl.evaluate.settings import measured_by, read_config, read_prompts
from rl.evaluation.results import Evaluation
from rl.process.command import command
from rl.process.interrupt import INTERRUPTED
from rl.process.loading import loading
from rl.process.output import shown
from rl.run_folder.claim import CONFIG_FILE
from rl.run_folder.records import write_atomically
from rl.tracking.terminal import Terminal
from rl.types import Prompt, RunFailure, UserError

_TABLE_WIDTH = 120


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, check, measure, tell; returns the exit code."""
    given = read_arguments(arguments)
    try:
        return evaluate_policies(given)
    except RunFailure as error:
        print(f"error: the evaluation cannot go on: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED


def evaluate_policies(given: EvaluateArguments) -> int:
    """The command. Raises UserError before anything heavy is imported where that can be known."""
    candidates = find_candidates(given.policies)
    config, file = read_config(given)
    prompts = read_prompts(config)
    out = given.out or Path("runs", "evaluate", "-vs-".join(one.name for one in candidates))
    for one in candidates:
        if one.kind == "policy":
            read_policy_config(one.folder)
    claim_out(out, measured_by(config), prompts, candidates)
    write_atomically(out / CONFIG_FILE, dump(config))
    names = ", ".join(one.name for one in candidates)
    _tell(f"{out}: {names} on {len(prompts)} prompts, by the rules of {file or 'the command line'}")
    seen = list(overlaps(candidates, prompts))
    for sentence in seen:
        _tell(sentence)
    with loading():
        from rl.evaluate.measure import measure

    found = measure(config, prompts, candidates, out, _tell)
    return report(found, config, prompts, candidates, out, seen)


def report(
    found: Mapping[str, Evaluation],
    config: Config,
    prompts: Sequence[Prompt],
    candidates: Sequence[Candidate],
    out: Path,
    seen: Sequence[str],
) -> int:
    """Files and table; the exit code."""
    from rl.evaluate import summary
    from rl.evaluate.sheet import write_sheet

    names, rows = list(found), summary.summarise_all(found)
    if not rows:
        raise UserError("no reward applied to any picture: see what metadata the rewards need of a prompt")
    failed = summary.failures(found)
    about = {one.name: {"folder": str(one.folder), **one.about()} for one in candidates}
    content = {
        "policies": about,
        "prompts": len(prompts),
        "seen_in_training": seen,
        "measured_by": measured_by(config),
        "intervals": summary.INTERVALS,
        "rows": summary.as_json(rows),
        "failures": failed,
    }
    write_atomically(out / "evaluation.json", json.dumps(content, indent=1) + "\n")
    write_atomically(out / "table.md", summary.markdown_table(rows, names))
    files = ["evaluation.json", "table.md"]
    if write_sheet(out / "grid.png", out, found, prompts, config.eval.grid):
        files.append("grid.png")
    # a file or a pipe counts as 80 columns, where the intervals would be folded
    Terminal(narrowest=_TABLE_WIDTH).print(summary.console_table(rows, names))
    print(summary.INTERVALS)
    print(f"{out}: {', '.join(files)}; pictures in GenEval's layout: {out / names[0] / 'pictures'}")
    for line in failed:
        _tell(f"left out of every mean: {line}")
    return 3 if summary.failed_fraction(found) > config.reward_pool.max_failed_fraction else 0


def _tell(text: str) -> None:
    print(shown(text), file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's Ctrl-C: what was started is closed
    sys.exit(main())
