"""The first half of a step: prompts -> tokens -> hidden states -> pictures -> scores, one function each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.decoder import References
from rewards.combine import FailureBudget
from rewards.golden import check_varied
from rewards.pool.pool import RewardPool
from rewards.pool.submission import Submission, gather
from rewards.scoring import Scoring, mean_scores
from rl.answers.answering import Shown, WordAnswers, by_kind, is_answered, kinds_of
from rl.config.schema import Config, RenderConfig, RewardComponent, RolloutConfig
from rl.config.sections.schedule import ScheduleConfig
from rl.described.step import agreements, by_task, describe_pictures, describe_scores, detail_means, of_both
from rl.evaluation.variance import split_metrics
from rl.process.progress import Progress, untold
from rl.rows import read_back, sequences
from rl.tracking.contract import ANSWER, ZERO_STD
from rl.tracking.guards.pictures import Fidelity, grid_pattern
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, Forward, Prompt, Renders, Rollout, Sample, Score, Scores, Sequences, Span, UserError
from rollout.render import Painter, RecordingPainter, SeedMode, painted, render_seeds
from rollout.samplers.contract import Sampler
from rollout.seeds import group_seeds


@dataclass(frozen=True)
class Noise:
    """Where the decoder's noise comes from: who shares it, and the seed and step that it is derived from."""

    shared_by: SeedMode
    seed: int
    step: int


class RewardsFailed(UserError):
    """What the rewards said can't be learnt from, and the weights have no part in it."""


class RewardWatch:
    """Stops a run whose train rewards fail too often, or are constant as long as nothing has shown them alive."""

    def __init__(self, rewards: Mapping[str, RewardComponent], max_failed: float, unprobed: Iterable[str]) -> None:
        """``unprobed``: rewards that had no reference pictures of their own."""
        self.roles = {name: reward.role for name, reward in rewards.items()}
        self.unprobed = {name for name in unprobed if self.roles[name] == "train"}
        self._budget = FailureBudget(max_failed)

    def check(self, by_reward: Mapping[str, Sequence[Score]], *, first: bool) -> None:
        """Raises ``UserError``. ``first``: these are the first pictures of the run."""
        self._budget.check(by_reward, self.roles)
        if first:
            self.unprobed = {name for name in sorted(self.unprobed) if not check_varied(name, by_reward[name])}


