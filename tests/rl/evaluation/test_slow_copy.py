"""``eval.policy: ema``: the slow copy is evaluated and exported; the run goes on, or resumes, with the live weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.base import Policy
from rewards.pool.alongside import rewards_starting
from rl import milestones
from rl.build import live_parts
from rl.config.load import load
from rl.learn import TokenTrainer
from rl.loop import begin, export_trained, train
from rl.parts import Run
from rl.preflight.prompts import check_data
from rl.process.interrupt import Interrupt
from rl.rows import sequences
from rl.run_folder import checkpoint
from tests.rl.run_case import write_config

STEPS = 4


@contextmanager
def parts_of(folder: Path, policy: Path, resume: int | None = None) -> Iterator[Run]:
    file = write_config(
        folder,
        policy,
        train={"steps": STEPS, "lr": 1e-3, "warmup_steps": 0, "ema": 0.8, "updates_per_rollout": 2},
        eval={"every": 2, "grid": 0, "policy": "ema"},
        rollout={"engine": "torch", "group_size": 4, "hidden_states": "trainer"},
        kl={"use": "k3", "options": {"beta": 0.01}},
        kl_reference={"use": "refreshed", "options": {"every": 3}},
        entropy={"use": "target", "options": {"goal": 99, "step": 0.001}},
    )
    config = load(file)
    with (
        rewards_starting(config) as starting,
        live_parts(config, folder / "run", check_data(config), resume, starting, Interrupt()) as parts,
    ):
        yield parts


def trainer_of(run: Run) -> TokenTrainer:
    trainer: TokenTrainer = run.learner.parts["ar"].trainer  # type: ignore[attr-defined]
    return trainer


def answers(run: Run) -> dict[str, Tensor]:
    """Of the sampler, of whoever reads back, of the weights of now and of the copy, to one question."""
    assert run.canary is not None
    rows, trainer = sequences(run.canary), trainer_of(run)
    return {
        "sampler": torch.from_numpy(run.act.sampler.logprobs(rows.prompt_ids, rows.tokens_BT.numpy(), span=rows.span)),
        "read back": run.act.forward(rows).logprobs_BT,
        "now": trainer.forward(rows).logprobs_BT,
        "ema": trainer.forward(rows, copy="ema").logprobs_BT,
    }


def whole(run: Run) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer_of(run).weights().tensors()}


def test_the_copy_is_evaluated_and_exported_and_a_resumed_run_is_the_same(
    tiny_policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, dict[str, Tensor]] = {}
    evaluate = milestones.run_evaluation

    def watched(run: Run, done: int) -> Any:
        seen[done] = answers(run)
        return evaluate(run, done)

    monkeypatch.setattr(milestones, "run_evaluation", watched)
    with parts_of(tmp_path, tiny_policy) as run:
        begin(run, None)
        assert train(run, 0) == STEPS
        after, live = answers(run), whole(run)
        assert run.slow is not None
        with run.slow.lent():
            slow = whole(run)
        export_trained(run)
    assert sorted(seen) == [0, 2, 4]
    for done, found in seen.items():
        torch.testing.assert_close(found["sampler"], found["ema"], atol=1e-4, rtol=0)
        assert torch.equal(found["read back"], found["ema"])
        assert torch.equal(found["ema"], found["now"]) == (done == 0)
    torch.testing.assert_close(after["sampler"], after["now"], atol=1e-4, rtol=0)
    assert torch.equal(after["read back"], after["now"])
    exported = Policy.load(tmp_path / "run" / "policy").ar.state_dict()
    assert all(torch.equal(value, slow[name]) for name, value in exported.items())
    assert any(not torch.equal(value, live[name]) for name, value in exported.items())

    folder = tmp_path / "run"
    first = (json.loads((folder / "evaluation-4.json").read_text()), _metrics(folder))
    shutil.rmtree(folder / "checkpoints" / "step-000004")
    with parts_of(tmp_path, tiny_policy, resume=2) as run:
        begin(run, checkpoint.latest(folder))
        train(run, 2)
        again = whole(run)
        export_trained(run)
    assert (json.loads((folder / "evaluation-4.json").read_text()), _metrics(folder)) == first
    assert all(torch.equal(value, again[name]) for name, value in live.items())
    resumed = Policy.load(folder / "policy").ar.state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in exported.items())


def _metrics(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == STEPS and rows[-1]["entropy_coefficient"] > 0
    return rows
