"""Compiled layers under the trainer: on-policy as plain ones are, and bit-equal when gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from policy.ar.layers import LayerHalves
from policy.trainable import LanguageModel
from rl.config.schema import TrainConfig
from rl.learn import TokenTrainer
from tests.rl.trainer.trainer_case import LAYOUT, PPO, make_batch, make_trainer, tiny_ar


def compiled() -> TokenTrainer:
    config = TrainConfig(lr=1e-3, warmup_steps=0, steps=10, micro_batch=6)
    trainable = LanguageModel(tiny_ar(), LAYOUT.image, halves=LayerHalves.compiled())
    return TokenTrainer(trainable, PPO, config, steps=config.steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_begins_on_policy_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole = compiled()
    batch = make_batch(whole)
    plain = make_trainer().update(make_batch(make_trainer()))
    first = whole.update(replace(batch, old_logprobs_BT=None))
    assert first["ratio_deviation"] == 0.0
    assert first["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-3)
    whole.save(tmp_path)
    expected = [whole.update(batch) for _ in range(2)]
    resumed = compiled()
    resumed.load(tmp_path)
    assert [resumed.update(batch) for _ in range(2)] == expected
