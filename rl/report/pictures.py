"""The fixed prompts' pictures before and after, cut out of the evaluations' grids, with what the rewards said."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rl.evaluation.results import Evaluation, Outcome, Tile, grid_path, mark

_MAX_PICTURE = 384  # pixels a side; larger ones are shrunk and embedded as JPEG
SMALL = 2 * 64  # up to here pictures are enlarged without smoothing


@dataclass(frozen=True)
class Badge:
    """One reward's verdict, with its own value where that is finer: ``fail 0.50``; ``reward`` is told where there are
    several rewards."""

    reward: str
    text: str
    style: str


@dataclass(frozen=True)
class Figure:
    """One picture of one evaluation; ``notes`` are (reward, its words, its numbers)."""

    step: int
    source: str
    """A data URI."""
    small: bool
    """To be enlarged without smoothing."""
    badges: list[Badge]
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
                (figure(old, before, first), figure(new, after, last)),
            )
            for first, last in shared
        ]


def _passed(tile: Tile) -> bool:
    return bool(tile.marks) and all(value == 1.0 for value in tile.marks.values())


def figure(sheet: Image.Image, evaluation: Evaluation, tile: Tile) -> Figure:
    """One tile cut out of the evaluation's grid."""
    picture = sheet.crop(tile.box)
    outcomes = evaluation.of(tile)
    notes = [note for one in outcomes if any((note := _note(one))[1:])]
    badges = [_badge(one, several=len(evaluation.results) > 1) for one in outcomes]
    return Figure(evaluation.step, data_uri(picture), picture.width <= SMALL, badges, notes)


def _badge(outcome: Outcome, *, several: bool) -> Badge:
    finer = outcome.graded is not None and outcome.graded != outcome.value
    text = mark(outcome.value) + (f" {outcome.graded:.2f}" if finer else "")
    style = "other" if outcome.value is None else {1.0: "pass", 0.0: "fail"}.get(outcome.value, "other")
    return Badge(outcome.reward if several else "", text, style)


def _note(outcome: Outcome) -> tuple[str, str, str]:
    """What the reward said in words (the texts among its details, or why it failed), and in numbers."""
    details = outcome.details.items()
    words = [f"{key}: {value}" for key, value in details if isinstance(value, str) and value]
    numbers = [f"{key} {value:g}" for key, value in details if isinstance(value, (int, float))]
    text = f"failed: {outcome.failure}" if outcome.failure else "; ".join(words)
    if not text and outcome.value is not None and outcome.value < 1:  # numbers are all that it says of what is missing
        text = ", ".join(numbers)
    return outcome.reward, text, ", ".join(numbers)


def data_uri(picture: Image.Image, largest: int = _MAX_PICTURE) -> str:
    """Self-contained; larger pictures are shrunk."""
    buffer = io.BytesIO()
    if max(picture.size) > largest:
        picture.thumbnail((largest, largest), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(buffer, "JPEG", quality=90)
        kind = "jpeg"
    else:
        picture.save(buffer, "PNG")
        kind = "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
