"""What a worker does in its process, whoever started it: a sampling engine, or a painter with its language model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray

from policy.decoder import Decoder
from policy.folder import read_policy_config, resolve_folder
from policy.prompt import Condition
from rl.acting.engines import make_sampler
from rl.build import decoder_there, load_policy, showing
from rl.cluster.jobs import Painted, PaintJob, RoleName, Sampled, SampleJob, WorkerStart
from rl.cluster.packed import DrawnPictures, PackedRollout
from rl.cluster.references import with_references
from rl.cluster.weights.merge import AdaptersBeside
from rl.cluster.worker.held import HeldWeights
from rl.cluster.worker.replica import DecoderReplica, LanguageModelReplica
from rl.collect import Noise, references_of
from rl.decoder.build import flow_network
from rl.halves.language_model import language_model
from rl.rows import logprobs_apart, read_back
from rl.trainer.answer import frozen
from rl.types import Prompt, Rollout
from rollout.render import RecordingPainter, painted, render_seeds


class SamplerRole:
    """Tokens and log-probs."""

    def __init__(self, start: WorkerStart) -> None:
        config = start.config
        torch.manual_seed(config.run.seed)
        folder = resolve_folder(config.policy.path)
        layout, _ = read_policy_config(folder)
        self._conditions: dict[str, Condition] = {}
        self._engine = make_sampler(config, folder, layout, self._encoded, start.max_prompt_tokens)
        self.weights = HeldWeights.of(start, start.ar, "ar", self._engine)
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
        seconds, packed = time.perf_counter() - started, PackedRollout.of(rollout)
        return Sampled(self.weights.version, self.weights.mismatch, seconds, packed)

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
        self._there, self._showing = decoder_there(config, policy), showing(config, policy)
        self._decoder, self._tokenizer = policy.decoder, policy.image_tokenizer
        replica = LanguageModelReplica(model, self._forward)
        self.weights = HeldWeights.of(start, start.ar, "ar", replica, AdaptersBeside)
        self.decoder_weights = _followed(start, policy.decoder)

    def work(self, version: int | None, job: PaintJob) -> tuple[Painted, NDArray[np.uint8] | DrawnPictures]:
        started, options = time.perf_counter(), self._config.render
        rollout = job.rollout.rollout(with_references(job.rollout.rest.prompts, job.references))
        renders = job.renders or options.renders
        self.weights.hold(version)
        if self.decoder_weights is not None:
            self.decoder_weights.hold(job.decoder)
        forward = read_back(self._forward, rollout)
        hidden_BSD, apart = forward.hidden_BSD, logprobs_apart(forward.logprobs_BT.float().numpy(), rollout)
        del forward
        noise = job.shown or Noise(options.seed, self._config.run.seed, job.step)
        seeds = render_seeds(rollout, seed_mode=noise.shared_by, renders=renders, run_seed=noise.seed, step=noise.step)
        recorder = RecordingPainter(self._decoder) if job.drawn else None
        with self._there(), self._showing() if job.shown else nullcontext():
            parts = painted(
                recorder or self._decoder,
                hidden_BSD,
                seeds,
                renders=renders,
                steps=job.steps or options.steps,
                guidance=options.guidance,
                micro_batch=options.micro_batch,
                references=references_of(rollout) if self._decoder.reference is not None else None,
            )
            pictures = np.concatenate(list(parts))
        returned = self._returned(rollout, pictures[::renders], job.looked_at)
        decoder = None if self.decoder_weights is None else self.decoder_weights.version
        found = Painted(self.weights.version, time.perf_counter() - started, seeds, apart, returned, decoder)
        return found, pictures if recorder is None else DrawnPictures.of(pictures, recorder.trajectory())

    def _returned(
        self, rollout: Rollout, pictures: NDArray[np.uint8], looked_at: Sequence[int]
    ) -> tuple[tuple[int, int], ...]:
        """See :class:`Painted`; ``pictures``: one of each sample."""
        if not looked_at:
            return ((0, 0),) * len(rollout.prompts)
        rows = np.array(looked_at)
        same_NT = self._tokenizer.encode(pictures[rows]) == rollout.tokens_BT[rows]
        of = [same_NT[rows // rollout.group_size == group] for group in range(len(rollout.prompts))]
        return tuple((int(same.sum()), same.size) for same in of)


def _followed(start: WorkerStart, decoder: Decoder) -> HeldWeights | None:
    """The decoder's weights, where it learns."""
    config, trained = start.config, start.config.trained_decoder
    if start.decoder is None or trained is None:
        return None
    network = flow_network(config, trained, decoder)
    decoder.eval()  # adapters that are new too
    return HeldWeights.of(start, start.decoder, "decoder", DecoderReplica(network), AdaptersBeside)


ROLES: dict[RoleName, type[SamplerRole] | type[PainterRole]] = {"sample": SamplerRole, "paint": PainterRole}
