"""What the functions of an algorithm may answer: looked at in every run, explained by ``python -m rl.check``.

A loss, an advantage or a combination is anybody's function. A wrong shape would be broadcast, a detached loss would
train nothing, a NaN would be blamed on the learning rate: each becomes a sentence that names the key and the function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.base import describe_exception
from rl.algorithm.correction import Correction
from rl.algorithm.entropy import Coefficient
from rl.algorithm.losses import SurrogateLoss
from rl.algorithm.terms import Term
from rl.config.section import Component
from rl.registry import resolve
from rl.types import UserError

Check = Callable[..., str | None]
"""(answer, *arguments) -> what is wrong with the answer, or None."""


@dataclass(frozen=True)
class Answering:
    """A component of the loss side with its options bound, whose every answer is looked at.

    Raises UserError, in one sentence, for an answer that the run can't use and for whatever the function itself raises.
    """

    key: str
    """Where it stands in the configuration: ``loss``, ``terms.mine``."""
    use: str
    func: Callable[..., Any]
    check: Check

    def __call__(self, *arguments: Any) -> Any:
        try:
            answer = self.func(*arguments)
        except UserError:
            raise
        except Exception as error:  # anybody's function may raise anything
            raise UserError(f"{self.key}: {self.use!r} raised {describe_exception(error)}") from error
        if wrong := self.check(answer, *arguments):
            raise UserError(f"{self.key}: {self.use!r} {wrong}")
        return answer


def component(kind: str, chosen: Component) -> Any:
    """The function that ``use`` names, with its options bound."""
    return partial(resolve(kind, chosen.use), **chosen.options)


def answering(kind: str, key: str, chosen: Component) -> Answering:
    """The same, with every answer looked at: a wrong one is a sentence that names ``key``."""
    return Answering(key, chosen.use, component(kind, chosen), CHECKS[kind])


def surrogate(answer: object, logprobs_BT: Tensor, *_: Tensor) -> str | None:
    if not isinstance(answer, SurrogateLoss):
        return _type(answer, "a SurrogateLoss of rl.algorithm.losses")
    for name in ("loss_BT", "ratio_BT", "clipped_BT"):
        if wrong := _shape(name, getattr(answer, name), logprobs_BT.shape, "one per token"):
            return wrong
    return _no_gradient("loss_BT", answer.loss_BT, logprobs_BT)


def advantage(answer: object, rewards_PG: Tensor, valid_PG: Tensor) -> str | None:
    if wrong := _shape("the advantages", answer, rewards_PG.shape, "one per sample"):
        return wrong
    assert isinstance(answer, Tensor)
    if not answer.isfinite().all():
        group = int((~answer.isfinite()).any(-1).nonzero()[0])
        given = ", ".join(f"{value:g}" for value in rewards_PG[group].tolist()[:8])
        return f"answered {_first_not_finite(answer)} for a group with the rewards {given}; divide by std + eps"
    if (answer[~valid_PG] != 0).any():
        return "gave a sample without a valid reward an advantage; it must be 0 there (masked_fill(~valid_PG, 0.0))"
    return None


def aggregation(answer: object, mask_BT: Tensor) -> str | None:
    if wrong := _shape("the weights", answer, mask_BT.shape, "one per token"):
        return wrong
    assert isinstance(answer, Tensor)
    if not answer.isfinite().all():
        return f"answered a weight of {_first_not_finite(answer)}; clamp the denominator to at least 1"
    if (answer < 0).any():
        return f"answered a negative weight, {answer.min().item():g}, which would turn the loss round"
    if (answer[~mask_BT.bool()] != 0).any():
        return "gave a masked token a weight; multiply by mask_BT"
    return None


def correction(answer: object, train_logprobs_BT: Tensor, *_: Tensor) -> str | None:
    if not isinstance(answer, Correction):
        return _type(answer, "a Correction of rl.algorithm.correction")
    for name in ("weights_BT", "clipped_BT"):
        if wrong := _shape(name, getattr(answer, name), train_logprobs_BT.shape, "one per token"):
            return wrong
    if not answer.weights_BT.isfinite().all() or (answer.weights_BT < 0).any():
        return "answered a weight that is not a finite number of 0 or more; give it a cap"
    return None


def term(answer: object, *arguments: object) -> str | None:
    """Of a KL, an anchor or a term: shapes are checked where the loss is added up, which knows them."""
    if not isinstance(answer, Term):
        return _type(answer, "a Term of rl.algorithm.terms")
    loss: object = answer.loss
    if not isinstance(loss, Tensor):
        return f"answered a Term whose loss is of type {type(loss).__name__}; it must be a tensor"
    source = next((one for one in map(_differentiable, arguments) if one is not None), None)
    return None if source is None else _no_gradient("its loss", loss, source)


def share(answer: object, *_: object) -> str | None:
    """Of a reference that moves: how much of it stays."""
    if isinstance(answer, bool) or not isinstance(answer, (int, float)) or not 0 <= answer <= 1:
        return f"answered {answer!r}; it must be a number from 0 to 1, the share of the reference that stays"
    return None


def coefficient(answer: object, *_: object) -> str | None:
    if not isinstance(answer, Coefficient):
        return _type(answer, "a Coefficient of rl.algorithm.entropy")
    if not all(isinstance(one, (int, float)) and 0 <= one < math.inf for one in answer):
        return f"answered {tuple(answer)}; both must be finite numbers of 0 or more"
    return None


def combination(answer: object, values_KB: np.ndarray, applies_KB: np.ndarray, *_: object) -> str | None:
    size = values_KB.shape[1]
    if not isinstance(answer, (np.ndarray, Sequence)) or np.shape(answer) != (size,):
        return f"answered {_told(answer)}; it must be an array of one total per sample, ({size},)"
    totals_B = np.asarray(answer)
    if totals_B.dtype.kind not in "fiub":
        return f"answered an array of {totals_B.dtype}; it must hold numbers"
    if not np.isfinite(totals_B[applies_KB.any(0)]).all():
        return "answered a total that is not finite for a sample that has rewards"
    return None


CHECKS: dict[str, Check] = {
    "losses": surrogate,
    "advantages": advantage,
    "aggregations": aggregation,
    "corrections": correction,
    "kls": term,
    "kl_references": share,
    "entropies": coefficient,
    "anchors": term,
    "terms": term,
    "combinations": combination,
    "decoder_losses": term,
}
"""By the kind of the registry."""


def _shape(name: str, answer: object, shape: torch.Size, meaning: str) -> str | None:
    if not isinstance(answer, Tensor):
        return f"answered {_told(answer)}; {name} must be a tensor, {meaning}, {tuple(shape)}"
    if answer.shape != shape:
        return f"answered {name} of shape {tuple(answer.shape)}; it must be {meaning}, {tuple(shape)}"
    return None


def _type(answer: object, wanted: str) -> str:
    return f"answered {_told(answer)}; it must be {wanted}"


def _told(answer: object) -> str:
    shape = getattr(answer, "shape", None)
    if answer is None:
        return "None"
    return f"{type(answer).__name__}" + (f" of shape {tuple(shape)}" if shape is not None else "")


def _differentiable(argument: object) -> Tensor | None:
    """A tensor of the policy among what a function was given."""
    found = argument if isinstance(argument, Tensor) else getattr(argument, "logprobs_BT", None)
    return found if isinstance(found, Tensor) and found.requires_grad else None


def _no_gradient(name: str, loss: Tensor, source: Tensor) -> str | None:
    if torch.is_grad_enabled() and source.requires_grad and not loss.requires_grad:
        return f"answered {name} without a gradient, so it would train nothing; compute it from the policy's tensors"
    return None


def _first_not_finite(values: Tensor) -> float:
    return float(values[~values.isfinite()][0])
