"""Adapters under the trainer: what learns, what is saved, what the reference is; in one process, at every stage."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from policy.lora.adapters import add_lora
from policy.trainable import LanguageModel
from rl.config.schema import TrainConfig
from rl.config.sections.lora import LoraSettings
from rl.learn import TokenTrainer
from rl.trainer.engine import gathered
from rl.types import UserError
from tests.rl.trainer.trainer_case import LAYOUT, PPO, make_batch, make_trainer, tiny_ar, weights

LORA = LoraSettings(rank=4, alpha=8)
STAGES = [(0, "float32"), (1, "float32"), (2, "float32"), (3, "float32"), (1, "bfloat16"), (3, "bfloat16")]
make = partial(make_trainer, lora=LORA, lr=1e-2, micro_batch=4)


@pytest.mark.parametrize(("stage", "dtype"), STAGES)
def test_the_reference_is_the_same_model_without_its_adapters(stage: int, dtype: str) -> None:
    trainer = make(zero_stage=stage, dtype=dtype)
    batch = make_batch(trainer)
    copied = make_trainer(zero_stage=stage, dtype=dtype, micro_batch=4).reference_forward(batch)
    for _ in range(3):
        metrics = trainer.update(batch)
        found = trainer.reference_forward(batch)
        assert found is not None and copied is not None
        assert torch.equal(found.logprobs_BT, copied.logprobs_BT)
        assert torch.equal(found.hidden_BSD, copied.hidden_BSD)
    assert metrics["kl"] > 0.0 and metrics["ratio_deviation"] > 0.0


@pytest.mark.parametrize(("stage", "dtype"), STAGES)
def test_the_base_is_bit_identical_after_three_updates(stage: int, dtype: str) -> None:
    ar = tiny_ar()
    base = {name: value.clone() for name, value in ar.to(getattr(torch, dtype)).state_dict().items()}
    lora = add_lora(ar, LORA)
    config = TrainConfig(lr=1e-2, warmup_steps=0, steps=10, zero_stage=stage, dtype=dtype, lora=LORA)  # type: ignore[arg-type]
    trainer = TokenTrainer(LanguageModel(ar, LAYOUT.image, lora=lora), PPO, config, steps=config.steps)
    batch = make_batch(trainer)
    assert trainer.update(batch)["ratio_deviation"] == 0.0
    for _ in range(2):
        trainer.update(batch)
    merged = dict(trainer.weights().tensors())
    assert merged.keys() == base.keys()
    changed = {name for name, value in merged.items() if not torch.equal(value, base[name])}
    assert changed == {name for name in base if name.endswith("proj.weight")}
    for weight in lora.weights():
        with gathered(weight.parts[0]):
            assert torch.equal(weight.parts[0], base[weight.name]), weight.name


def test_only_adapters_learn_and_all_of_them() -> None:
    ar = tiny_ar()
    trainer = make(ar=ar)
    before = {name: parameter.detach().clone() for name, parameter in ar.named_parameters()}
    batch = make_batch(trainer)
    for _ in range(2):  # what reads has no gradient until what writes is more than zero
        trainer.update(batch)
    changed = {name for name, parameter in ar.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {name for name in before if ".lora_" in name} != set()
    assert all(parameter.grad is None for name, parameter in ar.named_parameters() if name not in changed)


@pytest.mark.parametrize(("stage", "dtype"), STAGES)
def test_a_checkpoint_holds_adapters_alone_and_resumes_bit_equal(tmp_path: Path, stage: int, dtype: str) -> None:
    whole = make(zero_stage=stage, dtype=dtype)
    batch = make_batch(whole)
    for _ in range(2):
        whole.update(batch)
    whole.save(tmp_path)
    expected = [whole.update(batch) for _ in range(2)]
    resumed = make(zero_stage=stage, dtype=dtype)
    resumed.load(tmp_path)
    assert [resumed.update(batch) for _ in range(2)] == expected
    for name, value in weights(resumed).items():
        assert torch.equal(value, weights(whole)[name])
    held = json.loads((tmp_path / "index.json").read_text())
    assert held and all(".lora_" in name for name in held)
    with pytest.raises(UserError, match="no state of '.*' here; resume with the policy it was written with"):
        make_trainer(zero_stage=stage, dtype=dtype).load(tmp_path)


def test_after_the_first_push_only_what_changed_goes_out() -> None:
    trainer = make(lora=LoraSettings(rank=2, targets=("q_proj",)))
    trainer.update(make_batch(trainer))
    stream = trainer.weights()
    assert stream.changing is not None
    whole, changing = dict(stream.tensors()), dict(stream.changing.tensors())
    assert 0 < len(changing) < len(whole)
    assert all(torch.equal(value, whole[name]) for name, value in changing.items())
    base = tiny_ar().state_dict()
    assert {name for name in whole if not torch.equal(whole[name], base[name])} <= changing.keys()
    assert make_trainer().weights().changing is None


@pytest.mark.parametrize("options", [{}, {"zero_stage": 3}, {"lora": LORA}, {"zero_stage": 1, "dtype": "bfloat16"}])
def test_activations_made_again_change_no_gradient(options: dict[str, Any]) -> None:
    found = []
    for recompute in (False, True):
        trainer = make_trainer(gradient_checkpointing=recompute, micro_batch=4, **options)
        batch = make_batch(trainer)
        found.append(([trainer.update(batch) for _ in range(3)], weights(trainer)))
    (kept, left), (made_again, right) = found
    assert kept == made_again
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize(("stage", "dtype"), [(1, "float32"), (2, "float32"), (3, "float32"), (1, "bfloat16")])
def test_states_in_the_machines_memory_take_the_same_steps(stage: int, dtype: str) -> None:
    found = []
    for offload in (None, "cpu"):
        trainer = make_trainer(zero_stage=stage, dtype=dtype, offload_optimizer=offload, micro_batch=4)
        batch = make_batch(trainer)
        found.append(([trainer.update(batch) for _ in range(3)], weights(trainer)))
    for metrics, expected in zip(found[1][0], found[0][0], strict=True):
        assert metrics == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, atol=1e-5 if dtype == "float32" else 2e-3, rtol=1e-2)


def test_a_reference_on_a_visit_says_the_same() -> None:
    objective = dataclasses.replace(PPO)
    staying, visiting = make_trainer(objective=objective), make_trainer(objective=objective, offload_reference="cpu")
    batch = make_batch(staying)
    found, expected = visiting.reference_forward(batch), staying.reference_forward(batch)
    assert found is not None and expected is not None and torch.equal(found.logprobs_BT, expected.logprobs_BT)


def test_a_reference_visits_once_an_update_whatever_the_micro_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    staying, visiting = make_trainer(micro_batch=2), make_trainer(micro_batch=2, offload_reference="cpu")
    visits: list[str] = []

    @contextmanager
    def here() -> Iterator[None]:
        visits.append("came")
        yield
        visits.append("left")

    def loss(*arguments: Any) -> Any:
        visits.append("learns")
        return learn(*arguments)

    learn = visiting._loss
    batch = dataclasses.replace(make_batch(staying), reference_logprobs_BT=None)  # as several ranks get it
    monkeypatch.setattr(visiting, "_reference_here", here)
    monkeypatch.setattr(visiting, "_loss", loss)
    assert [visiting.update(batch) for _ in range(2)] == [staying.update(batch) for _ in range(2)]
    assert visits == ["came", "left", "learns", "learns", "learns"] * 2
    visiting.rehearse(batch)
    assert visits[10:] == ["came", "left", "learns"]
