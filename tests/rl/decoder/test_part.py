"""The decoder's part of a run: its advantages, old policy, first ratio, and what a rehearsal leaves behind."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy.base import load_decoder
from policy.decoder import Decoder
from rl.algorithm.flow.credit import decoder_advantages
from rl.config.schema import Config
from rl.decoder.build import flow_trainer, trained_decoder
from rl.decoder.part import TrainedDecoder, _check_first, most_apart
from rl.process.ranks import Place
from rl.tracking.stopwatch import Stopwatch
from rl.trainer.team import Team
from rl.types import Experience, Prompt, Renders, RenderScores, Rollout, RunFailure, Scores, UserError

B, K = 3, 2
TOTAL_BK = np.array([[1.0, 0.0], [0.5, 0.7], [0.2, 0.2]], np.float32)


def configured(policy: Path, **decoder: Any) -> Config:
    window = {"sampler": {"use": "cps", "options": {"eta": 0.7, "window": 2}}} if "loss" in decoder else {}
    return Config.model_validate(
        {
            "policy": {"path": str(policy)},
            "trainers": ("decoder",),
            "render": {"renders": K, "steps": 4, **window},
            "train": {"steps": 10},
            "decoder": {"lr": 1e-3, "warmup_steps": 0, "micro_batch": 4, "timesteps": 2, **decoder},
        }
    )


def made(policy: Path, **decoder: Any) -> tuple[TrainedDecoder, Decoder]:
    from rl.algorithm.answers import component

    config = configured(policy, **decoder)
    network = load_decoder(policy, getattr(torch, config.decoder_dtype), "cpu")
    network.sampler = component("decoder_samplers", config.render.sampler)
    trained = config.trained_decoder
    assert trained is not None
    trainer = flow_trainer(config, trained, network, Team(Place()))
    paints = None if trained.old == "live" else "old"
    return trained_decoder(config, trained, network, trainer, paints), network


def experience(decoder: Decoder) -> Experience:
    hidden_BSD = torch.randn(B, 17, decoder.connector[0].in_features, generator=torch.Generator().manual_seed(0))
    rollout = Rollout(
        tuple(Prompt(f"p{index}", "x") for index in range(B)), 1, ((1,),) * B, np.zeros((B, 16), np.int64),
        np.zeros((B, 16), np.float32), tuple(range(B)), 1.0, 0, hidden_BSD=hidden_BSD,
    )  # fmt: skip
    seeds = tuple(range(B * K))
    pictures, trajectory = decoder.draw(hidden_BSD.repeat_interleave(K, 0), seeds, steps=4)
    table = RenderScores(TOTAL_BK, np.ones((B, K), bool))
    scores = Scores({}, TOTAL_BK.mean(1), np.ones(B, bool), TOTAL_BK.mean(1), table)
    return Experience(0, rollout, Renders(pictures, seeds, K, trajectory), scores, None, None, 0, {}, {})


def learned(part: TrainedDecoder, seen: Experience) -> dict[str, float]:
    return part.learn(seen, torch.zeros(B, 1), Stopwatch())


def test_pictures_earn_what_sets_them_apart_from_the_others_of_their_tokens(tiny_policy: Path) -> None:
    part, decoder = made(tiny_policy)
    taught: list[torch.Tensor] = []
    update = part.trainer.update
    part.trainer.update = lambda batch: (taught.append(batch.advantages_N), update(batch))[1]  # type: ignore
    found = learned(part, experience(decoder))
    wanted_BK = decoder_advantages(torch.from_numpy(TOTAL_BK), torch.ones(B, K, dtype=torch.bool))
    assert torch.equal(taught[0].reshape(B, K, 2)[..., 0], wanted_BK)  # two timesteps each
    assert wanted_BK[0, 0] == -wanted_BK[0, 1] > 0 and wanted_BK[2].tolist() == [0, 0]
    assert found["x0_mean_square"] > 0 and found["old_deviation"] == 0 and part.version == 1


@pytest.mark.parametrize("loss", ["nft", "flow_grpo"])
def test_the_first_of_several_updates_meets_the_old_policy_to_the_last_bit(tiny_policy: Path, loss: str) -> None:
    options = {} if loss == "nft" else {"loss": {"use": loss}}
    part, decoder = made(tiny_policy, updates_per_rollout=3, **options)
    each: list[dict[str, float]] = []
    update = part.trainer.update
    part.trainer.update = lambda batch: each.append(update(batch)) or each[-1]  # type: ignore
    learned(part, experience(decoder))
    name = "old_deviation" if loss == "nft" else "ratio_deviation"
    assert [one[name] == 0 for one in each] == [True, False, False]
    assert part.version == 3


def test_a_slow_copy_paints_and_is_the_old_policy(tiny_policy: Path) -> None:
    part, decoder = made(tiny_policy, old="nft_late")
    seen = experience(decoder)
    learned(part, seen)
    part.trainer._copies._copies["old"]._decay = lambda updates: 1.0  # from now on it stays
    learned(part, seen)
    with part.trainer.lent("old"):
        behind = experience(decoder)
    ahead = experience(decoder)
    assert not torch.equal(behind.renders.trajectory.latents, ahead.renders.trajectory.latents)  # type: ignore
    assert learned(part, behind)["old_deviation"] > 0


def test_a_decoder_follows_the_language_model_from_what_it_said_before(tiny_policy: Path) -> None:
    part, decoder = made(tiny_policy, reference=0.1)
    seen = experience(decoder)
    hidden_BSD = seen.rollout.hidden_BSD
    assert hidden_BSD is not None
    part.reread = lambda _: hidden_BSD  # a language model that has not moved
    still = learned(part, seen)
    assert still["old_deviation"] == 0
    part, decoder = made(tiny_policy, reference=0.1)
    seen = experience(decoder)
    plain = learned(part, seen)
    assert still == pytest.approx(plain, rel=1e-5)
    part, decoder = made(tiny_policy, reference=0.1)
    part.reread = lambda _: hidden_BSD + 0.3 * hidden_BSD.flip(0)
    moved = learned(part, seen)
    assert moved["old_deviation"] == pytest.approx(moved["velocity_mse"], rel=1e-5)  # both on the old hidden states
    assert moved["old_deviation"] > 0 and moved["grad_norm"] != plain["grad_norm"]


def test_a_decoder_that_follows_may_begin_at_another_ratio_than_1(tiny_policy: Path) -> None:
    part, decoder = made(tiny_policy, loss={"use": "awm"})
    seen = experience(decoder)
    hidden_BSD = seen.rollout.hidden_BSD
    assert hidden_BSD is not None
    assert learned(part, seen)["ratio_deviation"] == 0
    part, decoder = made(tiny_policy, loss={"use": "awm"})
    seen = experience(decoder)
    part.reread = lambda _: hidden_BSD + 0.3 * hidden_BSD.flip(0)  # a language model that has moved
    assert learned(part, seen)["ratio_deviation"] > 0


def test_a_mean_is_over_all_valid_pictures_whatever_else_is_in_the_loss(tiny_policy: Path) -> None:
    norms = []
    for reference in (0.0, 1e-12):
        part, decoder = made(tiny_policy, reference=reference)
        found = learned(part, experience(decoder))
        assert found["teaching"] == pytest.approx(4 / 6)  # the others weigh in the mean as well
        norms.append(found["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


@pytest.mark.parametrize("loss", ["nft", "flow_grpo"])
def test_in_bfloat16_copies_are_of_the_float32_masters_and_the_first_ratio_is_1(tiny_policy: Path, loss: str) -> None:
    half = {"dtype": "bfloat16", "zero_stage": 1, "ema": 0.99, "updates_per_rollout": 3, "lr": 1e-5}
    part, decoder = made(tiny_policy, **half, **({} if loss == "nft" else {"loss": {"use": loss}}))
    found = [learned(part, experience(decoder)) for _ in range(2)]
    assert all(one["kl_painted"] < 1e-4 for one in found if "kl_painted" in one)
    copies = part.trainer._copies._copies["ema"]
    moved = {name: value for name, value in copies.state().items() if not torch.equal(value, value.bfloat16().float())}
    assert len(moved) > 20  # what bfloat16 would have swallowed
    with part.trainer.lent("ema"):
        assert next(decoder.transformer.parameters()).dtype == torch.bfloat16


def test_a_rehearsal_leaves_nothing_behind(tiny_policy: Path) -> None:
    (part, decoder), (other, twin) = made(tiny_policy), made(tiny_policy)
    part.rehearse(experience(decoder), torch.zeros(B, 1), rows=7)
    assert part.version == 0
    assert learned(part, experience(decoder)) == learned(other, experience(twin))


def test_a_decoder_goes_on_where_it_was_saved_with_its_copies(tiny_policy: Path, tmp_path: Path) -> None:
    part, decoder = made(tiny_policy, old="nft", ema=0.9)
    learned(part, experience(decoder))
    part.save(tmp_path)
    again, twin = made(tiny_policy, old="nft", ema=0.9)
    again.load(tmp_path)
    assert again.version == 1
    assert learned(part, experience(decoder)) == learned(again, experience(twin))
    states = [one.trainer._copies._copies["ema"].state() for one in (part, again)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    (tmp_path / "copies.safetensors").unlink()
    with pytest.raises(UserError, match="copies.safetensors is missing.*this run goes on with old, ema; resume with"):
        again.load(tmp_path)


def test_another_trajectory_than_was_painted_stops_the_run(tiny_policy: Path) -> None:
    part, decoder = made(tiny_policy, loss={"use": "flow_grpo"})
    seen = experience(decoder)
    other = replace(seen, rollout=replace(seen.rollout, hidden_BSD=seen.rollout.hidden_BSD.flip(0)))  # type: ignore
    with pytest.raises(RunFailure, match="nats a number from those that were painted .* it learns from another"):
        learned(part, other)


def test_a_first_ratio_that_is_not_1_stops_the_run() -> None:
    _check_first({"ratio_deviation": 0.0, "kl_painted": 1e-6}, from_painted=True, limit=1e-5)
    _check_first({"ratio_deviation": 0.1}, from_painted=False, limit=1e-5)
    with pytest.raises(RunFailure, match="first update is off by 1e-07 and must be exactly 1: the update computes"):
        _check_first({"ratio_deviation": 1e-7}, from_painted=True, limit=1e-5)
    with pytest.raises(
        RunFailure, match=r"nan nats a number from those that were painted \(at most 1e-05\): it learns"
    ):
        _check_first({"kl_painted": math.nan}, from_painted=True, limit=1e-5)


def test_what_may_lie_between_painting_and_replay_depends_on_the_precision() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [most_apart("float32", cpu), most_apart("float32", gpu), most_apart("bfloat16", gpu)] == [1e-9, 1e-6, 1e-3]
    assert most_apart("bfloat16", cpu) == 1e-3


@pytest.mark.parametrize("updates", [1, 3])
def test_weights_one_step_further_than_those_that_painted_stop_the_run(tiny_policy: Path, updates: int) -> None:
    part, decoder = made(tiny_policy, loss={"use": "flow_grpo"}, updates_per_rollout=updates)
    seen = experience(decoder)
    with torch.no_grad():
        for index, one in enumerate(decoder.transformer.parameters()):
            signs = torch.randn(one.shape, generator=torch.Generator().manual_seed(index)).sign()
            one.add_(1e-3 * signs)  # as far as Adam's first step goes
    with pytest.raises(RunFailure, match=r"from those that were painted \(at most 1e-09\): it learns from another"):
        learned(part, seen)
    assert part.version == 1  # of three: nothing more is learnt from it


def test_the_copy_that_paints_follows_once_a_rollout_and_the_evaluated_one_each_update(tiny_policy: Path) -> None:
    part, decoder = made(tiny_policy, old="nft_late", ema=0.5, updates_per_rollout=3)
    moves: list[tuple[str, int]] = []
    for name, copy in part.trainer._copies._copies.items():
        copy.follow = lambda updates, name=name: moves.append((name, updates)) or 0.0  # type: ignore[method-assign]
    seen = experience(decoder)
    for _ in range(2):
        learned(part, seen)
    assert [updates for name, updates in moves if name == "ema"] == [1, 2, 3, 4, 5, 6]
    assert [updates for name, updates in moves if name == "old"] == [3, 6]
    assert moves[2:4] == [("ema", 3), ("old", 3)]
