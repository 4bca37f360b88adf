"""What the memory of a supervised run is made of, by hand; micro-batches that were left to us."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policy.folder import resolve_folder
from rl.config.schema import Config
from rl.preflight.memory import decoder, parts, planning
from rl.preflight.memory.estimate import MemoryEstimate
from rl.preflight.memory.planning import found_by, memory_of, plan_of, settled
from rl.preflight.memory.sizes import PolicySize
from rl.preflight.memory.supervised import taught_plan
from rl.types import Prompt, UserError

PROMPTS = [Prompt("a", "two red circles on a table of wood")]


def configured(policy: Path, train: dict[str, Any] | None = None, **supervised: Any) -> Config:
    return Config(
        policy={"path": str(policy)},  # type: ignore[arg-type]
        rollout={"engine": "torch"},  # type: ignore[arg-type]
        train={"micro_batch": 4, **(train or {})},  # type: ignore[arg-type]
        supervised={"rows_per_step": 6, **supervised},  # type: ignore[arg-type]
    )


def estimated(config: Config, held_out: int = 0) -> MemoryEstimate:
    return memory_of(config, PROMPTS, "cpu", held_out=held_out)


def test_every_item_by_hand(tiny_policy: Path) -> None:
    size = PolicySize.read(resolve_folder(tiny_policy))
    ar, flow = size.ar.parameters, size.decoder
    learns = ar + flow.connector + flow.transformer
    config = configured(tiny_policy)
    found = estimated(config)
    assert dict(found.held) == {
        "process": 640_000_000,
        "trainer's weights": 4 * ar,
        "decoder": 4 * flow.parameters,
        "AdamW states": 8 * learns,
        "sampler's weights": 4 * ar,
        "image tokenizer": size.image_tokenizer.weights,
        "rows": 6 * (flow.pixels * 3 + 3 * flow.latent_numbers * 4),
    }
    assert config.supervised
    taught = taught_plan(config, config.supervised, tiny_policy, size, plan_of(config, size, PROMPTS, "cpu"), 0)
    assert taught.flow and (taught.plan.micro_batch, taught.rows, taught.plan.group_size) == (4, 6, 1)
    update = found.phases["update"]
    assert update["gradients"] == 4 * learns
    assert update["activations of the language model"] == parts.activations(taught.plan, size, 4)
    assert update["activations of the decoder"] == decoder.activations(taught.flow, flow)
    assert found.phases["save"]["weights to be written"] == 4 * (ar + flow.parameters)
    assert "paint" not in found.phases and "paint" in estimated(config, held_out=9).phases


def test_what_changes_with_what_learns(tiny_policy: Path) -> None:
    size = PolicySize.read(resolve_folder(tiny_policy))
    connector = estimated(configured(tiny_policy, trained=("connector",)))
    assert connector.held["AdamW states"] == 8 * size.decoder.connector
    assert connector.phases["update"]["activations of the language model"] == 0 and "language model" in connector.held
    words = estimated(configured(tiny_policy, trained=("ar",), losses={"flow": 0.0}))
    assert words.phases["update"]["activations of the decoder"] == 0
    lora = estimated(
        configured(tiny_policy, {"lora": {"rank": 4}}, trained=("ar", "transformer"), decoder_lora={"rank": 4})
    )
    assert lora.held["AdamW states"] < 0.3 * words.held["AdamW states"]
    slow = estimated(configured(tiny_policy, {"ema": 0.9}, trained=("connector",)))
    assert slow.held["slow copies"] == 4 * size.decoder.connector
    alone, cut = (estimated(configured(tiny_policy, {"zero_stage": 3, "ranks": ranks})) for ranks in (1, 2))
    for name in ("trainer's weights", "AdamW states", "gradients"):
        assert cut.held[name] == alone.held[name] // 2
    whole = 4 * (size.decoder.connector + size.decoder.transformer)
    assert alone.held["decoder"] - cut.held["decoder"] == whole - whole // 2


def test_a_micro_batch_that_was_left_to_us_fits(tiny_policy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = configured(tiny_policy, {"micro_batch": "auto"}, rows_per_step=64)
    at = {count: estimated(_with(asked, count)).of("update") for count in (1, 20, 64)}
    monkeypatch.setattr(planning, "worker_count", lambda _: 0)
    for room, expected in ((at[64] + 10**6, 64), (at[20], 20)):
        monkeypatch.setattr(planning, "available", lambda _, room=room: int(room / 0.9) + 1)
        now = settled(asked, PROMPTS, "cpu")
        assert now.train.micro_batch == expected
        assert found_by(asked, now) == [f"train.micro_batch: auto is {expected} here, by the estimate of --dry-run"]
    monkeypatch.setattr(planning, "available", lambda _: at[1] // 2)
    with pytest.raises(UserError, match="train.micro_batch: auto finds that not even 1 sample at a time fits"):
        settled(asked, PROMPTS, "cpu")


def _with(config: Config, count: int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"micro_batch": count})})


def test_painting_has_the_pictures_of_an_evaluation(tiny_policy: Path) -> None:
    size = PolicySize.read(resolve_folder(tiny_policy))
    config = configured(tiny_policy)
    plan = replace(plan_of(config, size, PROMPTS, "cpu"), samples=64, renders=1)
    painted = estimated(config, held_out=500).phases["paint"]["painted pictures"]
    assert painted == parts.pictures(plan, size.decoder)
