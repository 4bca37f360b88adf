"""The fixed prompts' pictures before and after, cut out of the evaluations' grids, with what the rewards said."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rl.evaluation.results import Evaluation, Outcome, Tile, grid_path

_MAX_PICTURE = 384  # pixels a side; larger ones are shrunk and embedded as JPEG


@dataclass(frozen=True)
class Figure:
    """One picture of one evaluation; ``notes`` are (reward, its words, its numbers)."""

    step: int
    source: str
    """A data URI."""
    small: bool
    """To be enlarged without smoothing."""
    marks: Mapping[str, float | None]
    notes: list[tuple[str, str, str]]


@dataclass(frozen=True)
class Pair:
    """The same prompt and seed twice; ``change`` is ``gained`` or ``lost`` where it newly passes or fails."""

    text: str
    task: str
    change: str
    figures: tuple[Figure, Figure]


def pairs(run_folder: Path, before: Evaluation, after: Evaluation) -> list[Pair]:
    """A tile that the two evaluations do not share is left out."""
    later = {(tile.prompt_id, tile.seed): tile for tile in after.tiles}
    shared = [(tile, later[tile.prompt_id, tile.seed]) for tile in before.tiles if (tile.prompt_id, tile.seed) in later]
    if not shared:
        return []
    with Image.open(grid_path(run_folder, before.step)) as old, Image.open(grid_path(run_folder, after.step)) as new:
        return [
            Pair(
                first.text,
                first.task,
                {(False, True): "gained", (True, False): "lost"}.get((_passed(first), _passed(last)), ""),
                (_figure(old, before, first), _figure(new, after, last)),
            )
            for first, last in shared
        ]


def _passed(tile: Tile) -> bool:
    return bool(tile.marks) and all(value == 1.0 for value in tile.marks.values())


def _figure(sheet: Image.Image, evaluation: Evaluation, tile: Tile) -> Figure:
    picture = sheet.crop(tile.box)
    notes = [note for one in evaluation.of(tile) if any((note := _note(one))[1:])]
    return Figure(evaluation.step, _data_uri(picture), picture.width <= 2 * 64, tile.marks, notes)


def _note(outcome: Outcome) -> tuple[str, str, str]:
    """What the reward said in words (the texts among its details, or why it failed), and in numbers."""
    details = outcome.details.items()
    words = [f"{key}: {value}" for key, value in details if isinstance(value, str) and value]
    numbers = [f"{key} {value:g}" for key, value in details if isinstance(value, (int, float))]
    text = f"failed: {outcome.failure}" if outcome.failure else "; ".join(words)
    return outcome.reward, text, ", ".join(numbers)


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    if max(picture.size) > _MAX_PICTURE:
        picture.thumbnail((_MAX_PICTURE, _MAX_PICTURE), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
        kind = "jpeg"
    else:
        picture.save(buffer, "PNG")
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
