"""Prompts from a Hugging Face dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from rl import registry
from rl.data.pictures import Picture
from rl.data.prompt_list import PromptList, Repeats
from rl.data.prompts import PICTURES, checked_picture, read
from rl.data.quoted import AUTO
from rl.data.row import NESTED, flattened, to_prompt
from rl.types import Prompt, UserError

if TYPE_CHECKING:
    from datasets import Dataset

_BUILDERS = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".arrow": "arrow", ".json": "json", ".jsonl": "json"}
_REASON = 300  # characters of another library's message


class _Cell(TypedDict):
    """An image that was not decoded: its file, or the file's content."""

    bytes: bytes | None
    path: str


def hf(
    *,
    name: str,
    split: str = "train",
    subset: str | None = None,
    revision: str | None = None,
    column: str = "prompt",
    columns: dict[str, str] | None = None,
    only: dict[str, str] | None = None,
    limit: int | None = None,
    pictures: bool = True,
    quoted: str | None = AUTO,
    repeats: Repeats = "once",
) -> PromptList:
    """A Hugging Face dataset, a local folder in a form that ``datasets.load_dataset`` reads, or one table (``.csv``,
    ``.parquet``, ...).

    ``revision`` is a branch, tag or commit of the hub. ``column`` holds the prompt, ``id`` (if there is such a column)
    the id, a column ``image`` or ``images`` of images the prompt's pictures (``pictures=False`` leaves such a column
    out), the other columns are metadata; empty cells are left out. ``columns`` renames some, ``{image: input_image}``,
    and leaves other columns of images out. ``only`` keeps the rows that hold these values, ``{language: en}``,
    ``limit`` the first of them.
    Raises UserError if it can't be loaded, lacks the column, or a picture can't be read.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError("prompts from Hugging Face need the package datasets: pip install datasets") from error
    what, hint = f"the dataset {name!r} (split {split!r})", _lines_hint(name)
    with one_sentence(what, hint):
        rows = datasets.load_dataset(**source_of(name), name=subset, split=split, revision=revision)
    if column not in rows.column_names:
        near = registry.did_you_mean(column, rows.column_names)
        raise UserError(
            f"dataset {name!r} has no column {column!r}{near} (it has {', '.join(rows.column_names)}; options.column "
            f"names the one that holds the prompts)"
        )
    with one_sentence(what, hint):
        rows = _chosen(rows, columns or {}, only or {}, name)
    rows = rows if limit is None else rows.select(range(min(limit, len(rows))))
    rows, shown = _undecoded(rows)
    rows, shown = (rows, shown) if pictures else (rows.remove_columns(shown), [])
    found = []
    with one_sentence(what, hint):
        for number, row in enumerate(rows):
            rest = {key: value for key, value in row.items() if key not in (column, "prompt")}
            found.append(_to_prompt({**rest, "prompt": row[column]}, f"{name}[{split}]:{number}", shown))
    return read(found, name, quoted, repeats)


def source_of(name: str) -> dict[str, Any]:
    """The arguments that name the data: a table is read by the builder of its kind."""
    file = Path(name)
    builder = _BUILDERS.get(file.suffix.lower())
    if builder is None or not file.is_file():
        return {"path": name}
    options = {"sep": "\t"} if file.suffix.lower() == ".tsv" else {}
    return {"path": builder, "data_files": name, **options}


def _lines_hint(name: str) -> str:
    """A table has one kind of value per column; JSON lines of many kinds are read by a source of their own."""
    files = [Path(name)] if Path(name).is_file() else sorted(Path(name).glob("**/*.jsonl"))
    found = [str(file) for file in files if file.suffix == ".jsonl"]
    return f"; use: jsonl reads {found[0]} line by line" if found else ""


@contextmanager
def one_sentence(what: str, hint: str) -> Iterator[None]:
    """Whatever ``datasets`` and the readers below it raise on data that they can't build becomes one UserError."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError, DatasetsError) as error:
        raise UserError(f"{what} can't be loaded: {_reason(error)}{hint}") from error
    except StopIteration as error:
        raise UserError(f"{what} can't be loaded: it has no rows") from error


def _reason(error: BaseException) -> str:
    """Its message and, where that only says that something failed, those of its causes, in one line."""
    causes: list[str] = []
    one: BaseException | None = error
    while one is not None and len(causes) < 3:
        message = " ".join(str(one).split())
        if message and message not in causes:
            causes.append(message)
        one = one.__cause__
    told = ": ".join(causes) or type(error).__name__
    return told if len(told) <= _REASON else told[: _REASON - 3] + "..."


def _chosen(rows: Dataset, columns: Mapping[str, str], only: Mapping[str, str], name: str) -> Dataset:
    """Raises UserError if there is no such column, or no row is left."""
    import datasets

    for option, wanted in (("columns", columns.values()), ("only", only)):
        for one in wanted:
            if one not in rows.column_names:
                near = registry.did_you_mean(one, rows.column_names)
                raise UserError(
                    f"dataset {name!r} has no column {one!r}{near} (it has {', '.join(rows.column_names)}; "
                    f"options.{option} names it)"
                )
    if columns:
        kept = {*columns.values(), *(one for one in rows.column_names if one not in columns)}
        kept -= {key for key, kind in rows.features.items() if isinstance(kind, datasets.Image)} - {*columns.values()}
        rows = rows.select_columns([one for one in rows.column_names if one in kept])
    for column, value in only.items():
        rows = rows.filter(lambda cell, value=value: str(cell) == value, input_columns=column)
        if not len(rows):
            raise UserError(f"dataset {name!r} has no row whose {column} is {value!r}; options.only asks for it")
    return rows.rename_columns({column: key for key, column in columns.items() if column != key})


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
    row = _filled(flattened(_filled(row), where))
    pictures = {key: _pictures(row[key], where) for key in columns if key in row}
    content = {} if "id" in row else {key: [_file_hash(one) for one in found] for key, found in pictures.items()}
    return to_prompt({**row, **content}, where, pictures)


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without empty cells: a table has a cell for every key that any of its rows has."""
    found = {key: value for key, value in row.items() if value is not None}
    if isinstance(nested := found.get(NESTED), Mapping):
        found[NESTED] = {key: value for key, value in nested.items() if value is not None}
    return found


def _pictures(cell: _Cell | list[_Cell], where: str) -> list[Picture]:
    cells = cell if isinstance(cell, list) else [cell]
    sources = [Path(one["path"]) if one["bytes"] is None else one["bytes"] for one in cells]
    return [checked_picture(Picture(source), where) for source in sources]


def _file_hash(picture: Picture) -> str:
    source = picture.source
    content = source.read_bytes() if isinstance(source, Path) else bytes(source)
    return hashlib.sha256(content).hexdigest()
