"""One process: updates, schedule, stages, stopping, resuming, weights out, memory."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from policy.ar.forward import image_forward
from rl.algorithm import correction, kl, losses
from rl.algorithm.objective import PolicyObjective
from rl.trainer.schedule import lr_factor
from rl.types import UserError
from tests.rl.trainer.trainer_case import LAYOUT, PPO, make_batch, make_trainer, tiny_ar, weights


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor], **tolerance: float) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance)


def test_an_update_equals_plain_torch_and_reports_it() -> None:
    trainer = make_trainer(micro_batch=4)
    batch = make_batch(trainer)
    metrics = trainer.update(batch)

    ar = tiny_ar()
    optimizer = torch.optim.AdamW(ar.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    out = image_forward(ar, LAYOUT.image, batch.prompt_ids, batch.tokens_BT)
    rows_B = batch.valid_B
    surrogate = losses.grpo(out.logprobs_BT, batch.old_logprobs_BT, batch.advantages_B).loss_BT
    weighted_BT = surrogate * correction.token_tis(batch.old_logprobs_BT, batch.rollout_logprobs_BT).weights_BT
    assert batch.reference_logprobs_BT is not None
    loss = (weighted_BT + kl.k3(out.logprobs_BT, batch.reference_logprobs_BT, beta=0.01).loss)[rows_B].mean()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(ar.parameters(), 1.0).item()
    optimizer.step()

    assert_same(
        weights(trainer), {name: value.detach() for name, value in ar.state_dict().items()}, atol=1e-6, rtol=1e-5
    )
    assert metrics["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert metrics["entropy"] == pytest.approx(out.entropy_BT[rows_B].mean().item(), rel=1e-5)
    assert metrics["lr"] == 1e-3
    assert trainer.version == 1


@pytest.mark.parametrize("precision", [{}, {"dtype": "bfloat16", "zero_stage": 1}])
def test_an_update_without_a_forward_before_it_is_the_same_to_the_last_bit(precision: dict[str, Any]) -> None:
    found = []
    for forgotten in (False, True):
        trainer = make_trainer(micro_batch=4, **precision)
        batch = make_batch(trainer)
        metrics = trainer.update(dataclasses.replace(batch, old_logprobs_BT=None) if forgotten else batch)
        found.append((metrics, weights(trainer)))
    (before, left), (after, right) = found
    assert before == after
    assert after["ratio_deviation"] == 0.0 and after["mismatch"] > 0.0
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_the_first_ratio_is_exactly_one_and_the_second_is_not() -> None:
    trainer = make_trainer(micro_batch=4)
    batch = make_batch(trainer)
    first, second = trainer.update(batch), trainer.update(batch)
    assert first["ratio_deviation"] == 0.0
    assert (first["ratio_mean"], first["ratio_max"], first["clip_fraction"], first["kl"]) == (1.0, 1.0, 0.0, 0.0)
    assert second["ratio_deviation"] > 1e-3
    assert second["kl"] > 0.0


@pytest.mark.parametrize("aggregation", [losses.token_mean, losses.sequence_mean, losses.constant])
def test_the_micro_batch_split_changes_nothing(aggregation: Any) -> None:
    results = []
    for micro_batch in (1, 4, 64):
        trainer = make_trainer(objective=dataclasses.replace(PPO, aggregation=aggregation), micro_batch=micro_batch)
        batch = make_batch(trainer)
        losses_seen = [trainer.update(batch)["loss"] for _ in range(2)]
        results.append((losses_seen, weights(trainer)))
    for losses_seen, tensors in results[1:]:
        assert losses_seen == pytest.approx(results[0][0], rel=1e-5)
        assert_same(tensors, results[0][1], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_stages_agree_with_none(stage: int) -> None:
    results = []
    for zero_stage in (0, stage):
        trainer = make_trainer(zero_stage=zero_stage, micro_batch=2, grad_clip=0.5)
        batch = make_batch(trainer)
        metrics = [trainer.update(batch) for _ in range(2)]
        results.append((metrics, weights(trainer)))
    assert results[0][0][1] == pytest.approx(results[1][0][1], rel=1e-4, abs=1e-6)
    assert_same(results[0][1], results[1][1], atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bfloat16_trains(stage: int) -> None:
    trainer = make_trainer(zero_stage=stage, dtype="bfloat16", micro_batch=2)
    before, batch = weights(trainer), make_batch(trainer)
    first, second = trainer.update(batch), trainer.update(batch)
    assert first["ratio_deviation"] == 0.0
    assert second["policy_loss"] < first["policy_loss"]
    assert any(not torch.equal(before[name], value) for name, value in weights(trainer).items())


def test_bfloat16_without_master_weights_is_refused() -> None:
    with pytest.raises(UserError, match=r"train.zero_stage is 0 with train.dtype bfloat16.*set train.zero_stage to 1"):
        make_trainer(zero_stage=0, dtype="bfloat16")


def test_learning_rate_by_hand() -> None:
    assert [lr_factor(k, 4, 10, "constant") for k in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert lr_factor(0, 0, 4, "cosine") == 1.0
    assert lr_factor(2, 0, 4, "cosine") == pytest.approx(0.5)
    assert lr_factor(3, 0, 4, "cosine") == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi)))
    assert lr_factor(9, 0, 4, "cosine") == pytest.approx(0.0)


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights(stage: int) -> None:
    trainer = make_trainer(zero_stage=stage)
    before, batch = weights(trainer), make_batch(trainer)
    batch.advantages_B[0] = float("nan")
    with pytest.raises(UserError, match=r"update 1: the loss is nan.*version 0.*lower train.lr \(0.001\)"):
        trainer.update(batch)
    assert_same(weights(trainer), before, atol=0.0, rtol=0.0)
    assert trainer.version == 0


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_a_gradient_that_is_not_finite_stops_and_keeps_the_weights(stage: int) -> None:
    # sqrt has an infinite slope at 0, where its own value is fine.
    def spike(logprobs_BT: torch.Tensor, old_BT: torch.Tensor, _: torch.Tensor) -> losses.SurrogateLoss:
        distance_BT = (logprobs_BT - old_BT).clamp(min=0)
        return losses.SurrogateLoss(distance_BT.sqrt(), torch.ones_like(old_BT), old_BT > 0)

    trainer = make_trainer(objective=PolicyObjective(spike, losses.token_mean), zero_stage=stage)
    before, batch = weights(trainer), make_batch(trainer)
    with pytest.raises(UserError, match=r"update 1: the gradient norm is (nan|inf)"):
        trainer.update(batch)
    assert_same(weights(trainer), before, atol=0.0, rtol=0.0)


def test_adam_eps_above_the_gradient_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(eps=10.0)
    assert trainer.update(make_batch(trainer))["adam_eps_too_large"] == 1.0
    assert "train.eps 10 exceeds the gradient's RMS" in caplog.text
    trainer = make_trainer()
    assert trainer.update(make_batch(trainer))["adam_eps_too_large"] == 0.0


def test_no_reference_policy_without_a_kl_term() -> None:
    trainer = make_trainer(objective=PolicyObjective(losses.reinforce, losses.token_mean))
    batch = make_batch(trainer)
    assert batch.reference_logprobs_BT is None
    metrics = trainer.update(batch)
    assert "kl" not in metrics
    assert "correction_clipped" not in metrics
    assert metrics["mismatch_max"] > 0.0


def test_the_reference_policy_stays() -> None:
    trainer = make_trainer()
    batch = make_batch(trainer)
    for _ in range(2):
        trainer.update(batch)
    reference = trainer.reference_forward(batch)
    assert reference is not None
    torch.testing.assert_close(reference.logprobs_BT, batch.reference_logprobs_BT, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("stage", [0, 3])
def test_named_weights_cover_the_state_dict_with_the_tied_head(stage: int) -> None:
    streamed = weights(make_trainer(zero_stage=stage))
    assert "lm_head.weight" in streamed
    assert_same(streamed, dict(tiny_ar().state_dict()), atol=0.0, rtol=0.0)


@pytest.mark.parametrize(("stage", "dtype"), [(0, "float32"), (1, "float32"), (3, "float32"), (1, "bfloat16")])
def test_resuming_is_bit_equal(tmp_path: Path, stage: int, dtype: str) -> None:
    make = partial(make_trainer, zero_stage=stage, dtype=dtype, schedule="cosine", warmup_steps=2, micro_batch=4)
    whole = make()
    batch = make_batch(whole)
    for _ in range(2):
        whole.update(batch)
    whole.save(tmp_path)
    expected = [whole.update(batch) for _ in range(2)]

    resumed = make()
    resumed.load(tmp_path)
    assert resumed.version == 2
    assert [resumed.update(batch) for _ in range(2)] == expected
    assert_same(weights(resumed), weights(whole), atol=0.0, rtol=0.0)


def test_loading_what_does_not_fit_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trainer state here \(trainer.json is missing\)"):
        make_trainer().load(tmp_path)
    (tmp_path / "trainer.json").write_text('{"version": 2, "layout": "1 rank(s), train.zero_stage 0"}')
    with pytest.raises(UserError, match=r"written by another version of easel-rl; resume with that one"):
        make_trainer().load(tmp_path)
    make_trainer(zero_stage=1).save(tmp_path)
    with pytest.raises(UserError, match=r"'ar.model.embed_tokens.weight' has shape \(60, 32\) here and \(70, 32\) in"):
        make_trainer(tiny_ar(vocab=70)).load(tmp_path)
    with pytest.raises(UserError, match=r"no state of 'ar.model.layers.2.self_attn.q_proj.weight' here; resume with"):
        make_trainer(tiny_ar(num_hidden_layers=3)).load(tmp_path)


class _Largest(TorchDispatchMode):
    """Sizes of the tensors that any operation makes, except those shaped like the embedding (weights, gradients)."""

    def __init__(self, weight_shape: torch.Size) -> None:
        super().__init__()
        self.weight_shape, self.numel = weight_shape, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else (out,):
            if (
                isinstance(value, torch.Tensor)
                and value.untyped_storage().nbytes()
                and value.shape != self.weight_shape
            ):
                self.numel = max(self.numel, value.numel())
        return out


def test_memory_of_logprobs_does_not_grow_with_the_text_vocabulary() -> None:
    largest = []
    for vocab in (1_000, 100_000):
        ar = tiny_ar(vocab)
        layout = dataclasses.replace(LAYOUT, vocab_size=vocab, image_start_id=vocab - 32)
        tokens_BT = torch.randint(vocab - 32, vocab, (8, 4))
        with _Largest(ar.lm_head.weight.shape) as seen:
            out = image_forward(ar, layout.image, [(3, 4, 26, 25)] * 8, tokens_BT)
            out.logprobs_BT.sum().backward()
        largest.append(seen.numel)
    assert largest[0] == largest[1]
    assert largest[1] < 8 * 4 * 1_000  # the logits over the small vocabulary would already be larger


def test_updates_and_forwards_tell_their_micro_batches() -> None:
    trainer = make_trainer(micro_batch=2)
    batch = make_batch(trainer)
    told: list[tuple[int, int, str]] = []
    trainer.progress = lambda *far: told.append(far)
    counted = [(done, 3, "micro-batches") for done in (1, 2, 3)]
    trainer.forward(batch)
    assert told == counted
    trainer.reference_forward(batch)
    trainer.update(batch)
    assert told == 3 * counted


@pytest.mark.parametrize(
    "precision", [{"zero_stage": 0}, {"zero_stage": 1}, {"zero_stage": 2, "dtype": "bfloat16"}, {"zero_stage": 3}]
)
def test_a_rehearsed_trainer_learns_as_if_it_had_not_been(precision: dict[str, Any]) -> None:
    found = []
    for rehearsed in (True, False):
        trainer = make_trainer(micro_batch=4, **precision)
        batch = make_batch(trainer)
        trainer.update(batch)
        if rehearsed:
            trainer.rehearse(batch.take([0, 1]))
            trainer.rehearse(batch.take([0, 1, 0, 1, 0]))
        found.append((trainer.update(batch), weights(trainer), trainer.version))
    assert found[0][0] == found[1][0] and found[0][2] == 2
    assert_same(found[0][1], found[1][1], atol=0, rtol=0)


def test_a_rehearsal_refuses_a_gradient_that_is_not_finite() -> None:
    trainer = make_trainer()
    batch = make_batch(trainer)
    with pytest.raises(UserError, match=r"update 1: the loss is nan, so the weights were left at version 0"):
        trainer.rehearse(dataclasses.replace(batch, advantages_B=batch.advantages_B * math.nan))


def test_a_lowered_learning_rate_stays_lowered_after_a_resume(tmp_path: Path) -> None:
    trainer = make_trainer()
    trainer.save(tmp_path)
    assert "lr_scale" not in (tmp_path / "trainer.json").read_text()
    assert trainer.update(make_batch(trainer))["lr"] == 1e-3
    trainer.slow_down(0.5)
    trainer.slow_down(0.5)
    trainer.save(tmp_path)
    resumed = make_trainer()
    resumed.load(tmp_path)
    found = [one.update(make_batch(one))["lr"] for one in (trainer, resumed)]
    assert found == [0.25e-3, 0.25e-3]
    assert all(torch.equal(one, weights(resumed)[name]) for name, one in weights(trainer).items())


def test_groups_that_are_left_out_of_a_batch_weigh_as_much_as_masked_ones() -> None:
    """The same gradient, with fewer rows to compute."""
    found = []
    for left_out in (False, True):
        trainer = make_trainer(micro_batch=4)
        batch = make_batch(trainer)
        kept = batch.valid_B.nonzero()[:, 0].tolist()
        assert 0 < len(kept) < len(batch)
        metrics = trainer.update(batch.take(kept) if left_out else batch)
        found.append((metrics["loss"], metrics["grad_norm"]))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