@dataclass
class Collect:
    """Prompts in, an :class:`Experience` out. Holds all that acting needs, and of the trainer only ``forward``, which
    is asked where the engine gives no hidden states.
    """

    sampler: Sampler
    forward: Callable[[Sequences], Forward]
    painter: Painter
    rewards: RewardPool
    scoring: Scoring
    fidelity: Fidelity
    watch: RewardWatch
    rollout: RolloutConfig
    render: RenderConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """Whose step it is, with how many samples and renders."""
    reference: Callable[[Sequences], Forward | None] | None = None
    """The frozen reference policy, asked while the rewards are at work: nothing that it says depends on scores."""
    grid_period: int | None = None
    """Pixels between two latents of a decoder that learns; its pictures are looked at for a pattern of that width."""
    painting: Callable[[], AbstractContextManager[object]] = nullcontext
    """Around each painting; brings the decoder where it works, and away again."""
    drawing: Callable[[], AbstractContextManager[object]] | None = None
    """Around the painting of what a decoder learns from: it has the weights that paint it. ``None``: it is frozen."""
    showing: Callable[[], AbstractContextManager[object]] = nullcontext
    """Around the painting of what is evaluated: without the fresh noise that training pictures may get on their way."""
    shown_details: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Reward -> those of its details of which the means are logged."""
    answering: WordAnswers | None = None
    """How questions are answered; ``None``: there are none."""
    sees_references: bool = False
    """The decoder sees the pictures that are to be changed."""
    tell: Callable[[str], None] | None = None
    """Hears of each stage when it begins."""
    progress: Progress = untold
    """Hears how far painting and scoring are."""

    def __call__(
        self, step: int, prompts: Sequence[Prompt], seed: int, *, part: int = 0, group_size: int | None = None
    ) -> Experience:
        """P prompts of this step; every seed is a hash of (run seed, step, prompt, sample). Raises: RewardsFailed.

        ``part``: of a step that is collected in several; ``group_size``: another than the step's own.
        """
        timer = Stopwatch(tell=self.tell)
        group_size = group_size or self.schedule.phase(step).group_size or self.rollout.group_size
        kinds = kinds_of(prompts)
        with timer("sample"):
            rollouts = [self._sampled(step, asked, seed, group_size) for asked in kinds]
            self.nap(step)
        return self.painted_and_scored(step, rollouts[0], seed, timer, part, *rollouts[1:])

    def _sampled(self, step: int, prompts: Sequence[Prompt], seed: int, group_size: int) -> Rollout:
        """Of one kind."""
        seeds = group_seeds(seed, step, prompts, group_size)
        return sample(self.sampler, prompts, group_size, seeds, self.rollout, self.span(prompts))

    def painted_and_scored(
        self,
        step: int,
        rollout: Rollout,
        seed: int,
        timer: Stopwatch,
        part: int = 0,
        answers: Rollout | None = None,
    ) -> Experience:
        """What is left of a step when its tokens are there; ``answers``: beside pictures. Raises: RewardsFailed."""
        name, noise = f"step{step}-{part}" if part else f"step{step}", Noise(self.render.seed, seed, step)
        renders, waiting, forward = self._painted(step, rollout, noise, name, timer)
        if answers is None:
            return self.concluded(step, rollout, renders, waiting, timer, forward)
        shown = self._painted(step, answers, noise, f"{name}-{ANSWER}", timer)
        words = self._judged(step, answers, *shown, timer)
        return self.concluded(step, rollout, renders, waiting, timer, forward, words)

    def _painted(
        self, step: int, rollout: Rollout, noise: Noise, name: str, timer: Stopwatch
    ) -> tuple[Renders, list[Submission], Forward | None]:
        hidden_BSD, forward = self.read(rollout, timer)
        with timer("paint"):
            learnt, count = self.schedule.learns(step, "decoder"), self.schedule.phase(step).renders
            renders, waiting = self.paint(hidden_BSD, rollout, noise, name, learnt_from=learnt, renders=count)
        return renders, waiting, forward

    def concluded(
        self,
        step: int,
        rollout: Rollout,
        renders: Renders,
        waiting: Sequence[Submission],
        timer: Stopwatch,
        forward: Forward | None = None,
        answers: Experience | None = None,
    ) -> Experience:
        """What is left when the pictures of a step are there: the scores, and what the log says of both. ``answers``:
        the words of a step that holds both. Raises: RewardsFailed."""
        found = self._judged(step, rollout, renders, waiting, forward, timer)
        found = replace(found, answers=answers)
        (everything, scores), seen = of_both(found), {**(answers.metrics if answers else {}), **found.metrics}
        metrics = describe_scores(everything, scores, self.rewards) | agreements(everything, scores, self.monitors)
        metrics |= by_task(everything, scores) | seen | detail_means(scores, self.shown_details)
        if "ar" not in self.scoring.trained or not self.schedule.learns(step, "ar"):
            metrics = {name: value for name, value in metrics.items() if not name.startswith(ZERO_STD)}  # told for it
        if (renders_scores := found.scores.renders) is not None:
            metrics["decoder/score"] = renders_scores.score
            metrics |= split_metrics(renders_scores, rollout.group_size, shared_noise=self.render.seed == "group")
        return replace(found, metrics=metrics, seconds=timer.seconds)

    def _judged(
        self,
        step: int,
        rollout: Rollout,
        renders: Renders,
        waiting: Sequence[Submission],
        forward: Forward | None,
        timer: Stopwatch,
    ) -> Experience:
        """Of one kind, with what the guards see of it."""
        with timer("forward"):
            reference = self.refer(step, rollout)
        with timer("guards"):
            metrics = describe_pictures(rollout, renders, self.fidelity)
            if self.grid_period is not None and not is_answered(rollout):
                metrics["guard/grid_pattern"] = grid_pattern(renders.one_each, self.grid_period)
        with timer("score"):
            scores = self._scored(waiting, rollout, first=step == 0)
        return Experience(step, rollout, renders, scores, forward, reference, rollout.version, metrics, timer.seconds)

    @property
    def monitors(self) -> list[str]:
        return [name for name, one in self.scoring.components.items() if one.role == "monitor"]

    @property
    def trained(self) -> list[str]:
        return [name for name, one in self.scoring.components.items() if one.role == "train"]

    def refer(self, step: int, rollout: Rollout) -> Forward | None:
        """What the reference policy says, if it is asked here."""
        asked = self.reference if self.schedule.learns(step, "ar") else None
        return None if asked is None else asked(sequences(rollout))

    def _scored(self, waiting: Sequence[Submission], rollout: Rollout, *, first: bool) -> Scores:
        try:
            scores = self.scoring(gather(waiting, self.progress), rollout)
            self.watch.check(scores.by_reward, first=first)
        except UserError as error:
            raise RewardsFailed(str(error)) from error.__cause__  # of which the traceback is kept, if any
        return scores

    def held_out(
        self, name: str, prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int], seed: int
    ) -> Shown:
        """One picture and its scores for each of P * k samples, with noise that depends on the sample alone. Answers
        come with the pictures that they are about."""

        def show(asked: Sequence[Prompt], sampled_with: Sequence[int]) -> Shown:
            return self.shown(name, *self.written(asked, samples_per_prompt, sampled_with), seed)

        return by_kind(prompts, samples_per_prompt, seeds, show)

    def written(
        self, prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[Rollout, Tensor]:
        """The first half of that: tokens, and the hidden states that are painted."""
        timer = Stopwatch(tell=self.tell)
        with timer("sample"):
            rollout = sample(self.sampler, prompts, samples_per_prompt, seeds, self.rollout, self.span(prompts))
            self.lend_memory(min(self.rollout.sleep, 1))  # no new weights will come before it is asked again
        return rollout, self.read(rollout, timer)[0]

    def shown(
        self, name: str, rollout: Rollout, hidden_BSD: Tensor, seed: int, steps: int | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, list[Score]]]:
        """The second half, with the decoder's weights of now. ``steps``: others than ``render.steps``."""
        timer = Stopwatch(tell=self.tell)
        with timer("paint"), self.showing():
            noise = Noise("sample", seed, 0)
            renders, waiting = self.paint(hidden_BSD, rollout, noise, name, learnt_from=False, steps=steps)
        with timer("score"):
            return renders.one_each, mean_scores(gather(waiting, self.progress), renders.per_sample)

    def pictures(self, hidden_BSD: Tensor, seeds: Sequence[int]) -> NDArray[np.uint8]:
        """One picture of each sequence, all at one time; nobody scores them."""
        with self.painting():
            return self.painter.paint(hidden_BSD, seeds, steps=self.render.steps, guidance=self.render.guidance)

    def paint(
        self,
        hidden_BSD: Tensor,
        rollout: Rollout,
        noise: Noise,
        name: str,
        *,
        learnt_from: bool = True,
        steps: int | None = None,
        renders: int | None = None,
    ) -> tuple[Renders, list[Submission]]:
        """``learnt_from``: by the decoder too, if it learns; its way to each picture is then kept. ``steps``,
        ``renders``: others than those of ``render``. Answers in words are not painted."""
        if self.answering is not None and is_answered(rollout):
            return self.answering.renders(rollout), [self.rewards.submit(self.answering.samples(rollout, name))]
        told = {"steps": steps, "renders": renders}
        options = self.render.model_copy(update={name: count for name, count in told.items() if count is not None})
        seen = references_of(rollout) if self.sees_references else None
        if self.drawing is None or not learnt_from:
            with self.painting():
                return paint(self.painter, hidden_BSD, rollout, options, noise, self.rewards, name, self.progress, seen)
        recorder = RecordingPainter(self.painter)
        with self.painting(), self.drawing():
            drawn, waiting = paint(
                recorder, hidden_BSD, rollout, options, noise, self.rewards, name, self.progress, seen
            )
        return replace(drawn, trajectory=recorder.trajectory()), waiting

    def nap(self, step: int) -> None:
        """Until the step's update brings the sampler new weights, if it does."""
        level = self.rollout.sleep
        self.lend_memory(level if self.schedule.learns(step, "ar") else min(level, 1))

    def lend_memory(self, level: int) -> None:
        """The sampler is not asked again before the rewards have spoken."""
        if level:
            self.sampler.sleep(level)

    def span(self, prompts: Sequence[Prompt]) -> Span | None:
        """What is sampled after these, which are of one kind; ``None``: pictures."""
        return None if self.answering is None else self.answering.span(prompts)

    def read(self, rollout: Rollout, timer: Stopwatch) -> tuple[Tensor, Forward | None]:
        """What is painted: the engine's own hidden states, or those of a forward, which is then kept."""
        if is_answered(rollout):
            return torch.empty(0), None
        if rollout.hidden_BSD is not None:
            return rollout.hidden_BSD, None
        with timer("forward"):
            forward = read_back(self.forward, rollout)
        return forward.hidden_BSD, forward


