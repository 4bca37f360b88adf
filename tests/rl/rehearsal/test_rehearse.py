"""A real run of a tiny policy, its parts broken one at a time: each is a sentence, and a rehearsal leaves no trace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC
from torch import Tensor

from policy.shapes.model import make_vae
from rewards.pool.alongside import rewards_starting
from rl.build import live_parts
from rl.config.load import load_with_origins
from rl.config.sections.schedule import ScheduleConfig
from rl.parts import Run
from rl.preflight.prompts import check_data
from rl.process.interrupt import Interrupt
from rl.rehearsal.estimate import StepWork, Work
from rl.rehearsal.meter import Measured, Meter
from rl.rehearsal.rehearse import _Rehearsal, rehearse
from rl.run_folder.random_state import rng_state
from rl.types import Experience, Rollout, RunFailure, Sample, UserError
from tests.rl.run_case import write_config

HERE = "tests.rl.rehearsal.test_rehearse"


def small_only(samples: Sequence[Sample]) -> list[float]:
    """A reward that was written for other pictures."""
    for sample in samples:
        if sample.picture.shape[0] >= 64:
            raise ValueError(f"pictures of 32 x 32 are wanted, got {sample.picture.shape[0]}")
    return [0.5 for _ in samples]


@pytest.fixture(scope="module")
def run(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("rehearsed")
    rewards = {"ink": {"use": "tests.rl.run_case:ink"}, "other": {"use": f"{HERE}:small_only", "role": "monitor"}}
    config, _ = load_with_origins(str(write_config(folder, tiny_policy, rewards=rewards)), [])
    with (
        rewards_starting(config) as starting,
        live_parts(config, folder / "run", check_data(config), None, starting, Interrupt()) as parts,
    ):
        yield parts


@pytest.fixture
def told(run: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(run.tracker, "message", said.append)
    return said


def refused(run: Run) -> str:
    with pytest.raises(UserError) as found:
        rehearse(run, 0)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_a_rehearsal_measures_every_part_and_leaves_no_trace(run: Run, told: list[str]) -> None:
    trainer: Any = run.learner.parts["ar"].trainer  # type: ignore[attr-defined]
    before = {name: value.clone() for name, value in trainer.weights().tensors()}
    states = (
        rng_state(),
        trainer.version,
        run.act.sampler.version,
        set(run.act.watch.unprobed),
        vars(run.guards).copy(),
    )
    stepped = json.dumps(trainer._engine.optimizer.state_dict(), default=str)
    rehearse(run, 0)
    after = dict(trainer.weights().tensors())
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in trainer._parameters)
    assert json.dumps(trainer._engine.optimizer.state_dict(), default=str) == stepped
    now = (rng_state(), trainer.version, run.act.sampler.version, set(run.act.watch.unprobed), vars(run.guards).copy())
    assert states == now
    failing, measured = told
    assert failing.startswith("note: rewards.other failed on its first pictures: ")
    assert "pictures of 32 x 32 are wanted, got 64" in failing
    for stage in ("sample", "paint", "guards", "score", "update"):
        assert f"{stage} " in measured
    assert "a step takes about" in measured and "6 steps and 3 evaluations about" in measured


def test_a_cheap_part_and_a_long_one_are_measured_with_a_whole_micro_batch(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearse(run, 0)
    assert "paint 12 in " in told[-1] and "update 5 in " in told[-1] and "sample 12 in " in told[-1]  # all are cheap
    monkeypatch.setattr("rl.rehearsal.rehearse._CHEAP_S", 0.0)
    monkeypatch.setattr("rl.rehearsal.rehearse._WARM_ROWS", 3)
    rehearse(run, 0)
    assert "paint 3 in " in told[-1] and "update 3 in " in told[-1] and "sample 3 in " in told[-1]
    monkeypatch.setattr("rl.rehearsal.rehearse._LONG_S", 0.0)
    monkeypatch.setattr("rl.rehearsal.rehearse._SHORT_S", 0.0)
    rehearse(run, 0)
    assert "paint 12 in " in told[-1]  # all pictures of a step: a micro-batch would hold 64
    assert "update 5 in " in told[-1] and "sample 2 in " in told[-1]
    several = run.config.model_copy(update={"train": run.config.train.model_copy(update={"ranks": 2})})
    monkeypatch.setattr(run, "config", several)
    monkeypatch.setattr(run.act, "render", run.act.render.model_copy(update={"micro_batch": 4}))
    rehearse(run, 0)
    assert "paint 4 in " in told[-1] and "update 10 in " in told[-1]  # a micro-batch for each of the ranks


def test_reading_back_is_measured_as_a_step_does_it(run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.act.sampler.sample

    def tokens_alone(*args: Any, **options: Any) -> Rollout:
        return replace(whole(*args, **options), hidden_BSD=None)

    monkeypatch.setattr(run.act.sampler, "sample", tokens_alone)
    rehearse(run, 0)
    assert "forward 5 in " in told[-1]  # a micro-batch, as of the update; two rows are five times as dear


def test_a_finished_run_learns_nothing_more_in_a_rehearsal(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(type(run.learner.parts["ar"]), "rehearse")
    rehearse(run, run.config.train.steps)
    assert "update" not in told[-1] and "1 evaluation take" in told[-1].replace("takes", "take")


def test_a_sampler_that_gives_too_few_tokens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.act.sampler.sample

    def short(*args: Any, **options: Any) -> Rollout:
        rollout = whole(*args, **options)
        return replace(rollout, tokens_BT=rollout.tokens_BT[:, :5], logprobs_BT=rollout.logprobs_BT[:, :5])

    monkeypatch.setattr(run.act.sampler, "sample", short)
    assert refused(run) == (
        "before the first step, while sampling: rollout.engine: 'torch' gave tokens of shape (2, 5) for 2 samples of "
        "16 tokens; it must give (2, 16)"
    )


def test_a_sampler_that_gives_words(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.act.sampler.sample

    def words(*args: Any, **options: Any) -> Rollout:
        rollout = whole(*args, **options)
        return replace(rollout, tokens_BT=np.full_like(rollout.tokens_BT, 3))

    monkeypatch.setattr(run.act.sampler, "sample", words)
    assert "'torch' gave token ids from 3 to 3; those of a picture are " in refused(run)


def test_hidden_states_that_are_not_finite(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.act.sampler.sample

    def broken(*args: Any, **options: Any) -> Rollout:
        rollout = whole(*args, **options)
        assert rollout.hidden_BSD is not None
        rollout.hidden_BSD[1, 3, 7] = torch.nan
        return rollout

    monkeypatch.setattr(run.act.sampler, "sample", broken)
    assert refused(run) == (
        f"before the first step, while sampling: the hidden states of the sampler (ar/ of {run.config.policy.path}, "
        "policy.dtype float32) hold NaN or infinity, and no picture comes of that: restore the weights, or use float32"
    )


@pytest.mark.parametrize(
    ("seconds", "rows", "at_once", "expected"),
    [
        (0.08, 16, 256, 256),  # 1.28 s for all that are sampled at one time
        (0.08, 16, 1000, 384),  # no more than a step has
        (0.2, 16, 256, 64),  # 3.2 s by these few: first .8 s for four times as many
        (0.4, 64, 256, 256),  # which share what is fixed: 1.6 s
        (0.6, 16, 256, 0),  # 2.4 s even for those
        (0.08, 16, 16, 0),  # done already
    ],
)
def test_what_is_cheap_is_measured_as_a_step_does_it(
    run: Run, seconds: float, rows: int, at_once: int, expected: int
) -> None:
    step = StepWork(384, 384, frozenset({"update"}))
    work = Work({step: 1}, evaluations=0, held_out=0, at_once=256, device="cpu", reward_workers=1)
    meter = Meter({"update": Measured(seconds, rows, 0)})
    assert _Rehearsal(run, run.learner, meter, work, run.train_prompts[0])._more("update", at_once) == expected


def a_narrow_vae() -> AutoencoderDC:
    """Of 16 latent channels, in itself whole."""
    config = dict(make_vae().config) | {"latent_channels": 16, "decoder_block_out_channels": (16, 16, 32, 64, 64)}
    return AutoencoderDC.from_config(config).eval().requires_grad_(False)


def test_a_vae_of_other_widths(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.policy.decoder._modules, "vae", a_narrow_vae())  # type: ignore[arg-type]
    message = refused(run)
    assert message.startswith("before the first step, while painting: RuntimeError: ")
    assert f"check that connector/, transformer/, vae/ and scheduler/ of {run.config.policy.path} belong" in message


def test_a_decoder_that_does_not_fit_its_connector(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    other = torch.nn.Sequential(run.policy.decoder.connector[0], torch.nn.GELU(), torch.nn.Linear(192, 80))
    monkeypatch.setitem(run.policy.decoder._modules, "connector", other)
    assert "while painting: RuntimeError: mat1 and mat2 shapes cannot be multiplied" in refused(run)


@pytest.mark.parametrize(
    ("part", "weight_name"),
    [
        ("vae/", "vae.decoder.conv_out.conv.weight"),
        ("transformer/", "transformer.proj_out.weight"),
        ("connector/", "connector.0.weight"),
    ],
)
def test_a_decoder_that_answers_nan(part: str, weight_name: str, run: Run) -> None:
    weight = run.policy.decoder.get_parameter(weight_name)
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
        try:
            message = refused(run)
        finally:
            weight.copy_(kept)
    assert message == (
        f"before the first step, while painting: {part} of {run.config.policy.path} answers NaN or infinity, which "
        "would be painted black: restore its weights, or set render.dtype to float32"
    )


def test_an_image_tokenizer_for_pictures_of_another_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grid of tokens that it finds is another one than was sampled."""
    monkeypatch.setattr(run.policy.image_tokenizer, "encode", lambda pictures: np.zeros((len(pictures), 64), np.int64))
    message = refused(run)
    assert (
        "while looking at the pictures: ValueError: sampled tokens (2, 16) and re-tokenised (2, 64) differ" in message
    )
    assert message.endswith(f"check that vae/ and image_tokenizer/ of {run.config.policy.path} fit")


