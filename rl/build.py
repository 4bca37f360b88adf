"""Config -> the live parts of a run. The only place that wires."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import torch

from policy.base import Policy
from rewards.pool.pool import RewardPool
from rewards.scoring import Scoring
from rl.acting.elsewhere import PaintedElsewhere, read_elsewhere
from rl.acting.outline import outline
from rl.acting.place import Acting, ActingHere
from rl.algorithm.answers import answering, component
from rl.answers.answering import WordAnswers
from rl.collect import Collect, RewardWatch
from rl.collectors import Logged
from rl.config.declared import declarations
from rl.config.schema import Config
from rl.decoder.build import OLD_RULES, flow_trainer
from rl.decoder.part import OLD
from rl.decoder.views import other_weights, start_views
from rl.evaluation.evaluate import pictures_of_tasks
from rl.halves.build import RunTrainers, experience_log, halves, prompt_draws, slow_copy
from rl.halves.language_model import language_model, token_trainer
from rl.learn import Learner
from rl.parts import Run
from rl.process.interrupt import Interrupt
from rl.process.ranks import Place
from rl.supervised.build import taught
from rl.tracking.guards.guards import Guards
from rl.tracking.guards.pictures import Fidelity
from rl.tracking.tracker import Tracker
from rl.trainer.answer import frozen
from rl.trainer.copies import Lending
from rl.trainer.engine import pick_device
from rl.trainer.painting import TeamPainter
from rl.trainer.place import visiting
from rl.trainer.team import Team
from rl.types import Forward, Prompt, Sequences
from rollout.samplers.contract import Sampler

_SHOWN = "shown"
"""The way in which all ranks paint what is evaluated."""


@contextmanager
def live_parts(
    config: Config,
    folder: Path,
    prompts: tuple[Sequence[Prompt], Sequence[Prompt]],
    resume_step: int | None,
    rewards: Future[RewardPool],
    interrupt: Interrupt,
    team: Team = Team(Place()),  # noqa: B008 - one process alone
    acting: Acting | None = None,
) -> Iterator[Run]:
    """Every part of a run, started; leaving closes all but the rewards, whatever happened.

    ``prompts``: training and held-out; ``rewards``: waited for when everything else has been started; ``acting``:
    elsewhere than in this process.
    """
    acting = acting or ActingHere()
    torch.manual_seed(config.run.seed)
    train_prompts, eval_prompts = prompts
    with ExitStack() as closing:
        tracker = closing.enter_context(
            Tracker(folder, config.tracking, config.train.steps, resume_step, config.model_dump(mode="json"))
        )
        interrupt.closing.append(tracker.close)
        tracker.message(f"{folder}: starting")
        tracker.starting(f"policy {config.policy.path}")
        training = acting.training
        policy = load_policy(config) if training is None else outline(config.policy.path, config.train.dtype)
        tracker.starting("sampling engine")
        sampler = acting.start_sampler(config, policy, [*train_prompts, *eval_prompts], team.world)
        closing.callback(sampler.close)
        tracker.starting("trainer")
        trainers = RunTrainers(elsewhere=training.parts) if training else start_trainers(config, policy, team)
        tracker.starting(f"rewards {', '.join(config.rewards)}")
        forward = trainers.forward or (
            read_elsewhere if training else frozen(language_model(config, policy), config.train)
        )
        act = start_collecting(config, policy, sampler, forward, rewards.result())
        if training:
            act = PaintedElsewhere.of(act, training.painters)
        act.tell, act.drawing = tracker.stage, trainers.drawing
        act.showing = trainers.showing(act.showing)
        weights = trainers.others
        if team.world == 1:  # several ask it during the update, each for its own rows
            act.reference = trainers.ar.reference_forward if trainers.ar else None
        else:
            act.painter = painter = shared_painter(config, policy, team, trainers)
            weights = {name: partial(painter.lent, name) for name in weights}
            act.showing = partial(painter.lent, _SHOWN)
            act.render = config.render.model_copy(update={"micro_batch": config.render.micro_batch * team.world})
        sampler.progress = act.progress = tracker.advance
        views = (
            start_views(config, act, weights, eval_prompts)
            if trainers.decoder and eval_prompts and config.eval.parts
            else None
        )
        for trainer in trainers.all:
            trainer.progress = tracker.advance
        draws = None if config.supervised else prompt_draws(config, train_prompts)
        sync = acting.weights_out(config, sampler, sync_tolerance(config, policy.ar.config.num_hidden_layers))
        log = experience_log(config, folder, train_prompts)
        collects = partial(acting.collector, config, act, train_prompts, draws, tracker)
        collector, learner = halves(config, folder, policy, trainers, act, train_prompts, collects, sync, tracker)
        if training and log:
            assert isinstance(learner, Learner)  # the rules say so
            training.repeats(learner, log, tracker.message)
        yield Run(
            config=config,
            folder=folder,
            policy=policy,
            train_prompts=train_prompts,
            eval_prompts=eval_prompts,
            act=act,
            collector=Logged(collector, log, act.refer, tracker.message, draws) if log else collector,
            draws=draws,
            learner=learner,
            tracker=tracker,
            guards=Guards(
                config.guards,
                [name for name, one in config.rewards.items() if one.role == "monitor"],
                config.schedule.steps_of("decoder", config.train.steps),
                pictures_of_tasks(eval_prompts, config.eval.samples_per_prompt),
            ),
            interrupt=interrupt,
            experience=log,
            views=views,
            slow=slow_copy(config, learner.parts),
            elsewhere=training,
        )


def sync_tolerance(config: Config, layers: int) -> float:
    """Nats by which a sampler and a trainer of these precisions may disagree. What bfloat16 rounds away in one layer
    has nothing to do with the next: it adds up like a random walk (28 layers of random weights: up to 0.27 seen).
    """
    if config.sync.tolerance is not None:
        return config.sync.tolerance
    return 1e-3 if config.policy.dtype == config.train.dtype == "float32" else 0.1 * math.sqrt(layers)


def load_policy(config: Config) -> Policy:
    """The language model as it is trained, the decoder as it paints, both where this process computes."""
    render = config.render
    policy = Policy.load(
        config.policy.path, dtype=config.train.dtype, decoder_dtype=config.decoder_dtype, reads=config.policy.reads
    )
    policy.features_dtype = getattr(torch, config.policy.dtype)  # what the sampler reads, the trainer reads as well
    policy.decoder.sampler = component("decoder_samplers", render.sampler)
    if not config.render.offload:
        policy.decoder.to(pick_device())
    policy.image_tokenizer.to(pick_device())
    policy.decoder.put_channels_last()
    if config.policy.compile:
        policy.decoder.compile_networks(transformer=config.trained_decoder is None)
    return policy


def start_collecting(
    config: Config,
    policy: Policy,
    sampler: Sampler,
    forward: Callable[[Sequences], Forward],
    rewards: RewardPool,
) -> Collect:
    """The first half of a step, in this process; ``forward`` asks the trainer's own weights, or frozen ones."""
    return Collect(
        sampler=sampler,
        forward=forward,
        painter=policy.decoder,
        rewards=rewards,
        scoring=Scoring(config.rewards, answering("combinations", "combine", config.combine), config.trainers),
        fidelity=Fidelity(policy.image_tokenizer, config.guards.render_fidelity_share),
        watch=RewardWatch(config.rewards, config.reward_pool.max_failed_fraction, rewards.unprobed),
        rollout=config.rollout,
        render=config.render,
        schedule=config.schedule,
        grid_period=policy.decoder.vae.spatial_compression_ratio if "decoder" in config.trainers else None,
        painting=decoder_there(config, policy),
        showing=showing(config, policy),
        answering=WordAnswers(policy, config.rollout.answer_tokens),
        sees_references=policy.decoder.reference is not None,
        shown_details={name: declarations("rewards", reward.use).shown for name, reward in config.rewards.items()},
    )


