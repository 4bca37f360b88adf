"""The story of a run, in order: sample, forward, paint, score, compare, update, synchronise.

    prompts -> rollout -> hidden states -> pictures -> scores -> advantages -> update -> new weights into the sampler

Everything that happens here is a function of the configuration, the seed and the step, so a resumed run repeats an
uninterrupted one bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rl.collect import by_group, describe, paint, read_back, sample, score, show, synchronise, vet
from rl.milestones import evaluate_if_due, save_if_due
from rl.minibatch import mean_metrics, minibatches
from rl.parts import Run
from rl.tracking.guards import Alarm
from rl.tracking.stopwatch import Stopwatch
from rl.types import Batch, UserError


class AlarmStop(UserError):
    """A guard's alarm with ``guards.action: stop``."""


def train(run: Run, first_step: int) -> int:
    """Steps ``first_step`` to the configured last; returns the number of steps done, fewer after Ctrl-C."""
    for step in range(first_step, run.config.train.steps):
        watch = Stopwatch()
        metrics = train_step(run, step, watch)
        with watch("evaluate"):
            metrics |= evaluate_if_due(run, done=step + 1)
        alarms = run.guards.check(step, metrics)
        run.tracker.log(step, metrics, watch.seconds, alarms)
        # after the log: a checkpoint never claims a step that the log does not show
        save_if_due(run, done=step + 1)
        _obey(alarms, run.config.guards.action)
        if run.interrupt.asked:
            return step + 1
    return run.config.train.steps


def train_step(run: Run, step: int, watch: Stopwatch) -> dict[str, float]:
    """One turn: P prompts, G samples each, one picture or more a sample, ``updates_per_rollout`` optimizer steps."""
    config = run.config
    with watch("sample"):
        rollout = sample(run, step)
    with watch("forward"):
        forward, reference = read_back(run, rollout)
    with watch("paint"):
        pictures, scoring = paint(run, forward, rollout, config.render.seed, config.run.seed, step, f"step{step}")
    with watch("score"):
        scores = score(run, rollout, scoring)
        vet(run, scores.by_reward, first=step == 0)
    advantages_PG = run.advantage(by_group(scores.total_B, rollout), by_group(scores.valid_B, rollout))
    batch = Batch(
        prompt_ids=rollout.prompt_ids_per_sample(),
        tokens_BT=torch.from_numpy(rollout.tokens_BT),
        rollout_logprobs_BT=torch.from_numpy(rollout.logprobs_BT),
        old_logprobs_BT=forward.logprobs_BT,
        reference_logprobs_BT=reference.logprobs_BT.cpu() if reference and run.config.kl else None,
        reference_hidden_BSD=reference.hidden_BSD if reference and run.config.anchor else None,
        advantages_B=advantages_PG.flatten(),
        valid_B=torch.from_numpy(scores.valid_B),
        temperature=rollout.temperature,
    )
    with watch("update"):
        parts = minibatches(batch, config.train.updates_per_rollout)
        metrics = mean_metrics([run.trainer.update(part) for part in parts])
    with watch("sync"):
        metrics |= synchronise(run, rollout)
    metrics |= describe(run, rollout, forward, pictures, scores)
    show(run, step, rollout, pictures, scores)
    return metrics


def _obey(alarms: Sequence[Alarm], action: str) -> None:
    if alarms and action == "stop":
        sentences = " ".join(alarm.sentence for alarm in alarms)
        raise AlarmStop(f"guards.action is 'stop' and an alarm went off: {sentences}")
