"""What happens now and then: evaluation on held-out prompts, pictures, checkpoints; and what a run begins with."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rl.collect import canary_rollout
from rl.evaluation.evaluate import evaluate
from rl.evaluation.results import Evaluation, grid_path, load_all
from rl.learn import Learner, advantages_of
from rl.parts import Run
from rl.rows import group_sizes, per_sample
from rl.run_folder import checkpoint
from rl.run_folder.claim import CONFIG_FILE
from rl.run_folder.experience import goes_on_exactly
from rl.run_folder.random_state import RngState, restore_rng, rng_state
from rl.run_folder.records import Alarm, read_metrics
from rl.tracking.groups import GroupSample, save_groups
from rl.types import Collected, Experience, Prompt, Score, UserError

_PICTURES_AT_ONCE = 128


def first_weights(run: Run) -> None:
    """Puts the trainer's weights into the followers before anything is sampled from them for real: only as much as
    the canary asks about is sampled for it."""
    run.tracker.starting("the first weights go into the sampler")
    rollout = canary_rollout(run.config, run.policy.layout.image, run.act, run.train_prompts)
    for name in run.learner.parts:
        run.learner.publish(name, rollout)
    run.canary = rollout


def replay_guards(run: Run, done: int) -> None:
    """Baselines of the guards as if the run had never stopped."""
    for evaluation in load_all(run.folder):
        if evaluation.step == 0 and done > 0:
            run.guards.check(-1, evaluation.flat())
    run.guards.replay((row.step, row.metrics) for row in read_metrics(run.folder) if row.step < done)


def evaluate_if_due(run: Run, done: int) -> dict[str, float]:
    """``eval/...`` metrics after ``done`` steps, or nothing when it is not time."""
    if not run.eval_prompts or not run.config.eval.due(done, run.config.train.steps):
        return {}
    with evaluated_policy(run):
        evaluation = run_evaluation(run, done)
        return evaluation.flat() | _parts(run, evaluation)


@contextmanager
def evaluated_policy(run: Run) -> Iterator[None]:
    """Inside, the language model's slow copy writes the tokens and reads them back, where that is what is evaluated."""
    if run.slow is None:
        yield
        return
    assert run.canary is not None  # kept when the followers had their first weights
    run.slow.push(run.learner.sync, run.canary)
    live, run.act.forward = run.act.forward, run.slow.forward
    try:
        yield
    finally:
        run.act.forward = live
    run.learner.publish("ar", run.canary)


def _parts(run: Run, evaluation: Evaluation) -> dict[str, float]:
    """``parts/...``: what each network has brought, where the decoder learns."""
    if run.views is None:
        return {}
    run.tracker.progress("looking at the networks apart", 0, len(run.views.prompts), "prompts")
    return run.views.look(evaluation, run.folder).flat()


