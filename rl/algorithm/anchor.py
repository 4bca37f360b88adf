"""What the frozen decoder reads stays readable: a penalty on the drift of its condition.

Policy gradients act on log-probs; nothing in them holds the final hidden states where the decoder learnt to read them,
so a moving language model is painted wrongly although its tokens are right (``guard/render_fidelity`` falls). The
decoder sees hidden states only through its connector; the penalty lives there and leaves every other direction free.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from rl.algorithm.terms import Shown, Term
from rl.config.declared import declares


@declares(not_negative=("beta",))
def condition(
    connector: Callable[[Tensor], Tensor], hidden_BSD: Tensor, reference_hidden_BSD: Tensor, *, beta: float = 1.0
) -> Term:
    """|c(h) - c(h_ref)|^2 / |c(h_ref)|^2 of a sample's S x C condition, c the decoder's ``connector``, h_ref the final
    hidden states of the reference policy at the same tokens. 0 means the same picture for the same tokens. The loss is
    (B, 1), ``beta`` times the drift that is shown as ``anchor``.
    """
    wanted_BSC = connector(reference_hidden_BSD).detach()
    error_B = (connector(hidden_BSD) - wanted_BSC).float().square().mean((1, 2))
    drift_B1 = (error_B / wanted_BSC.float().square().mean((1, 2)))[:, None]
    return Term(beta * drift_B1, {"anchor": Shown(drift_B1.detach())})
