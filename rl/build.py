"""Config -> live parts -> a whole run. The only place that wires."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console as RichConsole
from torch import nn

from policy.base import Policy
from policy.export import export
from rewards.pool.pool import RewardPool
from rl.collect import sample, synchronise
from rl.config.schema import Component, Config
from rl.data.prompts import load_prompts
from rl.data.stream import PromptStream
from rl.evaluation.evaluate import load_all
from rl.evaluation.tables import table
from rl.interrupt import Interrupt
from rl.loop import train
from rl.milestones import evaluate_if_due, restore, save
from rl.parts import Run
from rl.registry import resolve
from rl.report.page import write_report
from rl.run_folder import checkpoint
from rl.run_folder.claim import claim_folder
from rl.run_folder.environment import record_environment
from rl.run_folder.records import read_metrics
from rl.tracking.guards import Guards
from rl.tracking.tracker import Tracker
from rl.trainer.trainer import Algorithm, Trainer
from rl.types import Prompt
from rollout.samplers.contract import UpdatableSampler
from rollout.sync import WeightSync

log = logging.getLogger(__name__)
INTERRUPTED = 130
_TABLE_WIDTH = 120


def run(config: Config, resume: bool) -> int:
    """Trains, evaluates, reports. Returns the exit code: 0 done, 130 interrupted after saving a checkpoint."""
    folder = Path(str(config.run.folder))
    claim_folder(config, folder, resume=resume)
    checkpoint.clean(folder)
    saved = checkpoint.latest(folder) if resume else None
    done = saved.step if saved else 0
    if saved and done >= config.train.steps:
        print(f"{folder}: this run is finished ({done} of {config.train.steps} steps); raise train.steps to go on.")
        return 0
    record_environment(folder, sys.argv)
    with live_parts(config, folder, resume_step=done if resume else None) as parts:
        if saved:
            restore(parts, saved)
        _first_sync(parts)
        _replay_guards(parts, done)
        if done == 0:
            parts.guards.check(-1, evaluate_if_due(parts, done=0))
        last = train(parts, done)
        if last < config.train.steps:
            parts.tracker.message(f"stopped after {last} steps; go on with: --resume run.folder={folder}")
            return INTERRUPTED
        if last == 0:
            save(parts, 0)
        export(parts.policy.folder, parts.trainer.named_weights(), folder / "policy")
    _conclude(folder)
    return 0


@contextmanager
def live_parts(config: Config, folder: Path, resume_step: int | None) -> Iterator[Run]:
    """Every part of a run, started; leaving closes them all, whatever happened."""
    torch.manual_seed(config.run.seed)
    train_prompts = load_prompts(config.data.train, "data.train")
    eval_prompts = load_prompts(config.data.eval, "data.eval") if config.data.eval else []
    with ExitStack() as closing, ThreadPoolExecutor(1) as starter:
        tracker = closing.enter_context(Tracker(folder, config.tracking, config.train.steps, resume_step))
        tracker.message(f"{folder}: starting")
        pool = starter.submit(start_rewards, config)  # its processes load while the engines start
        closing.callback(lambda: pool.result().close() if not pool.exception() else None)
        policy = Policy.load(config.policy.path, dtype=config.policy.dtype)
        sampler = start_sampler(config, policy, [*train_prompts, *eval_prompts])
        closing.callback(sampler.close)
        trainer = Trainer(policy.ar, policy.layout, config.train, algorithm(config, policy.decoder.connector))
        policy.decoder.to(trainer.device)
        rewards = pool.result()
        interrupt = closing.enter_context(Interrupt(tracker.message))
        monitors = [name for name, reward in config.rewards.items() if reward.role == "monitor"]
        yield Run(
            config=config,
            folder=folder,
            policy=policy,
            stream=PromptStream(train_prompts, config.data.prompts_per_step, config.run.seed),
            eval_prompts=eval_prompts,
            sampler=sampler,
            sync=WeightSync(sampler, tolerance=config.sync.tolerance, enabled=config.sync.enabled),
            trainer=trainer,
            rewards=rewards,
            combination=component("combinations", config.combine),
            advantage=component("advantages", config.advantage),
            tracker=tracker,
            guards=Guards(config.guards, monitors),
            interrupt=interrupt,
            unproven={name for name in rewards.unprobed if config.rewards[name].role == "train"},
        )


def start_rewards(config: Config) -> RewardPool:
    """Beside one busy process, this one, which samples, paints and updates."""
    return RewardPool(config.rewards, config.reward_pool, other_processes=1)


def start_sampler(config: Config, policy: Policy, prompts: list[Prompt]) -> UpdatableSampler:
    """The configured engine; ``auto`` is vLLM wherever it is installed."""
    engine = config.rollout.engine
    if engine == "auto":
        engine = "vllm" if importlib.util.find_spec("vllm") else "torch"
    longest = max(len(policy.encode_prompt(prompt.text)) for prompt in prompts)
    sampler: UpdatableSampler = resolve("samplers", engine)(
        policy.folder,
        policy.layout,
        encode=policy.encode_prompt,
        seed=config.run.seed,
        dtype=config.policy.dtype,
        max_prompt_tokens=longest,
        **config.rollout.options,
    )
    return sampler


def algorithm(config: Config, connector: nn.Module) -> Algorithm:
    """The loss side of the algorithm's choices, options bound; ``connector`` is what an anchor compares through."""
    return Algorithm(
        surrogate=component("losses", config.loss),
        aggregation=component("aggregations", config.aggregation),
        kl=component("kls", config.kl) if config.kl else None,
        correction=component("corrections", config.correction) if config.correction else None,
        anchor=partial(component("anchors", config.anchor), connector) if config.anchor else None,
    )


def component(kind: str, chosen: Component) -> Any:
    """The function that ``use`` names, with its options bound."""
    return partial(resolve(kind, chosen.use), **chosen.options)


def _first_sync(parts: Run) -> None:
    """Puts the trainer's weights into the engine before anything is sampled from it for real."""
    probe = sample(parts, 0)
    synchronise(parts, probe)


def _replay_guards(parts: Run, done: int) -> None:
    """Baselines of the guards as if the run had never stopped."""
    for evaluation in load_all(parts.folder):
        if evaluation.step == 0 and done > 0:
            parts.guards.check(-1, evaluation.flat())
    parts.guards.replay((row.step, row.metrics) for row in read_metrics(parts.folder) if row.step < done)


def _conclude(folder: Path) -> None:
    """The table before/after and the page."""
    evaluations = load_all(folder)
    if len(evaluations) > 1:
        # a file or a pipe counts as 80 columns, where the intervals would be folded
        console = RichConsole() if sys.stdout.isatty() else RichConsole(width=_TABLE_WIDTH)
        console.print(table(evaluations[0], evaluations[-1]))
    print(f"report: {write_report(folder)}")
