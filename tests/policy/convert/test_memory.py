"""Neither direction holds more of a checkpoint in memory than its largest file and a half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from policy.convert.back import to_checkpoint
from policy.convert.to_policy import to_policy
from tests.policy.convert.twin import make_twin

RESET = Path("/proc/self/clear_refs")


def memory(line: str) -> int:
    """Bytes: ``VmRSS`` now, ``VmHWM`` at its highest since the last reset."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(one.split()[1]) for one in status if one.startswith(line)) * 1024


def growth(work: Callable[[], None]) -> int:
    """Bytes at the worst moment of ``work``, over what was there before."""
    before = memory("VmRSS")
    RESET.write_text("5")  # the highest mark becomes the present one
    work()
    return memory("VmHWM") - before


def test_memory_stays_below_one_and_a_half_files(tmp_path: Path) -> None:
    if not RESET.exists():
        pytest.skip("the highest memory is read as Linux tells it")
    twin = make_twin(tmp_path / "twin", inside=600_000)
    largest = max(file.stat().st_size for file in twin.glob("*.safetensors"))
    assert largest > 70_000_000
    make_twin(tmp_path / "small")
    to_policy(tmp_path / "small", tmp_path / "imports", tell=lambda _: None)
    to_checkpoint(tmp_path / "imports", tmp_path / "small", tmp_path / "back of small", tell=lambda _: None)
    out = tmp_path / "policy"
    forth = growth(lambda: to_policy(twin, out, tell=lambda _: None))
    weights = out / "ar" / "model.safetensors"
    save_file({name: tensor.float() for name, tensor in load_file(weights).items()}, weights)  # the dearest way back
    back = growth(lambda: to_checkpoint(out, twin, tmp_path / "back", tell=lambda _: None))
    print(f"largest file {largest / 1e6:.0f} MB; memory: forth {forth / 1e6:.0f} MB, back {back / 1e6:.0f} MB more")
    assert max(forth, back) < 1.5 * largest
