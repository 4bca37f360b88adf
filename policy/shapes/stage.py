"""A resumable training stage: state on disk every few minutes, a log line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

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
    average = {key: value.clone() for key, value in module.state_dict().items()} if ema else {}
    start = 0
    if file.exists():
        state = torch.load(file, weights_only=True)
        module.load_state_dict(state["module"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
            average = state["average"]
        elif ema:
            average = {key: value.clone() for key, value in state["module"].items()}
        start = state["step"]
        if is_finished(name, work, steps):
            return
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
    if not file.exists():
        return False
    state = torch.load(file, weights_only=True)
    return "optimizer" not in state and state["step"] >= steps
