"""A few steps of one run, as ``rl.loop`` takes them, measured stage by stage. ``measure.py`` starts it as a process."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from diffusers import AutoencoderDC, SanaTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from rewards.pool.alongside import rewards_starting
from rl.bench.language_model_work import ModelSizes
from rl.bench.ours import take_step
from rl.build import live_parts
from rl.config.load import load
from rl.config.schema import Config
from rl.milestones import first_weights
from rl.parts import Run
from rl.preflight.memory.planning import memory_of, settled
from rl.preflight.prompts import check_data
from rl.process.host import allow_open_files
from rl.process.interrupt import Interrupt
from rl.tracking.contract import STAGES, Console
from rl.types import Experience, UserError

REST = "rest"
_STAGES_BY_SENTENCE = {told: name for name, told in STAGES.items()}


@dataclass
class StageMeter(Console):
    """Seconds and peak bytes of each stage. The device is waited for where one ends, so none pays for another."""

    seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    _stage: str = REST
    _began: float = field(default_factory=time.perf_counter)

    def stage(self, name: str) -> None:
        _wait()
        now = time.perf_counter()
        self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._began
        self.peak_bytes[self._stage] = max(self.peak_bytes.get(self._stage, 0), _peak_bytes())
        self._stage, self._began = _STAGES_BY_SENTENCE.get(name, name), now

    def begin_step(self) -> None:
        self.stage(REST)
        self.seconds, self.peak_bytes = {}, {}


def measure(config: Config, steps: int) -> dict[str, Any]:
    """What ``measure.py`` puts into a row: JSON. Raises: UserError as a run does."""
    allow_open_files()
    began = time.perf_counter()
    meter = StageMeter()
    train_prompts, eval_prompts = check_data(config)
    prompts = [*train_prompts, *eval_prompts]
    config = settled(config, prompts)
    folder = Path(str(config.run.folder))
    with (
        rewards_starting(config) as rewards,
        live_parts(config, folder, (train_prompts, eval_prompts), None, rewards, Interrupt()) as run,
    ):
        run.tracker.console = meter
        start_s, loaded = time.perf_counter() - began, _allocated_bytes()
        first_weights(run)
        _wait()
        first_sync_s = time.perf_counter() - began - start_s
        experiences = run.collector.collect(0, steps)
        taken = []
        for _ in range(steps):
            meter.begin_step()
            step, experience = take_step(run, experiences)
            meter.stage(REST)
            taken.append({"seconds": step.seconds, "stages": meter.seconds, "peak_bytes": meter.peak_bytes})
        last = taken[-1]
        return {
            "start_s": start_s,
            "first_sync_s": first_sync_s,
            "steps": taken,
            "loaded_bytes": loaded,
            "peak_bytes": max(last["peak_bytes"].values()),
            "estimate_bytes": memory_of(config, prompts).peak,
            "update_flop": update_flop(run, experience),
            "paint_flop": paint_flop(run, experience),
            "pictures": len(experience.renders.pictures),
            "sampler": type(run.act.sampler).__name__,
        }


def update_flop(run: Run, experience: Experience) -> float:
    """Of the model, as MFU counts them: a backward pass is two forward ones, and what is computed twice counts once."""
    rollout, config = experience.rollout, run.policy.ar.config
    sizes = ModelSizes.of(config, run.policy.layout.num_image_tokens)
    linear = sizes.layers * sum(k * n for k, n in sizes.linear)
    tokens = rollout.batch_size * rollout.tokens_BT.shape[1]
    prompted = sum(map(len, rollout.prompt_ids))
    mean_seen = prompted / len(rollout.prompt_ids) + rollout.tokens_BT.shape[1] / 2
    attention = 4 * sizes.layers * config.num_attention_heads * config.head_dim * mean_seen * tokens
    forward = 2 * linear * (tokens + prompted) + 2 * sizes.head[0] * sizes.head[1] * tokens + attention
    return 3.0 * forward


def paint_flop(run: Run, experience: Experience) -> float:
    """Of the decoder alone, counted on models without weights."""
    render, decoder = run.config.render, run.policy.decoder
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counted:
        latents = torch.empty(1, *decoder.latent_shape)
        condition = torch.empty(
            1, experience.rollout.tokens_BT.shape[1] + 1, decoder.transformer.config.caption_channels
        )
        transformer = SanaTransformer2DModel.from_config(decoder.transformer.config)
        transformer(latents, encoder_hidden_states=condition, timestep=torch.empty(1))
        velocity = counted.get_total_flops()
        AutoencoderDC.from_config(decoder.vae.config).decode(latents)
        decoded = counted.get_total_flops() - velocity
    evaluations = render.steps * (1 if render.guidance == 1.0 else 2)
    return float(len(experience.renders.pictures) * (evaluations * velocity + decoded))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak_bytes() -> int:
    """Since the last call; without a GPU what the process holds now."""
    if not torch.cuda.is_available():
        return int(psutil.Process().memory_info().rss)
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak


def _allocated_bytes() -> int:
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else int(psutil.Process().memory_info().rss)


def main(arguments: Sequence[str]) -> int:
    """CONFIG STEPS ANSWER key=value ...: a YAML file, how many steps, and where to write the JSON."""
    config_file, steps, answer, *overrides = arguments
    try:
        found = measure(load(config_file, overrides), int(steps))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Path(answer).write_text(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