def canary_rollout(config: Config, image: Span, act: Collect, prompts: Sequence[Prompt]) -> Rollout:
    """Only as much as a canary asks about."""
    options, sync = config.rollout, config.sync
    count = min(len(prompts), -(-sync.canary // options.group_size))
    asked, group_size = prompts[:count], min(options.group_size, -(-sync.canary // count))
    seeds = group_seeds(config.run.seed, 0, asked, group_size)
    span = image.up_to(sync.canary_tokens)
    return act.sampler.sample(asked, group_size, seeds, temperature=options.temperature, span=span)


def sample(
    sampler: Sampler,
    prompts: Sequence[Prompt],
    group_size: int,
    seeds: Sequence[int],
    options: RolloutConfig,
    span: Span | None = None,
) -> Rollout:
    """P prompts -> P * G token sequences, each from its own seed. ``span``: of what, pictures if ``None``."""
    return sampler.sample(
        prompts,
        group_size,
        seeds,
        temperature=options.temperature,
        top_p=options.top_p,
        top_k=options.top_k,
        span=span,
        hidden=options.hidden_states == "sampler" and span is None,
    )


def paint(
    painter: Painter,
    hidden_BSD: Tensor,
    rollout: Rollout,
    options: RenderConfig,
    noise: Noise,
    rewards: RewardPool,
    name: str,
    progress: Progress = untold,
    references: References | None = None,
) -> tuple[Renders, list[Submission]]:
    """Pictures, k renders of each token sequence side by side. Whole groups go to the rewards as soon as their last
    picture is there, so that scoring goes on while the next ones are painted. ``name`` begins the samples' ids.
    """
    count = options.renders
    seeds = render_seeds(rollout, seed_mode=noise.shared_by, renders=count, run_seed=noise.seed, step=noise.step)
    pictures: list[NDArray[np.uint8]] = []
    submissions: list[Submission] = []
    given, group = 0, rollout.group_size * count
    progress(0, len(seeds), "pictures")
    for part in painted(
        painter,
        hidden_BSD,
        seeds,
        renders=count,
        steps=options.steps,
        guidance=options.guidance,
        micro_batch=options.micro_batch,
        references=references,
    ):
        pictures.extend(part)
        progress(len(pictures), len(seeds), "pictures")
        complete = len(pictures) // group * group
        if complete > given:
            prompts = [rollout.prompt_of(index // count) for index in range(given, complete)]
            submissions.append(
                rewards.submit(
                    [
                        Sample(f"{name}-{index}", prompt.id, prompt, pictures[index])
                        for index, prompt in enumerate(prompts, given)
                    ]
                )
            )
            given = complete
    return Renders(np.stack(pictures), seeds, count), submissions


def references_of(rollout: Rollout) -> References | None:
    """Of each sample, the picture that is to be changed; ``None`` where none holds any."""
    found = [next(iter(rollout.prompt_of(sample).pictures), None) for sample in range(rollout.batch_size)]
    return found if any(found) else None
