"""The story of a run, in order: begin, collect, learn, now and then, end.

    prompts -> tokens -> hidden states -> pictures -> scores | -> advantages -> update -> new weights into the sampler
    ------------------------ collect -----------------------   ------------------------ learn ------------------------

Everything that happens here is a function of the configuration, the seed and the step, so a resumed run repeats an
uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rewards.pool.pool import RewardPool
from rl.acting.place import Acting, ActingHere
from rl.build import live_parts
from rl.card.card import write_card
from rl.collect import RewardsFailed
from rl.config.schema import Config
from rl.evaluation.parts import load_last_parts
from rl.evaluation.results import load_all
from rl.evaluation.tables import parts_tables, table
from rl.halves.export import export_parts
from rl.milestones import (
    evaluate_if_due,
    first_weights,
    obey_before_saving,
    replay_guards,
    restore,
    resume_command,
    save,
    save_finished,
    save_if_due,
    show_if_due,
)
from rl.parts import Run
from rl.process.interrupt import INTERRUPTED, Interrupt
from rl.process.ranks import OtherRanks, Place
from rl.ranks.lead import leading
from rl.rehearsal.rehearse import rehearse
from rl.report.page import write_report
from rl.run_folder.checkpoint import Checkpoint
from rl.run_folder.environment import record_environment
from rl.run_folder.random_state import rng_state
from rl.run_folder.records import Alarm, require_log
from rl.tracking.guards.guards import Guards
from rl.tracking.profile import profiled
from rl.tracking.stopwatch import Stopwatch
from rl.tracking.terminal import Terminal
from rl.types import Prompt, UserError

_TABLE_WIDTH = 120


class AlarmStop(UserError):
    """A guard's alarm whose action is ``stop``."""


class ForeseenStop(AlarmStop):
    """The same before the step's update."""


def run(
    config: Config,
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    saved: Checkpoint | None,
    interrupt: Interrupt,
    *,
    rewards: Future[RewardPool],
    resume: bool,
    command: Sequence[str],
    place: Place,
    others: OtherRanks | None = None,
) -> int:
    """A whole run in its claimed folder, from ``saved`` on if there is one.

    ``prompts``: to learn from, and held out; ``rewards``: being started; ``command``: what it was started with;
    ``place``, ``others``: the ranks, where there are several.

    Returns the exit code: 0 done, 130 interrupted after saving a checkpoint.
    """
    folder, done = Path(str(config.run.folder)), saved.step if saved else 0
    record_environment(folder, command)
    with (
        _acting(config, done, interrupt) as acting,
        leading(config, place, others, interrupt) as team,
        live_parts(config, folder, prompts, done if resume else None, rewards, interrupt, team, acting) as parts,
    ):
        begin(parts, saved)
        hint = f"go on with: {resume_command(folder)}"
        interrupt.finish_steps(
            parts.tracker.message, f"interrupted; the steps since the last checkpoint are lost; {hint}"
        )
        last = train(parts, done)
        if last == 0:
            save(parts, 0)
        if last == config.train.steps:
            parts.tracker.settle()
            export_trained(parts)
    if last < config.train.steps:
        print(f"stopped after {last} steps; {hint}", flush=True)
        return INTERRUPTED
    conclude(folder)
    return 0


def _acting(config: Config, done: int, interrupt: Interrupt) -> AbstractContextManager[Acting]:
    """Where samples and pictures are made; Ray is loaded for those who use it."""
    if not config.loop.ahead:
        return nullcontext(ActingHere())
    from rl.cluster.acting import acting_on_cluster

    return acting_on_cluster(config, done, interrupt)


def begin(run: Run, saved: Checkpoint | None) -> None:
    """The state of the checkpoint, a rehearsal of one step, the trainer's weights in the sampler, and the base's
    evaluation before step 0."""
    done = saved.step if saved else 0
    if run.views:
        run.views.remember()
    if saved:
        restore(run, saved)
    rehearse(run, done)
    first_weights(run)
    replay_guards(run, done)
    if done == 0:
        run.guards.check(-1, evaluate_if_due(run, done=0))


def train(run: Run, first_step: int) -> int:
    """Steps ``first_step`` to the configured last; returns the number of steps done, fewer after Ctrl-C.

    Raises: RewardsFailed, ForeseenStop, with the steps that are done saved.
    """
    done, then = first_step, rng_state()
    try:
        for done in _steps(run, first_step):
            if run.interrupt.asked:
                return done
            then = rng_state()
    except (RewardsFailed, ForeseenStop) as error:
        raise type(error)(f"{error}; {save_finished(run, done, then)}") from error.__cause__
    return run.config.train.steps


def _steps(run: Run, first_step: int) -> Iterator[int]:
    """One after another; yields how many are done."""
    collected = run.collector.collect(first_step, run.config.train.steps)
    for experience in profiled(collected, first_step, run.config.tracking.profile, run.folder, run.tracker.message):
        step, timer = experience.step, Stopwatch(experience.seconds, run.tracker.stage)
        foreseen = run.guards.foresee(step, experience.metrics)
        obey_before_saving(run, foreseen)
        _obey(run.guards, foreseen, ForeseenStop)
        metrics = {**experience.metrics, **run.learner.learn(experience, timer)}
        show_if_due(run, experience)
        del experience  # or its hidden states and pictures would stay while the next ones are made
        with timer("evaluate"):
            metrics |= evaluate_if_due(run, done=step + 1)
        alarms = run.guards.check(step, metrics)
        run.tracker.log(step, metrics, timer.seconds, [*foreseen, *alarms])
        obey_before_saving(run, alarms)
        require_log(run.folder)
        save_if_due(run, done=step + 1)  # after the log: a checkpoint never claims a step that the log does not show
        _obey(run.guards, alarms, AlarmStop)
        yield step + 1


def export_trained(run: Run) -> None:
    """See :func:`rl.halves.export.export_parts`."""
    if run.elsewhere:
        run.elsewhere.export(run.folder)
        return
    with run.slow.lent() if run.slow else nullcontext():
        learner = run.learner
        export_parts(run.config.policy.path, run.policy.folder, learner.trained(), learner.parts, run.folder)


def conclude(folder: Path) -> None:
    """The table before/after, the policy's card and the page."""
    evaluations = load_all(folder)
    if len(evaluations) > 1:
        # a file or a pipe would count as 80 columns, where the intervals would be folded
        Terminal(narrowest=_TABLE_WIDTH).print(table(evaluations[0], evaluations[-1]))
    if (parts := load_last_parts(folder)) is not None:
        for shown in parts_tables(parts):
            Terminal(narrowest=_TABLE_WIDTH).print(shown)
    print(f"card: {write_card(folder)}")
    print(f"report: {write_report(folder)}")


def _obey(guards: Guards, alarms: Sequence[Alarm], stop: type[AlarmStop]) -> None:
    stopping = {alarm: key for alarm in alarms for action, key in [guards.action(alarm)] if action == "stop"}
    if stopping:
        sentences = " ".join(alarm.sentence for alarm in stopping)
        raise stop(f"{next(iter(stopping.values()))} is 'stop' and an alarm went off: {sentences}")
