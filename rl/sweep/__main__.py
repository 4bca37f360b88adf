"""``python -m rl.sweep CONFIG [key=a,b,c ...] [--seeds 0 1 2]``: which arm is better, by how much, how sure?

    python -m rl.sweep examples/ablations/loss.yaml                                # arms and seeds from a file
    python -m rl.sweep examples/geneval.yaml --sweep advantage=grpo,rloo seed=0,1,2     # crossed on the command line
    python -m rl.sweep examples/ablations/loss.yaml --dry-run                      # checked; one job a line

Every run is its own ``python -m rl.launch`` process with its own folder: here, on a Ray cluster (``--ray``), or in
a job array. The same command again goes on where the sweep stopped: finished runs are kept, half-done ones resumed, and
a run that was made before by the same code with the same configuration is reused. Written to the sweep's folder:
``sweep.jsonl`` (a line per run) and ``sweep.html`` (the page). Exit codes: 0, 1 if a run failed, 2 for a mistake in the
command, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from rl.config import shipped
from rl.process.command import command
from rl.process.interrupt import INTERRUPTED
from rl.process.output import shown
from rl.sweep.again import claim, is_done
from rl.sweep.arguments import SweepArguments, read_arguments
from rl.sweep.board import Board, make_board, summary
from rl.sweep.earlier import find_earlier
from rl.sweep.jobs import check_plan, jobs, told_alike
from rl.sweep.member import Member, ended_before, write_members
from rl.sweep.plan import LAUNCH, SweepPlan, plan
from rl.sweep.processes import run_all
from rl.sweep.result.page import find_result, write_page
from rl.sweep.result.tables import SweepResult, as_json, console_table, markdown
from rl.sweep.slots import make_slots
from rl.tracking.terminal import Terminal

_TABLE_WIDTH = 130


def sweep(given: SweepArguments, launch: Sequence[str] = LAUNCH) -> int:
    """Runs everything that is not done yet and tells what came out; 0 if no run failed, 1 otherwise."""
    planned = plan(
        given.config, given.overrides, given.folder, seeds=given.seeds, baseline=given.baseline, launch=launch
    )
    check_plan(planned, asha=given.asha)
    for alike in told_alike(planned):
        print(shown(f"warning: {alike}"), file=sys.stderr)
    members = find_members(planned, run_again=not given.collect)
    if given.dry_run:
        _list_jobs(planned, members)
        return 0
    if not given.collect:
        claim([one.run for one in members if one.state != "reused"])
        _run(given, planned, members)
    write_members(planned.folder, members)
    result = find_result(planned, members)
    tell(result, given.output)
    print(shown(f"page: {write_page(planned.folder, result)}"), file=sys.stderr)
    return 1 if any(one.state == "failed" for one in members) else 0


def find_members(planned: SweepPlan, *, run_again: bool = True) -> list[Member]:
    """How every run stands before anything is started. ``run_again``: one that failed waits for another try."""
    earlier = find_earlier(planned.runs, planned.folder.parent)
    stopped = ended_before(planned.folder, planned.runs, "stopped early")
    failed = {} if run_again else ended_before(planned.folder, planned.runs, "failed")
    members = []
    for run in planned.runs:
        one = Member(run)
        if is_done(run):
            one.state = "kept"
        elif run.folder in stopped:
            one.state, one.reason = "stopped early", stopped[run.folder]
        elif run.folder in failed:
            one.state, one.reason = "failed", failed[run.folder]
        elif run.folder in earlier:
            one.state, one.source = "reused", earlier[run.folder]
        members.append(one)
    return members


def _run(given: SweepArguments, planned: SweepPlan, members: Sequence[Member]) -> None:
    def changed() -> None:
        write_members(planned.folder, members)

    with make_board(members, given.parallel) as board:
        _tell_kept(members, board)
        changed()
        if given.ray is not None:
            from rl.sweep.on_ray import run_on_ray

            run_on_ray(members, board, changed, address=given.ray, asha=given.asha, folder=planned.folder)
        else:
            run_all(members, make_slots(given.parallel, os.environ), board, changed)


def _tell_kept(members: Sequence[Member], board: Board) -> None:
    for one in members:
        if one.state == "kept":
            board.say(f"{one.run.folder}: done before, kept")
        elif one.state == "reused":
            board.say(f"{one.run.folder}: the same as {one.source}, by the same code: reused")
        elif one.state == "stopped early":
            board.say(f"{one.run.folder}: stopped early before ({one.reason})")


def _list_jobs(planned: SweepPlan, members: Sequence[Member]) -> None:
    lines = list(jobs(members))
    for line in lines:
        print(shown(line))
    arms = f"{len(planned.arms)} arm{'s' * (len(planned.arms) != 1)}"
    told = f"{arms} x {len(planned.seeds)} seeds, all configurations checked"
    print(shown(f"{told}: {len(lines)} jobs; {summary(members, 1)}"), file=sys.stderr)


def tell(result: SweepResult, output: str) -> None:
    if output == "json":
        print(as_json(result), end="")
        return
    if output == "markdown":
        print(markdown(result), end="")
        return
    Terminal(narrowest=_TABLE_WIDTH).print(console_table(result))
    for answer in result.answers:
        print(shown(f"{answer.question} {' '.join(answer.sentences)}"))
    for warning in result.warnings:
        print(shown(f"warning: {warning}"))


@command
def main(arguments: Sequence[str] | None = None) -> int:
    typed = list(sys.argv[1:] if arguments is None else arguments)
    given = read_arguments(typed)
    if note := shipped.note(given.config):
        print(shown(note), file=sys.stderr)
    try:
        return sweep(given)
    except KeyboardInterrupt:
        print(shown(f"stopped; go on with: python -m rl.sweep {shlex.join(typed)}"), file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
