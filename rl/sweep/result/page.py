"""The page of a sweep: ``sweep.html``, self-contained, answers first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rl.evaluation.results import OVERALL
from rl.report.template import template_environment
from rl.run_folder.records import write_atomically
from rl.sweep.again import changes
from rl.sweep.jobs import told_alike
from rl.sweep.member import Member
from rl.sweep.plan import SweepPlan
from rl.sweep.result.cautions import warnings
from rl.sweep.result.compare import summarise_arms
from rl.sweep.result.curves import AXES, arm_charts
from rl.sweep.result.gather import MadeArm, gather, rewards_of, tasks_of
from rl.sweep.result.sheet import START, sheet
from rl.sweep.result.tables import COMPARED, SweepResult
from rl.sweep.result.words import answers, headline, p_text
from rl.tracking.clock import duration

PAGE_FILE = "sweep.html"


def find_result(plan: SweepPlan, members: Sequence[Member]) -> SweepResult:
    """Everything that the page, the tables and the JSON say."""
    arms = gather(plan, members)
    rows, regressions = summarise_arms(arms, plan.baseline), sheet(arms, plan.baseline)
    first = {arm.name: next(one.run.config for one in members if one.run.arm == arm.name) for arm in arms}
    changed = {
        name: [one for one in changes(first[plan.baseline], config) if one.key != "run.seed"]
        for name, config in first.items()
        if name != plan.baseline
    }
    told = answers(arms, plan.baseline, rows, regressions)
    warned = [*told_alike(plan), *warnings(arms, plan.baseline)]
    return SweepResult(plan.folder.name, plan.baseline, arms, members, rows, regressions, told, warned, changed)


def write_page(folder: Path, result: SweepResult) -> Path:
    path = folder / PAGE_FILE
    write_atomically(path, page(result))
    return path


def page(result: SweepResult) -> str:
    environment = template_environment(Path(__file__).parent)
    environment.filters |= {"duration": duration, "p_text": p_text}
    environment.globals["START"] = START
    made = [arm for arm in result.arms if arm.runs]
    reward = headline(made)
    return environment.get_template("sweep.html").render(
        result=result,
        made=made,
        reward=reward,
        overall={row.arm: row for row in result.rows if row.reward == reward and row.task == OVERALL},
        cells={(row.reward, row.task, row.arm): row for row in result.rows},
        rewards=[(name, tasks_of(made, name)) for name in rewards_of(made)],
        charts=arm_charts(made),
        axes=AXES,
        scale=_scale(made),
        compared=COMPARED,
    )


def _scale(arms: Sequence[MadeArm]) -> dict[str, int]:
    """Arm -> its place, which is its colour, as in the charts."""
    return {arm.name: place for place, arm in enumerate(arms)}
