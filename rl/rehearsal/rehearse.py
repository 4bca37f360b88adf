"""Before the first step: one prompt and two samples through every part of it, with the settings of the run.

What would fail after the first expensive minutes fails here, as a sentence. Nothing of it remains: random numbers are
put back, gradients are made and dropped, and neither optimizer, engines, guards nor the order of prompts hear of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from rewards.pool.submission import gather
from rewards.scoring import mean_scores
from rl.acting.elsewhere import PaintedElsewhere
from rl.answers.answering import is_answered, kinds_of
from rl.collect import Noise, sample
from rl.config.schedule_rules import phases
from rl.config.schema import Config
from rl.config.sections.cluster_rules import ranks_of
from rl.described.step import describe_pictures
from rl.learn import Learner, TrainedPart
from rl.parts import Run
from rl.process.out_of_memory import memory_of_phase
from rl.rehearsal.estimate import Work, told
from rl.rehearsal.lesson import rehearse_lesson
from rl.rehearsal.meter import Meter
from rl.rehearsal.parts import check_hidden, check_rollout, finite_outputs, part_of_a_step
from rl.rows import by_group, read_back, sequences
from rl.run_folder.random_state import restore_rng, rng_state
from rl.supervised.learn import SupervisedLearner
from rl.trainer.engine import pick_device
from rl.types import Experience, Forward, Prompt, Renders, Rollout, Score, Scores
from rollout.seeds import group_seeds

_LOOKED_THROUGH = 1000  # prompts, for one that most rewards apply to
_WARM_ROWS = 16  # the first call of everything is slow, and two rows are few: each part is measured once more
_SHORT_S = 5.0  # sampling is measured once more where it takes less
_CHEAP_S = 2.0  # a part that takes less than that with as many rows as a step gives it at a time is measured with them
_FORWARD_ADVICE = "train.micro_batch is what takes memory"
_AR_ADVICE = "look at loss, terms and train; train.micro_batch is what takes memory"
_DECODER_ADVICE = "look at decoder; decoder.micro_batch is what takes memory"
_LONG_S = 20.0  # a part that takes longer than that in a step is measured with a whole micro-batch


def rehearse(run: Run, first_step: int) -> None:
    """Tells what the parts took and what to expect of the run. Raises: UserError naming the part that fails."""
    learner = run.learner
    if isinstance(learner, SupervisedLearner):
        rehearse_lesson(run, learner, first_step)
        return
    assert isinstance(learner, Learner)
    run.tracker.starting("rehearsal: one prompt through every part of a step")
    before = rng_state()
    try:
        first, *others = _telling_prompts(run)
        rehearsal = _Rehearsal(run, learner, Meter(), _work(run, first_step), first)
        rehearsal.step()
        for prompt in others:  # the estimate takes all of a step for pictures, which cost more than answers
            replace(rehearsal, meter=Meter(), prompt=prompt).step()
        run.tracker.message(told(rehearsal.meter.parts, rehearsal.work))
    finally:
        restore_rng(before)


@dataclass(frozen=True)
class _Rehearsal:
    run: Run
    learner: Learner
    meter: Meter
    work: Work
    prompt: Prompt
    """One that a step may hold."""

    def step(self) -> None:
        """Both halves, the second up to the gradient."""
        experience, advantages_PG = self.act()
        if self.work.steps:
            self.learn(experience, advantages_PG)

    @property
    def first(self) -> Config:
        """As it stands in the steps of the first network that learns."""
        return phases(self.run.config)[0].config

    @property
    def renders(self) -> int:
        """Of each sample: as many as the decoder learns from, where it does."""
        return phases(self.run.config)[-1].config.render.renders

    @property
    def paints_elsewhere(self) -> bool:
        """Hidden states are made, and looked at, where they are painted."""
        return isinstance(self.run.act, PaintedElsewhere)

    @contextmanager
    def part(self, stage: str, rows: int, advice: str) -> Iterator[None]:
        """Measured, and what is raised inside explained."""
        with part_of_a_step(stage, advice), memory_of_phase(stage), self.meter(stage, rows):
            yield

    def act(self) -> tuple[Experience, Tensor]:
        """The first half of a step, with a look at what each part gives; and the advantages of its samples."""
        rollout = self._sampled()
        hidden_BSD, forward = self._read(rollout)
        renders, by_picture = self._painted_and_scored(hidden_BSD, rollout)
        scores, advantages_PG = self._valued(by_picture, rollout)
        return Experience(0, rollout, renders, scores, forward, None, rollout.version, {}, {}), advantages_PG

    def learn(self, experience: Experience, advantages_PG: Tensor) -> None:
        """The second half up to the gradient."""
        for name, part in self.learner.parts.items():
            self._gradients(name, part, experience, advantages_PG)

    def _gradients(self, name: str, part: TrainedPart, experience: Experience, advantages_PG: Tensor) -> None:
        """Of one network: of the samples there are, then of as many as tell what a step takes. A decoder's are counted
        in pictures."""
        stage, advice = ("update", _AR_ADVICE) if name == "ar" else (name, _DECODER_ADVICE)
        pictures = 1 if name == "ar" else experience.renders.per_sample

        def gradient(samples: int) -> None:
            with self.part(stage, samples * pictures, advice):
                part.rehearse(experience, advantages_PG, samples)

        gradient(experience.rollout.batch_size)
        most = {one.section: one.micro_batch for one in self.run.config.learning}["train" if name == "ar" else name]
        most *= ranks_of(self.run.config)
        gradient(max(1, self._rows(stage, most) // pictures))
        while more := self._more(stage, most // pictures * pictures) // pictures:
            gradient(more)

    def _rows(self, stage: str, micro_batch: int) -> int:
        """How many a part is measured with; ``micro_batch``: of all ranks together."""
        rows = self.work.most(stage)
        long = self.meter.parts[stage].each * rows > _LONG_S
        return min(micro_batch, rows) if long else min(micro_batch, rows, _WARM_ROWS)

    def _more(self, stage: str, at_once: int) -> int:
        """As many as a step gives a part at a time, or four times as many as before, where that is cheap: small models
        share fixed costs among many rows, and sixteen would say two to three times too much. 0: it is not, or has been
        measured."""
        one, most = self.meter.parts[stage], min(at_once, self.work.most(stage))
        rows = most if one.each * most < _CHEAP_S else min(4 * one.rows, most)
        return rows if rows > one.rows and one.each * rows < _CHEAP_S else 0

    def _sampled(self) -> Rollout:
        run, options = self.run, self.first.rollout
        prompts, count = [self.prompt], min(2, options.group_size)
        span = run.act.span(prompts)
        advice = "look at rollout.engine and its options; max_num_seqs is what takes memory"

        def sampled(count: int) -> Rollout:
            with self.part("sample", count, advice):
                seeds = group_seeds(run.config.run.seed, 0, prompts, count)
                return sample(run.act.sampler, prompts, count, seeds, options, span)

        rollout = sampled(count)
        with part_of_a_step("sample"):
            check_rollout(rollout, count, span or run.policy.layout.image, options.engine)
        if self.meter.parts["sample"].seconds < _SHORT_S:
            sampled(min(self.work.most("sample"), _WARM_ROWS))
            while more := self._more("sample", self.work.at_once):
                sampled(more)
        run.act.lend_memory(min(options.sleep, 1))
        return rollout

    def _read(self, rollout: Rollout) -> tuple[Tensor, Forward | None]:
        config, forward, hidden_BSD = self.run.config, None, rollout.hidden_BSD
        if self.paints_elsewhere or is_answered(rollout):
            return torch.empty(0), None
        whose = f"the sampler (ar/ of {config.policy.path}, policy.dtype {config.policy.dtype})"
        if hidden_BSD is None:
            whose = f"the trainer (ar/ of {config.policy.path}, train.dtype {config.train.dtype})"
            with self.part("forward", rollout.batch_size, _FORWARD_ADVICE):
                forward = read_back(self.run.act.forward, rollout)
            hidden_BSD = forward.hidden_BSD
            self._read_more(rollout)
        positions, wide = rollout.tokens_BT.shape[1] + 1, self.run.policy.ar.config.hidden_size
        with part_of_a_step("forward" if forward else "sample"):
            check_hidden(hidden_BSD, (rollout.batch_size, positions, wide), whose)
        return hidden_BSD, forward

    def _read_more(self, rollout: Rollout) -> None:
        """With as many as tell what a step takes; what they say is not looked at."""
        rows, at_once = sequences(rollout), self.run.config.train.micro_batch * self.run.config.train.ranks

        def read(count: int) -> None:
            with self.part("forward", count, _FORWARD_ADVICE):
                self.run.act.forward(rows.take([row % len(rows) for row in range(count)]))

        read(self._rows("forward", at_once))
        while more := self._more("forward", at_once):
            read(more)

    def _painted_and_scored(
        self, hidden_BSD: Tensor, rollout: Rollout
    ) -> tuple[Renders, Mapping[str, Sequence[Score]]]:
        """The pictures, and every reward's verdict on each of them."""
        act, config = self.run.act, self.run.config
        noise, count = Noise(config.render.seed, config.run.seed, 0), rollout.batch_size * self.renders
        if is_answered(rollout):
            return self._answers_scored(rollout, noise)
        advice = (
            f"check that connector/, transformer/, vae/ and scheduler/ of {config.policy.path} belong to one model; "
            "render.micro_batch is what takes memory"
        )
        with self.part("paint", count, advice), finite_outputs(self.run.policy.decoder, config.policy.path):
            renders, waiting = act.paint(hidden_BSD, rollout, noise, "rehearsal", renders=self.renders)

        def painted(count: int) -> None:
            with self.part("paint", count, advice):
                rows = torch.arange(count, device=hidden_BSD.device) % len(hidden_BSD)
                act.pictures(hidden_BSD[rows], range(count))

        if not self.paints_elsewhere:
            painted(self._rows("paint", act.render.micro_batch))
            while more := self._more("paint", act.render.micro_batch):
                painted(more)
        with self.part(
            "guards", rollout.batch_size, f"check that vae/ and image_tokenizer/ of {config.policy.path} fit"
        ):
            describe_pictures(rollout, renders, act.fidelity)
        with self.part("score", count, "look at rewards"):
            by_picture = gather(waiting)
        with part_of_a_step("score"):
            self._refuse_dead(mean_scores(by_picture, renders.per_sample))
        return renders, by_picture

    def _answers_scored(self, rollout: Rollout, noise: Noise) -> tuple[Renders, Mapping[str, Sequence[Score]]]:
        """Nothing is painted."""
        renders, waiting = self.run.act.paint(torch.empty(0), rollout, noise, "rehearsal")
        with self.part("score", rollout.batch_size, "look at rewards"):
            by_answer = gather(waiting)
        with part_of_a_step("score"):
            self._refuse_dead(by_answer)
        return renders, by_answer

    def _refuse_dead(self, by_reward: Mapping[str, Sequence[Score]]) -> None:
        """A reward may fail on one picture now and then; one that fails on both is broken."""
        dead = {name: found for name, found in by_reward.items() if all(one.failed for one in found)}
        self.run.act.watch.check(dead, first=False)
        for name, found in dead.items():
            self.run.tracker.message(f"note: rewards.{name} failed on its first pictures: {found[0].failure}")

    def _valued(self, by_picture: Mapping[str, Sequence[Score]], rollout: Rollout) -> tuple[Scores, Tensor]:
        """Combined scores and advantages of these samples, which stand in turn for all of a step: both may ask for
        whole groups, and for several."""
        run, count = self.run, rollout.batch_size
        prompts = tuple(run.train_prompts[: run.config.data.prompts_per_step])
        step = replace(rollout, prompts=prompts, group_size=self.first.rollout.group_size)
        pictures = len(next(iter(by_picture.values())))
        all_pictures = range(step.batch_size * pictures // count)
        turns = {name: [found[index % pictures] for index in all_pictures] for name, found in by_picture.items()}
        with part_of_a_step("score"):
            scores = run.act.scoring(turns, step)
        with part_of_a_step("update"):
            advantages_PG = self.learner.advantage(by_group(scores.total_B, step), by_group(scores.valid_B, step))
        return scores.first(count), advantages_PG.flatten()[:count].view(1, count)


def _telling_prompts(run: Run) -> list[Prompt]:
    """Of pictures and of questions, where there are both, the first to which most rewards apply."""
    rewards = run.config.rewards.values()
    return [
        max(found[:_LOOKED_THROUGH], key=lambda prompt: sum(one.applies(prompt) for one in rewards))
        for found in kinds_of(run.train_prompts)
    ]


def _work(run: Run, first_step: int) -> Work:
    workers = min((needs.workers for needs in run.act.rewards.needs.values()), default=1)
    return Work.of(run.config, first_step, len(run.eval_prompts), pick_device().type, workers)
