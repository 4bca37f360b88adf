"""A resumable training stage: state on disk every few minutes, a log line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAVE_SECONDS = 60.0


def run_stage(
    name: str,
    module: nn.Module,
    loss_at: Callable[[int], Tensor],
    *,
    work: Path,
    steps: int,
    lr: float,
    ema: float = 0.0,
) -> None:
    """Trains ``module`` with AdamW, warm-up and cosine decay; ``loss_at(step)`` must depend on step alone.

    Resumes from ``work/<name>.pt``; with ``ema`` the averaged weights are left in the module at the end. A finished
    stage goes on from its weights when ``steps`` is raised, and is only loaded otherwise.
    """
    file = work / f"{name}.pt"
    optimizer = torch.optim.AdamW(module.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    state = torch.load(file, weights_only=True) if file.exists() else None
    if state:
        module.load_state_dict(state["module"])
        if _ended(state, steps):
            return
    start = state["step"] if state else 0
    average = {key: value.clone() for key, value in module.state_dict().items()} if ema else {}
    if state and "optimizer" in state:
        optimizer.load_state_dict(state["optimizer"])
        average = state["average"]
    saved = noted = time.time()
    for step in range(start, steps):
        rate = lr * min(
            (step + 1) / 100, 0.02 + 0.98 * 0.5 * (1 + torch.cos(torch.tensor(step / steps * 3.14159)).item())
        )
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        if ema:
            decay = min(ema, (1 + step) / (10 + step))
            for key, value in module.state_dict().items():
                average[key].lerp_(value, 1 - decay)
        if time.time() - noted > 15:
            noted = time.time()
            print(f"{name} step {step + 1}/{steps} loss {loss.item():.4f}", flush=True)
        if time.time() - saved > SAVE_SECONDS:
            saved = time.time()
            content = {"module": module.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
            torch.save({**content, "step": step + 1}, file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file)
    if ema:
        module.load_state_dict(average)
    torch.save({"module": module.state_dict(), "step": steps}, file.with_suffix(".tmp"))
    file.with_suffix(".tmp").replace(file)


def is_finished(name: str, work: Path, steps: int) -> bool:
    """Whether the stage's weights have been trained for ``steps``."""
    file = work / f"{name}.pt"
    return file.exists() and _ended(torch.load(file, weights_only=True), steps)


def _ended(state: dict[str, Any], steps: int) -> bool:
    """A state with an optimizer is one on its way."""
    return "optimizer" not in state and state["step"] >= steps
