"""Whole groups of training pictures, with what the rewards said of each and what it was worth against its group.

``pictures/groups-000010.png`` is a sheet with a line per group; each line of ``groups-000010.jsonl`` is one sample with
its place on the sheet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rl.run_folder.records import write_atomically
from rl.tracking.grid import make_grid
from rl.types import UserError

_FOLDER, _NAME = "pictures", "groups"


@dataclass(frozen=True)
class GroupSample:
    """One picture of a group; ``score`` and ``advantage`` are None where a reward failed or none applies."""

    prompt: str
    task: str | None
    score: float | None
    advantage: float | None
    rewards: Mapping[str, Mapping[str, object]]
    """Of each reward: value, passed, failure, details."""
    box: tuple[int, int, int, int] = (0, 0, 0, 0)


def save_groups(
    run_folder: Path, step: int, pictures: NDArray[np.uint8], samples: Sequence[GroupSample], group_size: int
) -> None:
    """(N, H, W, 3) pictures, group by group."""
    captions = ["–" if one.score is None else f"{one.score:.2f}" for one in samples]
    grid = make_grid(pictures, captions, group_size)
    path = run_folder / _FOLDER / f"{_NAME}-{step:06d}.png"
    grid.save(path)
    lines = [asdict(one) | {"box": box} for one, box in zip(samples, grid.boxes, strict=True)]
    write_atomically(path.with_suffix(".jsonl"), "".join(json.dumps(one) + "\n" for one in lines))


def saved_groups(run_folder: Path) -> dict[int, Path]:
    """Step, from 0 -> its sheet."""
    found = {path: re.fullmatch(rf"{_NAME}-(\d+)", path.stem) for path in (run_folder / _FOLDER).glob(f"{_NAME}-*.png")}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match))


def read_groups(sheet: Path) -> list[list[GroupSample]]:
    """By prompt. Raises: UserError if what belongs to the sheet is missing or damaged."""
    path = sheet.with_suffix(".jsonl")
    groups: dict[str, list[GroupSample]] = {}
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            found = json.loads(line)
            one = GroupSample(**{**found, "box": tuple(found["box"])})
            groups.setdefault(one.prompt, []).append(one)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it and {sheet.name}") from error
    return list(groups.values())
