"""How new weights are checked in the samplers."""

from __future__ import annotations

from rl.config.section import Section
from rl.config.values import AtLeastOne, Bool, Positive


class SyncConfig(Section):
    """New weights into the sampling engine."""

    enabled: Bool = True
    """Off only to prove that the canary notices."""
    canary: AtLeastOne = 4
    """Sequences whose log-probs are compared after each sync."""
    canary_tokens: AtLeastOne = 64
    """Tokens of each that are compared, from the first on."""
    tolerance: Positive | None = None
    """Largest allowed difference in nats, times -log-prob (1 to 4) for rare tokens; ``null``: 1e-3, or 0.1 x the root
    of the layers where one of them computes in bfloat16."""
