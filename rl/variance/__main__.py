"""What can the language model learn from a reward, and what the decoder? ``python -m rl.variance RUN_OR_CONFIG``.

    python -m rl.variance examples/geneval.yaml --renders 8 --steps 1,2,3,8
    python -m rl.variance runs/geneval --prompts 64 --design nested
    python -m rl.variance examples/ocr.yaml --steps 3,8 render.sampler.use=cps render.sampler.options.eta=0.7

Samples token sequences for training prompts, paints each several times with every number of decoder steps, and splits
the reward's variance inside a prompt into what the tokens decide, what the decoder's noise decides and what both do
together; nothing is trained. Written to ``--out``: ``variance.json`` and ``variance.svg`` (bars). Exit codes: 0 done,
2 a user's mistake, 3 an engine broke, 130 interrupted.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rewards.pool.alongside import rewards_starting
from rl.evaluation.progress import picture_progress
from rl.process.command import command
from rl.process.disk import make_folder
from rl.process.loading import loading
from rl.process.output import shown
from rl.run_folder.records import write_atomically
from rl.tracking.terminal import Terminal
from rl.types import RunFailure
from rl.variance.arguments import VariancePlan, make_plan, out_folder, read_arguments

_TABLE_WIDTH = 130


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, check, measure, tell; returns the exit code."""
    given = read_arguments(arguments)
    plan, out = make_plan(given), out_folder(given)
    make_folder(out, "--out", "starting a measurement")
    try:
        split_variance(plan, out)
    except RunFailure as error:
        print(f"error: the measurement cannot go on: {error}", file=sys.stderr)
        return 3
    return 0


def split_variance(plan: VariancePlan, out: Path) -> None:
    """The command. Raises UserError, RunFailure."""
    told = (
        f"{len(plan.prompts)} prompts x {plan.group} token sequences x {plan.renders} renders, at "
        f"{', '.join(map(str, plan.steps))} steps: {plan.pictures:,} pictures"
    )
    print(shown(f"{plan.config.policy.path}: {told}"), file=sys.stderr, flush=True)
    with rewards_starting(plan.config) as rewards:
        with loading():
            from rl.variance.findings import analyse, as_json, console_table, picture, sentences
            from rl.variance.measure import measure

        with picture_progress("painted", plan.pictures) as advance:
            found = measure(plan, rewards, advance)
    findings = analyse(plan, found)
    write_atomically(out / "variance.json", json.dumps(as_json(plan, found, findings), indent=1) + "\n")
    write_atomically(out / "variance.svg", picture(findings))
    Terminal(narrowest=_TABLE_WIDTH).print(console_table(findings))
    for sentence in sentences(plan, findings):
        print(shown(sentence))
    for reward, reasons in found.failures.items():
        if reasons:
            print(
                shown(f"{reward} failed on {len(reasons)} pictures, left out with their token sequences: {reasons[0]}")
            )
    print(f"{out}: variance.json, variance.svg")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's Ctrl-C: what was started is closed
    sys.exit(main())
