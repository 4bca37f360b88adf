"""What a worker does in its process, whoever started it: a sampling engine, or a painter with its language model."""

from __future__ import annotations

import time

import numpy as np
import torch
from numpy.typing import NDArray

from policy.folder import read_policy_config, resolve_folder
from policy.prompt import Condition
from rl.acting.engines import make_sampler
from rl.build import decoder_there, language_model, load_policy
from rl.cluster.jobs import Painted, PaintJob, RoleName, Sampled, SampleJob, WorkerStart
from rl.cluster.weights.merge import AdaptersBeside
from rl.cluster.worker.held import HeldWeights
from rl.cluster.worker.replica import LanguageModelReplica
from rl.collect import references_of
from rl.rows import logprobs_apart, read_back
from rl.trainer.answer import frozen
from rl.types import Prompt
from rollout.render import painted, render_seeds


class SamplerRole:
    """Tokens and log-probs."""

    def __init__(self, start: WorkerStart) -> None:
        config = start.config
        torch.manual_seed(config.run.seed)
        folder = resolve_folder(config.policy.path)
        layout, _ = read_policy_config(folder)
        self._conditions: dict[str, Condition] = {}
        self._engine = make_sampler(config, folder, layout, self._encoded, start.max_prompt_tokens)
        self.weights = HeldWeights.of(start, self._engine)
        if config.rollout.sleep:  # one that comes later finds others at work
            self._engine.sleep(1)

    def work(self, version: int | None, job: SampleJob) -> Sampled:
        started = time.perf_counter()
        self.weights.hold(version)
        self._conditions = {one.id: condition for one, condition in zip(job.prompts, job.conditions, strict=True)}
        rollout = self._engine.sample(
            job.prompts,
            job.group_size,
            job.seeds,
            temperature=job.temperature,
            top_p=job.top_p,
            top_k=job.top_k,
            span=job.span,
        )
        return Sampled(self.weights.version, self.weights.mismatch, time.perf_counter() - started, rollout)

    def sleep(self, level: int) -> None:
        """Until it is asked or gets weights. What it forgets it takes from the store again."""
        self._engine.sleep(level)
        if level == 2:
            self.weights.forget()

    def _encoded(self, prompt: Prompt) -> Condition:
        return self._conditions[prompt.id]


class PainterRole:
    """Pictures. Hidden states are made by a forward of its own and are gone when the pictures are there."""

    def __init__(self, start: WorkerStart) -> None:
        self._config = config = start.config
        torch.manual_seed(config.run.seed)
        policy = load_policy(config)
        model = language_model(config, policy)
        self._forward = frozen(model, config.train)
        self._there = decoder_there(config, policy)
        self._decoder = policy.decoder
        self.weights = HeldWeights.of(start, LanguageModelReplica(model, self._forward), AdaptersBeside)

    def work(self, version: int | None, job: PaintJob) -> tuple[Painted, NDArray[np.uint8]]:
        started, options = time.perf_counter(), self._config.render
        self.weights.hold(version)
        forward = read_back(self._forward, job.rollout)
        hidden_BSD, apart = forward.hidden_BSD, logprobs_apart(forward.logprobs_BT.float().numpy(), job.rollout)
        del forward
        seed = self._config.run.seed
        seeds = render_seeds(job.rollout, seed_mode=options.seed, renders=options.renders, run_seed=seed, step=job.step)
        with self._there():
            parts = painted(
                self._decoder,
                hidden_BSD,
                seeds,
                renders=options.renders,
                steps=options.steps,
                guidance=options.guidance,
                micro_batch=options.micro_batch,
                references=references_of(job.rollout) if self._decoder.reference is not None else None,
            )
            pictures = np.concatenate(list(parts))
        return Painted(self.weights.version, time.perf_counter() - started, seeds, apart), pictures


ROLES: dict[RoleName, type[SamplerRole] | type[PainterRole]] = {"sample": SamplerRole, "paint": PainterRole}