def showing(config: Config, policy: Policy) -> Lending:
    """Around the painting of what is evaluated: by the flow's ODE where the sampler has a window of stochastic steps,
    which are for learning."""
    window = declarations("decoder_samplers", config.render.sampler.use).window
    return policy.decoder.by_ode if window else nullcontext


def start_trainers(config: Config, policy: Policy, team: Team) -> RunTrainers:
    """The same on every rank, the language model's first: its anchor keeps a connector that nobody has trained."""
    if config.supervised:
        return RunTrainers(taught=taught(config, config.supervised, language_model(config, policy), policy, team))
    ar = None
    if "ar" in config.trainers:  # a connector of its own: the decoder itself may be on visits only (render.offload)
        ar = token_trainer(config, policy, policy.decoder.connector_in(getattr(torch, config.train.dtype)), team)
    trained = config.trained_decoder
    if trained is None:
        return RunTrainers(ar)
    decoder = flow_trainer(config, trained, policy.decoder, team)
    paints = OLD if trained.old in OLD_RULES else None
    return RunTrainers(ar, decoder, paints, other_weights(config, policy.decoder, decoder))


def shared_painter(config: Config, policy: Policy, team: Team, trainers: RunTrainers) -> TeamPainter:
    others = {**trainers.others, _SHOWN: trainers.showing(showing(config, policy))}
    return TeamPainter(policy.decoder, team, decoder_there(config, policy), trainers.drawing or nullcontext, others)


def decoder_there(config: Config, policy: Policy) -> Callable[[], AbstractContextManager[object]]:
    """Around painting: the decoder is where it works, and leaves again if its memory is lent."""
    return partial(visiting, policy.decoder, pick_device()) if config.render.offload else nullcontext
