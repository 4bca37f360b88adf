"""Before the first step of a supervised run: a step's rows up to the gradient, of which nothing remains."""

from __future__ import annotations

from rl.parts import Run
from rl.process.out_of_memory import memory_of_phase
from rl.rehearsal.meter import Meter
from rl.rehearsal.parts import part_of_a_step
from rl.run_folder.random_state import restore_rng, rng_state
from rl.supervised.collect import Dataset
from rl.supervised.learn import SupervisedLearner
from rl.tracking.clock import duration

_ADVICE = "look at supervised and train; train.micro_batch is what takes memory"


def rehearse_lesson(run: Run, learner: SupervisedLearner, first_step: int) -> None:
    """Tells what the parts took and what to expect of the run. Raises: UserError naming the part that fails."""
    run.tracker.starting("rehearsal: the first rows up to their gradient")
    steps, collector = run.config.train.steps - first_step, run.collector
    if steps <= 0 or not isinstance(collector, Dataset):
        return
    before, place, meter = rng_state(), collector.stream.state(), Meter()
    try:
        with part_of_a_step("read", "look at supervised.examples"):
            lesson = collector(first_step, rehearsal=True)
        rows = min(len(lesson.batch), learner.taught.trainer.at_once)
        for _ in range(2):  # the first call of everything is slow
            with part_of_a_step("update", _ADVICE), memory_of_phase("update"), meter("update", rows):
                learner.taught.rehearse(lesson.batch.take(range(rows)))
    finally:
        restore_rng(before)
        collector.stream.restore(place)
    each = meter.parts["update"].each * len(lesson.batch) + sum(lesson.seconds.values())
    run.tracker.message(
        f"rehearsal of {rows} rows: a step takes about {duration(each)}, {steps:,} step{'' if steps == 1 else 's'} "
        f"about {duration(each * steps)}"
    )
