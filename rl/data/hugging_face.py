"""Prompts from a Hugging Face dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from rl import registry
from rl.data.pictures import Picture
from rl.data.prompts import PICTURES, checked, checked_picture, to_prompt
from rl.types import Prompt, UserError

if TYPE_CHECKING:
    from datasets import Dataset


class _Cell(TypedDict):
    """An image that was not decoded: its file, or the file's content."""

    bytes: bytes | None
    path: str


def hf(
    *,
    name: str,
    split: str = "train",
    subset: str | None = None,
    column: str = "prompt",
    limit: int | None = None,
    pictures: bool = True,
) -> list[Prompt]:
    """A Hugging Face dataset, or a local folder in a form that ``datasets.load_dataset`` reads.

    ``column`` holds the prompt, ``id`` (if there is such a column) the id, a column ``image`` or ``images`` of images
    the prompt's pictures (``pictures=False`` leaves such a column out), the other columns are metadata; empty cells are
    left out. ``limit`` keeps the first rows.
    Raises UserError if it can't be loaded, lacks the column, or a picture can't be read.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError("prompts from Hugging Face need the package datasets: pip install datasets") from error
    try:
        rows = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError) as error:  # missing, not reachable, unknown split or subset
        raise UserError(f"the dataset {name!r} (split {split!r}) can't be loaded: {error}") from error
    if column not in rows.column_names:
        near = registry.did_you_mean(column, rows.column_names)
        raise UserError(f"dataset {name!r} has no column {column!r}{near} (it has {', '.join(rows.column_names)})")
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    rows, columns = _undecoded(rows)
    rows, columns = (rows, columns) if pictures else (rows.remove_columns(columns), [])
    found = []
    for number, row in enumerate(rows):
        rest = {key: value for key, value in row.items() if value is not None and key not in (column, "prompt")}
        found.append(_to_prompt({**rest, "prompt": row[column]}, f"{name}[{split}]:{number}", columns))
    return checked(found, name)


def _undecoded(rows: Dataset) -> tuple[Dataset, list[str]]:
    """The rows with their pictures as files or bytes, and the columns that hold them.

    A column of decoded pictures would fill the memory.
    """
    import datasets

    columns = []
    for key in PICTURES:
        feature, one = rows.features.get(key), datasets.Image(decode=False)
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(key, one)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):  # a list of them
            rows = rows.cast_column(key, type(feature)(one))
        else:
            continue
        columns.append(key)
    return rows, columns


def _to_prompt(row: Mapping[str, Any], where: str, columns: list[str]) -> Prompt:
    """``columns``: those that hold pictures; in the id of a row that has none, they count by their files' content."""
    pictures = {key: _pictures(row[key], where) for key in columns if key in row}
    content = {} if "id" in row else {key: [_file_hash(one) for one in found] for key, found in pictures.items()}
    return to_prompt({**row, **content}, where, pictures)


def _pictures(cell: _Cell | list[_Cell], where: str) -> list[Picture]:
    cells = cell if isinstance(cell, list) else [cell]
    sources = [Path(one["path"]) if one["bytes"] is None else one["bytes"] for one in cells]
    return [checked_picture(Picture(source), where) for source in sources]


def _file_hash(picture: Picture) -> str:
    source = picture.source
    content = source.read_bytes() if isinstance(source, Path) else bytes(source)
    return hashlib.sha256(content).hexdigest()