def test_a_reward_that_fails_on_pictures_of_this_size(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.act.watch.roles, "other", "train")  # type: ignore[index]
    message = refused(run)
    assert message.startswith(
        "before the first step, while scoring: rewards.other failed on 2 of 2 samples (reward_pool."
    )
    assert "pictures of 32 x 32 are wanted, got 64" in message


def test_a_loss_that_is_not_finite(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = run.learner.parts["ar"].trainer  # type: ignore[attr-defined]
    aggregation = trainer.objective.aggregation
    monkeypatch.setattr(
        trainer, "objective", replace(trainer.objective, aggregation=lambda mask_BT: aggregation(mask_BT) * torch.inf)
    )
    assert "before the first step, while updating: update 1: the loss is " in refused(run)


def test_a_decoder_that_does_not_fit_into_the_memory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Learning:
        def rehearse(self, *arguments: Any) -> None:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB.")

    monkeypatch.setattr(run.learner, "parts", {**run.learner.parts, "decoder": Learning()})
    with pytest.raises(RunFailure, match="^out of memory in 'decoder', .*2.50 GiB more: lower decoder.micro_batch; "):
        rehearse(run, 0)


def test_networks_that_take_turns_are_measured_apart(
    run: Run, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many renders as the decoder's steps have, and the groups of the language model's."""
    seen: list[tuple[int, int]] = []

    class Learning:
        def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None:
            seen.append((experience.renders.per_sample, rows))

    decoder = {"group_size": 1, "renders": 3}
    changed = {
        "trainers": ("ar", "decoder"),
        "schedule": ScheduleConfig.model_validate({"order": "alternate", "decoder": decoder}),
    }
    monkeypatch.setattr(run, "config", run.config.model_copy(update=changed))
    monkeypatch.setattr(run.learner, "parts", {**run.learner.parts, "decoder": Learning()})
    rehearse(run, 0)
    assert seen == [(3, 2), (3, 3)]  # two samples, then all of the decoder's step: 3 prompts, one sample each
    assert "paint 12 in " in told[-1] and "decoder 9 in " in told[-1]
    assert "a step of the language model takes about" in told[-1] and ", one of the decoder " in told[-1]


def test_an_advantage_that_cannot_be(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked about a step's groups, not about two samples."""
    shapes: list[tuple[int, ...]] = []

    def advantage(rewards_PG: Tensor, valid_PG: Tensor) -> Tensor:
        shapes.append(tuple(rewards_PG.shape))
        raise IndexError("no third reward")

    monkeypatch.setattr(run.learner, "advantage", advantage)
    assert "while updating: IndexError: no third reward" in refused(run)
    assert shapes == [(3, 4)]


def test_an_engine_that_broke_says_so_itself(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **options: Any) -> Rollout:
        raise RunFailure("the engine is gone")

    monkeypatch.setattr(run.act.sampler, "sample", broken)
    with pytest.raises(RunFailure, match="^the engine is gone$"):
        rehearse(run, 0)