def run_evaluation(run: Run, done: int) -> Evaluation:
    """Held-out prompts with the same seeds every time; writes ``evaluation-<done>.json`` and its picture grid."""
    options = run.config.eval
    found: dict[str, list[Score]] = {}

    def pipeline(
        prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
        name = f"eval{done}-{prompts[0].id}"
        pictures, by_reward = run.act.held_out(name, prompts, samples_per_prompt, seeds, options.seed)
        for reward, scores in by_reward.items():
            found.setdefault(reward, []).extend(scores)
        return pictures, by_reward

    def tell(pictures: int, total: int) -> None:
        run.tracker.progress("evaluating " + (_after(done) if done else "the base"), pictures, total, "pictures")

    prompts_per_batch = max(1, _PICTURES_AT_ONCE // options.samples_per_prompt)
    evaluation = evaluate(done, run.eval_prompts, pipeline, run.folder, options, prompts_per_batch, tell)
    if done == 0:
        run.act.watch.check(found, first=True)
    run.tracker.evaluated(done, evaluation.flat(), grid_path(run.folder, done) if evaluation.tiles else None)
    means = [f"{_told(name)} {value:.3f}" for name, value in evaluation.flat().items()]
    run.tracker.message(f"evaluation {_after(done) if done else 'of the base'}: {', '.join(means)}")
    return evaluation


def _told(name: str) -> str:
    """``eval_graded/details/overall`` -> ``graded details/overall``"""
    kind, _, of = name.partition("/")
    return f"graded {of}" if kind == "eval_graded" else of


def _after(done: int) -> str:
    return f"after {done} step{'' if done == 1 else 's'}"


def obey_before_saving(run: Run, alarms: Sequence[Alarm]) -> None:
    """Lowers the learning rates where an alarm's guard says so, for the next step and a checkpoint after this one."""
    for alarm in alarms:
        action, key = run.guards.action(alarm)
        if action == "lower_lr":
            factor = run.config.guards.lr_factor
            run.learner.slow_down(factor)
            run.tracker.message(f"{key}: lower_lr, so from now on learning rates are {factor:g} times what they were")


def show_if_due(run: Run, collected: Collected) -> None:
    """Some of a step's pictures, every ``tracking.pictures_every`` steps."""
    every, count = run.config.tracking.pictures_every, run.config.tracking.pictures
    if every and collected.step % every == 0:
        shown = collected.shown(count)
        if len(shown.pictures):  # a replayed step has none
            run.tracker.pictures(collected.step, "train", shown.pictures, shown.captions, shown.verdicts)
            if isinstance(collected, Experience) and isinstance(run.learner, Learner):
                _save_groups(run, run.learner, collected)


def _save_groups(run: Run, learner: Learner, experience: Experience) -> None:
    """Every sample of the first groups, of pictures and of answers, for the browser of the report."""
    count, kinds = run.config.tracking.groups, [experience, *([experience.answers] if experience.answers else [])]
    if not count:
        return
    samples = [_group_samples(learner, one, count) for one in kinds]
    pictures = np.concatenate([one.renders.one_each[: len(of)] for one, of in zip(kinds, samples, strict=True)])
    most = max(max(group_sizes(one.rollout)[:count]) for one in kinds)
    save_groups(run.folder, experience.step, pictures, [one for of in samples for one in of], most)


def _group_samples(learner: Learner, experience: Experience, count: int) -> list[GroupSample]:
    """Of the first ``count`` groups."""
    rollout, scores = experience.rollout, experience.scores
    advantages = per_sample(advantages_of(learner.advantage, experience), rollout).tolist()
    return [
        GroupSample(
            rollout.prompt_of(index).text,
            rollout.prompt_of(index).metadata.get("tag"),
            float(scores.score_B[index]) if scores.valid_B[index] else None,
            advantages[index] if scores.valid_B[index] else None,
            {reward: asdict(found[index]) for reward, found in scores.by_reward.items()},
        )
        for index in range(sum(group_sizes(rollout)[:count]))
    ]


def save_if_due(run: Run, done: int) -> None:
    """A checkpoint every ``checkpoint.every`` steps, at the end, and when the run was interrupted."""
    if run.interrupt.asked or run.config.checkpoint.due(done, run.config.train.steps):
        save(run, done)


def save_finished(run: Run, done: int, rng: RngState) -> str:
    """When the step after ``done`` of them has failed before it changed a weight: a checkpoint of those that are done,
    with the random numbers of then, unless there is one. Returns the words that tell of it.
    """
    if done == 0:
        return "no step was done yet: the same command starts again"
    if not checkpoint.found(run.folder, done):
        try:
            save(run, done, rng)
        except UserError as error:  # the sentence of what stopped the run is told all the same
            return f"what is done since the last checkpoint could not be saved: {error}"
    return f"step {done} is saved, go on from step {done + 1} with: {resume_command(run.folder)}"


def resume_command(folder: Path) -> str:
    return f"python -m rl.launch {shlex.quote(str(folder / CONFIG_FILE))} --resume"


def save(run: Run, done: int, rng: RngState | None = None) -> Path:
    """``rng``: random numbers of another moment than now. Raises: UserError if the disk is full; earlier checkpoints
    stay."""
    run.tracker.stage("save")
    parts = {_folder_of(name): part.save for name, part in run.learner.parts.items()}
    first = next(iter(run.learner.parts.values()))
    state: checkpoint.RunState = {"version": first.version, "rng": rng or rng_state()}
    if run.draws:
        state["draws"] = run.draws.state
    steps, staleness = run.config.train.steps, run.config.loop.staleness
    exact = partial(goes_on_exactly, run.folder, steps=steps, staleness=staleness)
    folder = checkpoint.save(run.folder, done, parts, state, run.config.checkpoint.keep, exact)
    oldest = checkpoint.oldest(run.folder, exact)
    if run.experience is not None and oldest is not None and oldest < done:  # or all of the log may be needed
        run.experience.prune(oldest)
    return folder


def restore(run: Run, saved: checkpoint.Checkpoint) -> None:
    """Trainers and random-number generators as they were when ``saved`` was written."""
    _check_same_trainers(run, saved.folder)
    for name, part in run.learner.parts.items():
        part.load(saved.folder / _folder_of(name))
    if run.draws:
        run.draws.state = saved.state["draws"]
    restore_rng(saved.state["rng"])


def _check_same_trainers(run: Run, folder: Path) -> None:
    """Raises: UserError if the checkpoint is of other networks than the run trains."""
    wanted = {_folder_of(name): name for name in run.learner.parts}
    found = {path.name for path in folder.iterdir() if path.is_dir()}
    if found != wanted.keys():
        saved = sorted(name.removeprefix("trainer").removeprefix("-") or "ar" for name in found)
        raise UserError(
            f"{folder}: a checkpoint of trainers [{', '.join(saved)}], and this run has trainers "
            f"[{', '.join(wanted.values())}]; resume with the same, or start a new run from its policy"
        )


def _folder_of(part: str) -> str:
    return "trainer" if part == "ar" else f"trainer-{part}"
