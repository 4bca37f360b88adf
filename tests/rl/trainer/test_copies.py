"""The base beside the weights of now, whole or cut up."""

from __future__ import annotations

import pytest
import torch

from rl.trainer.copies import kept
from tests.rl.trainer.trainer_case import make_batch, make_trainer, weights


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_the_base_is_lent_and_the_weights_of_now_come_back(stage: int) -> None:
    trainer = make_trainer(zero_stage=stage)
    batch = make_batch(trainer)
    base = kept(dict(trainer._trainable.module.named_parameters()))
    first = trainer.forward(batch).logprobs_BT
    trainer.update(batch)
    then, now = trainer.forward(batch).logprobs_BT, weights(trainer)
    assert not torch.equal(first, then)
    with base():
        assert torch.equal(trainer.forward(batch).logprobs_BT, first)
    assert torch.equal(trainer.forward(batch).logprobs_BT, then)
    assert all(torch.equal(value, now[name]) for name, value in weights(trainer).items())
    trainer.update(batch)
    with base():
        assert torch.equal(trainer.forward(batch).logprobs_BT, first)
