"""References that move: their rules by hand, and what the KL term is then compared with."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from policy.ar.forward import image_forward
from rl.algorithm import kl, losses, reference
from rl.algorithm.copies import Decay
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import MOVING, KLTerm
from rl.config.sections.lora import LoraSettings
from rl.learn import TokenTrainer
from rl.types import TokenBatch, UserError
from tests.rl.trainer.trainer_case import LAYOUT, everything, make_batch, make_trainer, tiny_ar, weights

MOVED = PolicyObjective(
    losses.grpo, losses.token_mean, penalties={"kl": KLTerm(partial(kl.k3, beta=0.1), reference=(MOVING,))}
)


def test_rules_by_hand() -> None:
    assert [reference.fixed(update) for update in (1, 2, 300)] == [1.0, 1.0, 1.0]
    assert [reference.refreshed(update, every=3) for update in range(1, 7)] == [1, 1, 0, 1, 1, 0]
    assert [reference.ema(update, decay=0.9) for update in (1, 2, 300)] == [0.9, 0.9, 0.9]


def started(rule: Decay, **train: Any) -> tuple[TokenTrainer, TokenBatch]:
    trainer = make_trainer(objective=MOVED, copies={MOVING: rule}, lr=0.01, **train)
    return trainer, make_batch(trainer)


@pytest.mark.parametrize(
    "train",
    [
        {},
        {"zero_stage": 2, "micro_batch": 2},
        {"zero_stage": 1, "dtype": "bfloat16"},
        {"lora": LoraSettings(rank=4, alpha=8), "micro_batch": 4},
    ],
    ids=["plain", "zero2", "bfloat16", "lora"],
)
def test_after_a_refresh_nothing_is_left_to_be_pulled_back(train: dict[str, Any]) -> None:
    trainer, batch = started(partial(reference.refreshed, every=2), **train)
    assert trainer.reference_forward(batch) is None  # no frozen copy is kept for nobody
    distances = [trainer.update(batch)["kl"] for _ in range(5)]
    assert [distance == 0 for distance in distances] == [True, False, True, False, True]


def test_a_slow_reference_is_the_average_of_the_weights_so_far() -> None:
    """w0; .75 w0 + .25 w1; .75 of that + .25 w2: by hand, and k3 against a model that has them."""
    trainer, batch = started(partial(reference.ema, decay=0.75))
    average, far = weights(trainer), []
    for _ in range(4):
        model = tiny_ar()
        model.load_state_dict(average)
        with torch.no_grad():
            reference_BT = image_forward(model, LAYOUT.image, batch.prompt_ids, batch.tokens_BT).logprobs_BT
        wanted = kl.k3_values(trainer.forward(batch).logprobs_BT, reference_BT)[batch.valid_B].mean().item()
        far.append(trainer.update(batch)["kl"])
        assert far[-1] == pytest.approx(wanted, rel=1e-3, abs=1e-7)
        average = {name: 0.75 * average[name] + 0.25 * now for name, now in weights(trainer).items()}
    assert far[0] == 0 and min(far[1:]) > 1e-4


def test_the_fixed_reference_stays_for_what_else_compares_with_it() -> None:
    objective, copies = everything()
    trainer, base = make_trainer(objective=objective, copies=copies), make_trainer()
    batch = make_batch(trainer)
    fixed = base.forward(batch)
    for _ in range(3):
        now_BT = trainer.forward(batch).logprobs_BT
        seen = trainer.update(batch)
        drift = (now_BT - fixed.logprobs_BT)[batch.valid_B].square().mean().item() / 2
        assert seen["drift"] == pytest.approx(drift, rel=1e-4, abs=1e-9)
    found = trainer.reference_forward(batch)
    assert found is not None and torch.equal(found.logprobs_BT, fixed.logprobs_BT)
    assert 0 < seen["kl"] < seen["drift"]


@pytest.mark.parametrize("micro_batch", [1, 4])
def test_what_is_carried_along_does_not_depend_on_the_cut_or_the_order(micro_batch: int) -> None:
    results = []
    for size, order in ((64, range(6)), (micro_batch, (5, 2, 0, 4, 1, 3))):
        objective, copies = everything()
        trainer = make_trainer(objective=objective, copies=copies, micro_batch=size)
        batch = make_batch(trainer).take(order)
        results.append(([trainer.update(batch) for _ in range(3)], weights(trainer)))
    (whole, mine), (cut, theirs) = results
    for one, other in zip(whole, cut, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], atol=5e-6, rtol=1e-4)


@pytest.mark.parametrize("train", [{}, {"zero_stage": 1, "dtype": "bfloat16"}, {"lora": LoraSettings(rank=4, alpha=8)}])
def test_a_resumed_trainer_goes_on_bit_for_bit(train: dict[str, Any], tmp_path: Path) -> None:
    results = []
    for resumed in (False, True):
        objective, copies = everything()
        trainer = make_trainer(objective=objective, copies=copies, lr=0.01, **train)
        batch = make_batch(trainer)
        if resumed:
            trainer.load(tmp_path)
        else:
            for _ in range(3):
                trainer.update(batch)
            trainer.save(tmp_path)
        seen = [trainer.update(batch) for _ in range(2)]
        results.append((seen, weights(trainer), trainer.forward(batch, copy="ema").logprobs_BT))
    (kept, mine, slow_BT), (again, theirs, resumed_BT) = results
    assert kept == again and kept[0]["entropy_coefficient"] > 0
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert torch.equal(slow_BT, resumed_BT)


def test_cut_up_weights_have_no_copy_that_moves() -> None:
    with pytest.raises(UserError, match=r"train.zero_stage: 3 cuts .* slow copies of them \(kl_reference\) need the"):
        started(partial(reference.ema, decay=0.9), zero_stage=3)
