"""A span of the vocabulary and the rows of the head that tell its ids apart: row ``k`` is that of its ``k``-th id."""

from __future__ import annotations

import torch
from torch import Tensor

from rl.types import Span


def rows_of(span: Span, weight_VD: Tensor) -> Tensor:
    """(K, D): those of the head, in the order of the ids."""
    if span.without is None:
        return weight_VD[span.start : span.stop]
    first, last = span.without
    return torch.cat([weight_VD[span.start : first], weight_VD[last : span.stop]])


def codes_of(span: Span, ids: Tensor) -> Tensor:
    """Vocabulary ids -> which rows they are."""
    if span.without is None:
        return ids - span.start
    first, last = span.without
    return ids - span.start - (last - first) * (ids >= last)


def ids_of(span: Span, codes: Tensor) -> Tensor:
    """And back."""
    ids = codes + span.start
    if span.without is None:
        return ids
    first, last = span.without
    return ids + (last - first) * (ids >= first)
