"""A sweep as a list of jobs: every configuration checked with its data, and a command per run that is missing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from rl.config.schema import Config
from rl.dry_run import evaluation_steps
from rl.preflight.machine import check_machine
from rl.preflight.prompts import check_data
from rl.registry import is_module_attr
from rl.sweep.again import changes, check_own, has_begun
from rl.sweep.member import Member
from rl.sweep.plan import SweepPlan
from rl.types import UserError


def check_plan(plan: SweepPlan, *, asha: bool = False) -> None:
    """Every arm's evaluations (``asha``: also those on the way), data, rewards and machine, and that every run's folder
    is its own. Raises UserError with all mistakes."""
    wrong: dict[str, list[str]] = {}
    for arm in plan.arms:
        config = next(run.config for run in plan.runs if run.arm == arm.name)
        try:
            _check_evaluations(config, asha=asha)
            check_data(config)
            check_machine(config, config.train.ranks)
        except UserError as error:
            wrong.setdefault(str(error), []).append(arm.name)
    for run in plan.runs:
        try:
            check_own(run)
        except UserError as error:
            wrong.setdefault(str(error), []).append(run.arm)
    if len(wrong) == 1:
        message, names = next(iter(wrong.items()))
        raise UserError(message if len(names) == len(plan.arms) else f"arm {', '.join(names)}: {message}")
    if wrong:
        told = [f"  arm {', '.join(names)}: {message}" for message, names in wrong.items()]
        raise UserError(f"{len(wrong)} mistakes in the sweep:\n" + "\n".join(told))


def _check_evaluations(config: Config, *, asha: bool) -> None:
    if config.data.eval is None:
        raise UserError("data.eval is null: a sweep compares held-out scores, so give it prompts to evaluate")
    if len(evaluation_steps(config)) < 2:
        raise UserError(
            "a sweep compares an evaluation after training with one before it, and the run has fewer than two: give it "
            "steps (train.steps), and turn eval.at_start and eval.at_end on"
        )
    if asha and not 0 < config.eval.every < config.train.steps:
        raise UserError(
            f"--asha judges by held-out scores on the way, and there are none: eval.every is {config.eval.every}; it "
            f"must be from 1 to {config.train.steps - 1}, below train.steps"
        )


def told_alike(plan: SweepPlan) -> Iterator[str]:
    """Arms of which it is known before they run that nothing but chance can tell them from the baseline."""
    first = {arm.name: next(run.config for run in plan.runs if run.arm == arm.name) for arm in plan.arms}
    base = first[plan.baseline]
    for name, config in first.items():
        keys = [one.key for one in changes(base, config)] if name != plan.baseline else None
        if keys == []:
            yield f"{name} is the same run as {plan.baseline}: what it changes is so already."
        elif keys and all(key.startswith("loss.") for key in keys) and _ratio_is_one(base) and _ratio_is_one(config):
            yield (
                f"{name} differs from {plan.baseline} in its loss alone, and with train.updates_per_rollout 1 every "
                "ratio is 1, where all losses have one gradient; write 2 or more."
            )


def _ratio_is_one(config: Config) -> bool:
    """A loss of somebody's own may be anything."""
    return config.train.updates_per_rollout == 1 and not config.loop.ahead and not is_module_attr(config.loss.use)


def jobs(members: Sequence[Member]) -> Iterator[str]:
    """A line per run that waits, ready for the shell; it goes on from a checkpoint where there is one."""
    for one in members:
        if one.state == "waiting":
            resume = ["--resume"] if has_begun(one.run.folder) else []
            yield shlex.join(["python", *one.run.command[1:], *resume])
