"""A decoder's loss of one's own: flow matching on its better pictures alone (RAFT, arXiv 2304.06767)."""

from rl.algorithm.terms import Shown, Term


def raft(flow, old_flow, target_flow, t_N, advantages_N, *, advantage_cap: float = 5.0):
    """clip(A, 0, c) mean((t (v - v*))^2): t (v - v*) is the error of the clean picture that v stands for."""
    error_N = (flow - target_flow).square().flatten(1).mean(1) * t_N.square()
    loss_N = advantages_N.clamp(0, advantage_cap) * error_N
    moved_N = (flow - old_flow).detach().square().flatten(1).mean(1)
    return Term(loss_N, {"policy_loss": Shown(loss_N.detach(), "sum"), "old_deviation": Shown(moved_N)})
