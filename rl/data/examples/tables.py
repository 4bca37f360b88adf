"""Examples in tables and on the Hugging Face hub, listed or streamed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl.data.examples.contract import Example
from rl.data.examples.rows import check_columns, to_example
from rl.data.examples.streamed import StreamedExamples
from rl.data.hugging_face import one_sentence, source_of
from rl.data.pictures import Picture
from rl.types import UserError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset


@dataclass(frozen=True)
class TableExamples:
    """Rows of a ``datasets.Dataset``, whose pictures were not decoded."""

    rows: Dataset
    name: str
    columns: Mapping[str, Any] | None
    notes: tuple[str, ...] = field(default=())
    endless: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Example:
        return _of_row(self.rows[index], f"{self.name}:{index}", columns=self.columns)

    def of_run(self, seed: int) -> TableExamples:
        return self

    def digest(self) -> str:
        told = f"{self.rows.column_names} {self.rows.features}"
        return f"{len(self)}:{hashlib.sha256(told.encode()).hexdigest()}"


def hf(
    *,
    name: str,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    columns: dict[str, str | list[str]] | None = None,
    streaming: bool = False,
    window: int = 1000,
    limit: int | None = None,
) -> TableExamples | StreamedExamples:
    """A Hugging Face data set, a local folder in a form that ``datasets.load_dataset`` reads, or one table
    (``.parquet``, ``.csv``, ...), with pictures as images, as bytes or as paths.

    ``streaming``: rows are read as they come and never listed; they are shuffled inside a ``window`` of them, and a
    resume goes on exactly. ``limit`` keeps the first rows.
    Raises UserError if it can't be loaded, or its columns do not fit.
    """
    check_columns(columns) if columns else None
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError("examples from Hugging Face need the package datasets: pip install datasets") from error

    def loaded() -> Any:
        with one_sentence(f"the data set {name!r} (split {split!r})", ""):
            rows = datasets.load_dataset(
                **source_of(name), name=subset, split=split, revision=revision, streaming=streaming
            )
            return _undecoded(rows if limit is None else rows.take(limit))

    rows = loaded()
    if streaming:
        first = next(iter(rows), None)
        if first is None:
            raise UserError(f"the data set {name!r} (split {split!r}) has no rows")
        _of_row(first, f"{name}[{split}]:0", columns=columns)
        return StreamedExamples(loaded, partial(_of_row, columns=columns), f"{name}[{split}]", window)
    found = TableExamples(rows, f"{name}[{split}]", columns)
    if not len(found):
        raise UserError(f"the data set {name!r} (split {split!r}) has no rows")
    found[0]
    return found


def _of_row(row: Mapping[str, Any], where: str, *, columns: Mapping[str, Any] | None) -> Example:
    return to_example(row, where, partial(_opened, where), columns)


def _opened(where: str, cell: object) -> Picture:
    if isinstance(cell, Mapping):
        cell = cell.get("path") if cell.get("bytes") is None else cell["bytes"]
    if isinstance(cell, bytes):
        return Picture(cell)
    if isinstance(cell, str) and cell:
        return Picture(Path(cell))
    raise UserError(f"{where}: a picture must be an image, its bytes or the path of one, got {str(cell)[:80]!r}")


def _undecoded(rows: Dataset | IterableDataset) -> Any:
    """Decoded, the pictures of a whole table would fill the memory, and one bad file would end the run."""
    import datasets

    one = datasets.Image(decode=False)
    for name, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(name, one)
        elif isinstance(getattr(feature, "feature", None), datasets.Image):  # a list of them
            rows = rows.cast_column(name, type(feature)(one))
    return rows
