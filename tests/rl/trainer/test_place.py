"""Weights on a visit: there while they are at work, home afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rl.trainer.place import visiting


class Travelling(nn.Module):
    """Remembers where it was sent; there is no second device here."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[str] = []

    def to(self, device: torch.device) -> Travelling:  # type: ignore[override]
        self.sent.append(str(device))
        return self


def test_a_module_is_home_again_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("torch's cache"))
    module = Travelling()
    with visiting(module, torch.device("cuda:1")):
        assert module.sent == ["cuda:1"]
    with pytest.raises(ValueError, match="in the middle"), visiting(module, torch.device("cuda:1")):
        raise ValueError("in the middle")
    assert module.sent == ["cuda:1", "cpu", "cuda:1", "cpu"]
    assert emptied == ["torch's cache"] * 2


def test_on_a_cpu_nothing_moves() -> None:
    module = nn.Linear(2, 3)
    where = module.weight.data_ptr()
    with visiting(module, torch.device("cpu")):
        assert module.weight.data_ptr() == where
    assert module.weight.data_ptr() == where
