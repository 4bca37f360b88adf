"""Supervised runs under ZeRO-3 and with adapters of the decoder: the same lesson, the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from policy.base import Policy
from rl.build import language_model
from rl.config.schema import Config
from rl.data.examples.load import example_stream, load_examples
from rl.process.ranks import Place
from rl.supervised.build import Taught, taught
from rl.supervised.collect import Dataset
from rl.supervised.rows import RowMaker
from rl.trainer.team import Team
from tests.rl.run_case import launch, metrics, write_config
from tests.rl.supervised.test_run import OPTIONS

LORA = {"rank": 4}


def configured(stage: int, **supervised: Any) -> Config:
    train = {"lr": 1e-3, "eps": 1e-5, "warmup_steps": 0, "micro_batch": 4, "zero_stage": stage}
    lora = {"lora": LORA} if supervised.get("decoder_lora") else {}
    return Config(train={**train, **lora}, supervised={"rows_per_step": 6, **supervised})  # type: ignore[arg-type]


def started(config: Config, policy: Policy) -> Taught:
    assert config.supervised
    return taught(config, config.supervised, language_model(config, policy), policy, Team(Place()))


def learnt(folder: Path, scratch: Path, stage: int, **supervised: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
    """(figures of a second update, the weights after it)"""
    config, policy = configured(stage, **supervised), Policy.load(folder)
    assert config.supervised
    one = started(config, policy)
    stream = example_stream(load_examples(config.supervised.examples), 6, 0)
    rows = Dataset(stream, RowMaker(policy, config.supervised, 0), scratch, 0.05, 4)
    found = [one.trainer.update(rows(step).batch) for step in range(2)]  # type: ignore[arg-type]
    weights = {
        f"{part}/{name}": value.clone() for part, one in one.trainer.parts().items() for name, value in one.tensors()
    }
    return found[-1], weights


@pytest.mark.parametrize("supervised", [{}, {"decoder_lora": LORA}], ids=["whole", "adapters"])
def test_weights_that_are_cut_up_learn_what_whole_ones_do(
    supervised: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    (whole, expected), (cut, found) = (learnt(tiny_policy, tmp_path, stage, **supervised) for stage in (0, 3))
    for name in ("loss", "ce_image", "flow", "grad_norm"):
        assert cut[name] == pytest.approx(whole[name], rel=1e-4), name
    assert found.keys() == expected.keys()
    assert any(name.startswith("decoder/transformer.") for name in found)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=5e-6, rtol=1e-4, msg=name)


def test_adapters_of_the_decoder_become_its_weights(tiny_policy: Path, tmp_path: Path) -> None:
    """The weights that go out paint as the adapters do; what has none stays to the last bit."""
    config, policy, base = configured(0, decoder_lora=LORA), Policy.load(tiny_policy), Policy.load(tiny_policy)
    assert config.supervised
    one = started(config, policy)
    adapters = [value for name, value in policy.decoder.transformer.named_parameters() if ".lora_" in name]
    assert adapters and all(value.requires_grad for value in adapters)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in adapters:
            value.copy_(0.05 * torch.randn(value.shape, generator=generator))
    merged = {
        name.removeprefix("transformer."): value
        for name, value in one.trainer.parts()["decoder"].tensors()
        if name.startswith("transformer.")
    }
    before = base.decoder.transformer.state_dict()
    assert merged.keys() == before.keys()
    changed = {name for name, value in merged.items() if not value.equal(before[name])}
    assert changed and all(".attn" in name and ".to_" in name for name in changed)
    shape = (2, *policy.decoder.latent_shape)
    states, hidden_BSD = (
        torch.randn(one, generator=generator) for one in (shape, (2, 17, policy.ar.config.hidden_size))
    )
    asked = states, torch.tensor([300.0, 700.0]), hidden_BSD
    with torch.no_grad():
        by_adapters = policy.decoder.velocity(*asked)
        assert (by_adapters - base.decoder.velocity(*asked)).abs().max() > 1e-2
        base.decoder.transformer.load_state_dict(merged)
        torch.testing.assert_close(base.decoder.velocity(*asked), by_adapters, atol=1e-5, rtol=1e-4)
    assert set(one.trainer.adapters()) == {"ar", "decoder"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("supervised", [{}, {"decoder_lora": LORA}], ids=["whole", "adapters"])
def test_two_ranks_with_weights_that_are_cut_up_do_what_one_process_does(
    supervised: dict[str, Any], tiny_policy: Path, tmp_path: Path
) -> None:
    """And one process goes on with their checkpoint."""
    train = {name: value for name, value in OPTIONS["train"].items() if name != "ema"} | {"eps": 1e-5}
    if supervised:
        train["lora"] = LORA
    changes = {
        **OPTIONS,
        "train": train,
        "supervised": {**OPTIONS["supervised"], **supervised},
        "eval": {"every": 0, "grid": 4},
    }
    for name, extra in (("one", []), ("two", ["train.ranks=2", "train.zero_stage=3"])):
        (tmp_path / name).mkdir()
        done = launch(write_config(tmp_path / name, tiny_policy, **changes), *extra)
        assert done.returncode == 0, done.stderr
    same(tmp_path / "two" / "run", tmp_path / "one" / "run")
    for folder in ("adapter", "adapter-decoder") if supervised else ():
        assert (tmp_path / "two" / "run" / folder / "adapter_model.safetensors").is_file()
    for later in ("checkpoints/step-000005", "policy"):
        shutil.rmtree(tmp_path / "two" / "run" / later)
    resumed = launch(tmp_path / "two" / "run" / "config.yaml", "--resume", "train.ranks=1")
    assert resumed.returncode == 0, resumed.stderr
    same(tmp_path / "two" / "run", tmp_path / "one" / "run")


def same(found: Path, expected: Path) -> None:
    """Figures of the steps, what is painted, and the policies."""
    mine, theirs = ([row for _, row in metrics(run)] for run in (found, expected))
    assert len(mine) == len(theirs) == 5
    for one, other in zip(mine, theirs, strict=True):
        for name in ("loss", "ce_image", "ce_text", "flow", "head/place"):
            assert one[name] == pytest.approx(other[name], rel=2e-4), name
    assert mine[-1]["eval/ink/overall"] == pytest.approx(theirs[-1]["eval/ink/overall"], rel=1e-4)
    for part in ("ar", "connector", "transformer"):
        own, other_one = (load_file(next((run / "policy" / part).glob("*.safetensors"))) for run in (found, expected))
        for name, value in other_one.items():
            torch.testing.assert_close(own[name], value, atol=5e-5, rtol=1e-4, msg=name)
