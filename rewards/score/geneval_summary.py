"""The summary of an evaluation, in the official one's form, from rows with ``tag``, ``metadata`` and ``correct``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """Image and prompt accuracy (a prompt is correct if any of its pictures is), each task's, and their mean.

    Raises ``ValueError`` without any rows.
    """
    if not rows:
        raise ValueError("no picture was scored")
    by_prompt, by_task = _grouped(rows, "metadata"), _grouped(rows, "tag")
    lines = ["Summary", "======="]
    lines += [f"Total images: {len(rows)}", f"Total prompts: {len(by_prompt)}"]
    lines += [f"% correct images: {_mean([bool(row['correct']) for row in rows]):.2%}"]
    lines += [f"% correct prompts: {_mean([any(values) for values in by_prompt.values()]):.2%}", ""]
    lines += ["Task breakdown", "=============="]
    lines += [f"{task:<16} = {_mean(values):.2%} ({sum(values)} / {len(values)})" for task, values in by_task.items()]
    overall = _mean([_mean(values) for values in by_task.values()])
    return "\n".join([*lines, "", f"Overall score (avg. over tasks): {overall:.5f}"])


def _grouped(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[bool]]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(bool(row["correct"]))
    return groups


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
