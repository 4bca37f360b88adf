"""Which policy the KL term compares with: the one that training began with, or one that comes along (``kl_reference``).

Pure functions ``(updates, *, options) -> share``: how much of the reference stays after the optimizer's step number
``updates``; the rest becomes the policy of now. A reference that moves is a copy of what is trained, the weights or the
adapters, in float32 on every rank; it is saved with a checkpoint. What else compares with the reference (``anchor``,
``terms``) keeps the fixed one: a decoder goes on reading what the base wrote.
"""

from __future__ import annotations

from rl.config.declared import declares


@declares(fixed=True)
def fixed(updates: int) -> float:
    """1 after every step: the initial policy, as in GRPO (arXiv 2402.03300), equation 3."""
    return 1.0


@declares(positive=("every",))
def refreshed(updates: int, *, every: int) -> float:
    """0 after each ``every``-th step, 1 after the others: the reference becomes the policy of now. The hard update of
    TR-DPO (arXiv 2404.09656), and the reference reset of ProRL (arXiv 2505.24864), section 2.3.1.
    """
    return 0.0 if updates % every == 0 else 1.0


@declares(fraction=("decay",))
def ema(updates: int, *, decay: float = 0.99) -> float:
    """``decay`` after every step: an exponential moving average of the policy, the anchor of WARP (arXiv 2406.16768),
    section 3.1, equation (EMA), whose mu is 1 - ``decay`` = .01; the soft update of TR-DPO (arXiv 2404.09656).
    """
    return decay
