"""A pre-training stage: finished is loaded, raised steps go on, a killed one repeats nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from policy.shapes.pretrain import stage


class _Killed(Exception):
    pass


def _train(work: Path, steps: int, seen: list[int], *, kill_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    module = nn.Linear(2, 1)

    def loss_at(step: int) -> Tensor:
        if step == kill_at:
            raise _Killed
        seen.append(step)
        return module(torch.tensor([[1.0, float(step)]])).square().mean()

    stage.run_stage("toy", module, loss_at, work=work, steps=steps, lr=1e-2, ema=0.9)
    return module


def test_a_finished_stage_is_loaded_and_raised_steps_go_on(tmp_path: Path) -> None:
    seen: list[int] = []
    assert not stage.is_finished("toy", tmp_path, 3)
    first = _train(tmp_path, 3, seen)
    assert stage.is_finished("toy", tmp_path, 3) and not stage.is_finished("toy", tmp_path, 5)
    assert _train(tmp_path, 3, seen).weight.equal(first.weight) and seen == [0, 1, 2]
    assert not _train(tmp_path, 5, seen).weight.equal(first.weight)
    assert seen == [0, 1, 2, 3, 4] and stage.is_finished("toy", tmp_path, 5)


def test_a_killed_stage_ends_as_if_it_had_never_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "SAVE_SECONDS", -1.0)  # after every step
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = _train(tmp_path / "whole", 6, [])
    with pytest.raises(_Killed):
        _train(tmp_path / "cut", 6, [], kill_at=4)
    assert not stage.is_finished("toy", tmp_path / "cut", 4)  # it was on its way to 6
    seen: list[int] = []
    assert _train(tmp_path / "cut", 6, seen).weight.equal(whole.weight) and seen == [4, 5]
