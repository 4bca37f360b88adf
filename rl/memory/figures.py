"""The measurements that the README shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rl.memory.cases import CASES
from rl.memory.measure import MeasuredMemory

FIGURES = Path(__file__).with_name("figures.json")


def read(path: Path = FIGURES) -> list[MeasuredMemory]:
    """In the order of the cases."""
    kept = {one["case"]: MeasuredMemory(**one) for one in json.loads(path.read_text(encoding="utf-8"))}
    return [kept[name] for name in CASES if name in kept]


def record(found: Sequence[MeasuredMemory], path: Path = FIGURES) -> None:
    """In place of what was kept of the same cases."""
    kept = {one.case: one for one in [*read(path), *found]}
    rows = [asdict(kept[name]) for name in CASES if name in kept]
    path.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
