"""Which part of a run a function is meant for, told from the names of what it takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from rl.registry import BUILT_IN, resolve
from rl.types import UserError

CREDIT = "decoder_advantages"
"""No key: what a loop of one's own gives the decoder in place of ``rl.algorithm.flow.credit``."""
KINDS = {
    "loss": "losses",
    "advantage": "advantages",
    "aggregation": "aggregations",
    "kl": "kls",
    "kl_reference": "kl_references",
    "entropy": "entropies",
    "anchor": "anchors",
    "correction": "corrections",
    "terms": "terms",
    "combine": "combinations",
    "decoder.loss": "decoder_losses",
    CREDIT: "advantages",
}
"""Key of the configuration -> kind of the registry."""

ON_WINDOW = ("steps", "index", "state_next", "mean", "old_mean", "advantages")
_TAKES = (
    ("loss", ("logprobs", "old_logprobs", "advantages")),
    ("advantage", ("rewards", "valid")),
    ("aggregation", ("mask",)),
    ("kl", ("logprobs", "reference_logprobs")),
    ("kl_reference", ("updates",)),
    ("entropy", ("kept", "entropy")),
    ("anchor", ("connector", "hidden", "reference_hidden")),
    ("correction", ("train_logprobs", "rollout_logprobs")),
    ("terms", ("outputs", "rows")),
    ("combine", ("values", "applies", "weights", "group")),
    ("decoder.loss", ("flow", "old_flow", "target_flow", "t", "advantages")),
    ("decoder.loss", ON_WINDOW),
)
OF_SEQUENCES, MASK = ("loss", "correction"), "mask"
"""What may take one argument more: which tokens of whole samples were sampled."""
_CREDIT_TAKES = ("rewards_BK", "valid_BK")  # an advantage's names, of another table
_SHAPE = re.compile(r"_[A-Z0-9]+$")


def key_of(use: str, meant: str | None) -> str:
    """``loss``, ``advantage``, ...: ``meant`` if given. Raises UserError if nothing tells."""
    if meant is not None:
        return meant
    if ":" not in use:
        found = [key for key, kind in KINDS.items() if key != CREDIT and use in BUILT_IN[kind]]
        if len(found) == 1:
            return found[0]
        meanings = " and ".join(found) or "none of " + ", ".join(KINDS)
        example = found[0] if found else "loss"
        raise UserError(f"{use!r} is the name of {meanings}: say which with --as, for example --as {example}")
    names = positional(resolve("losses", use))
    return CREDIT if names == _CREDIT_TAKES else _from_names(use, plain(names))


def positional(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of what it must be given."""
    if not callable(function):
        raise UserError(f"{function!r} can't be called; name a function")
    taken = inspect.signature(function).parameters.values()
    ordinary = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(one.name for one in taken if one.kind in ordinary and one.default is one.empty)


def plain(names: tuple[str, ...]) -> tuple[str, ...]:
    """Without their shapes: ``logprobs_BT`` -> ``logprobs``."""
    return tuple(_SHAPE.sub("", name) for name in names)


def _from_names(use: str, names: tuple[str, ...]) -> str:
    for key, takes in _TAKES:
        if names == takes or (key in OF_SEQUENCES and names == (*takes, MASK)):
            return key
    same_number = [key for key, takes in _TAKES if len(takes) == len(names)]
    if len(same_number) == 1:
        return same_number[0]
    known = "; ".join(f"{key}: {', '.join(takes)}" for key, takes in _TAKES)
    raise UserError(
        f"{use!r} takes ({', '.join(names)}), which does not tell what it is for: say it with --as, or name its "
        f"arguments as one of these does ({known}; options are keyword-only, after *)"
    )
