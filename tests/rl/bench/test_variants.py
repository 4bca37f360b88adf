from __future__ import annotations

import pytest

from rl.bench.variants import BASE, CONFIG, VARIANTS, assignment, chosen, configured, words
from rl.process.host import multiplies_bfloat16
from rl.types import UserError


def test_all_or_some_in_the_order_given() -> None:
    assert [one.name for one in chosen(None)] == list(VARIANTS)
    assert [one.name for one in chosen("trl, ours,trl")] == ["trl", "ours"]
    assert BASE in VARIANTS


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("ours,tlr", "--variants: there is no variant 'tlr', did you mean 'trl'? they are ours, trl, trl-vllm"),
        ("verl", "--variants: there is no variant 'verl'; they are ours"),
        (",", "--variants names none; write some of ours,trl"),
    ],
)
def test_a_wrong_name_is_one_sentence(names: str, sentence: str) -> None:
    with pytest.raises(UserError) as told:
        chosen(names)
    assert str(told.value).startswith(sentence)


def test_equal_settings_are_equal() -> None:
    ours, trl = (
        configured(VARIANTS[name], CONFIG, ["train.dtype=bfloat16", "render.steps=2"]) for name in ("ours", "trl")
    )
    assert ours == trl
    assert (ours.policy.dtype, ours.train.dtype, ours.render.steps) == ("float32", "float32", 3)
    assert (ours.anchor, ours.data.eval, ours.tracking.to) == (None, None, ())
    assert ours.kl is not None
    assert (ours.kl.use, ours.kl.options["beta"]) == ("k3", 0.005)
    assert words(ours, "ours") == words(trl, "trl") == "fp32, 3 Euler steps"


def test_best_settings_stand_above_what_is_typed() -> None:
    typed = ["render.steps=3", "train.lr=1e-3", "data.prompts_per_step=4"]
    best = configured(VARIANTS["ours-best"], CONFIG, typed)
    dtype = "bfloat16" if multiplies_bfloat16() else "float32"
    assert (best.policy.dtype, best.train.dtype, best.render.steps) == (dtype, dtype, 1)
    assert (best.train.lr, best.data.prompts_per_step) == (1e-3, 4)
    assert words(best, "ours").endswith(", 1 Euler step, compiled")
    assert words(best, "trl").endswith(", 1 Euler step, decoder compiled")
    assert ("without fp32 master" in words(best, "trl")) == (dtype == "bfloat16")
    assert "master" not in words(best, "ours")
    assert best == configured(
        VARIANTS["trl-best"], CONFIG, ["render.steps=3", "train.lr=1e-3", "data.prompts_per_step=4"]
    )


def test_settings_may_be_a_file(tmp_path) -> None:
    from dataclasses import replace

    preset = tmp_path / "fast.yaml"
    preset.write_text("render: {steps: 1, micro_batch: 7}\n")
    variant = replace(VARIANTS["ours-best"], settings=(str(preset), "render.steps=2"))
    found = configured(variant, CONFIG, ["render.micro_batch=5"])
    assert (found.render.micro_batch, found.render.steps) == (7, 2)


def test_a_worker_is_told_the_whole_configuration() -> None:
    config = configured(VARIANTS["trl-vllm"], CONFIG, [])
    told = assignment(VARIANTS["trl-vllm"], config)
    assert (told.side, told.vllm) == ("trl", True)
    assert "render:" in told.config
