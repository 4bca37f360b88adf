from __future__ import annotations

import pytest


@pytest.fixture
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.remote.http._BACK_OFF_S", 0.0)
