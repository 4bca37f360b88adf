"""One rollout, several optimizer steps: the batch cut into equal parts of whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from rl.types import Batch


def minibatches(batch: Batch, count: int) -> list[Batch]:
    """``count`` batches that together hold every row once, in order; fewer if there are fewer rows."""
    rows = torch.arange(len(batch.prompt_ids)).chunk(count)
    return [_take(batch, part) for part in rows]


def mean_metrics(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Metrics of several updates as one: the mean of each."""
    return {name: sum(one[name] for one in updates) / len(updates) for name in updates[0]}


def _take(batch: Batch, rows: Tensor) -> Batch:
    changes: dict[str, Any] = {
        field.name: value[rows] for field in fields(batch) if isinstance(value := getattr(batch, field.name), Tensor)
    }
    return replace(batch, prompt_ids=[batch.prompt_ids[row] for row in rows.tolist()], **changes)
