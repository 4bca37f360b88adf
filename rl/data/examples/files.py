"""Examples in JSON files and in webdataset's tar files, each row looked up by its number."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from rl.data.examples.contract import Example
from rl.data.examples.rows import check_columns, to_example
from rl.data.lines import json_object, numbered_lines, read_text
from rl.data.pictures import Picture
from rl.registry import did_you_mean
from rl.types import UserError

_PICTURES = (".jpg", ".jpeg", ".png", ".webp")
_TEXTS = (".txt", ".json")


@dataclass(frozen=True)
class FileExamples:
    """Rows of files, in memory or behind an index."""

    rows: Sequence[Mapping[str, Any]]
    wheres: Sequence[str]
    files: Sequence[Path]
    folders: Sequence[Path]
    """Where each row's paths start."""
    columns: Mapping[str, Any] | None = None
    notes: Sequence[str] = field(default=())
    endless: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> Example:
        folder = self.folders[index]

        def opened(cell: object) -> Picture:
            if isinstance(cell, TarMember):
                return Picture(cell.read())
            if isinstance(cell, str) and cell:
                return Picture(folder / cell)
            raise UserError(f"{self.wheres[index]}: a picture must be the path of a file, got {cell!r}")

        row = self.rows[index]
        read = {key: cell.text() if isinstance(cell, TarMember) and cell.is_text else cell for key, cell in row.items()}
        return to_example(read, self.wheres[index], opened, self.columns)

    def of_run(self, seed: int) -> FileExamples:
        return self

    def digest(self) -> str:
        """Of the files' names and sizes, and of how many rows there are: reading all takes too long."""
        told = [[file.name, file.stat().st_size] for file in self.files]
        return f"{len(self)}:{hashlib.sha256(json.dumps(told).encode()).hexdigest()}"


@dataclass(frozen=True)
class TarMember:
    """A file in a tar, read when it is looked at."""

    file: Path
    start: int
    size: int
    is_text: bool = False

    def read(self) -> bytes:
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)

    def text(self) -> str:
        return self.read().decode("utf-8", errors="replace").strip()


def jsonl(*, path: str | list[str], columns: dict[str, str | list[str]] | None = None) -> FileExamples:
    """JSON lines, or one JSON list (``.json``), of examples: columns, conversations or messages, with the paths of
    pictures relative to the file. Several files, also as ``data/*.jsonl``, are one set.

    Raises UserError on a missing file, a bad line, or a first row that is no example.
    """
    check_columns(columns) if columns else None
    rows: list[dict[str, Any]] = []
    wheres: list[str] = []
    folders: list[Path] = []
    files = files_of(path)
    for file in files:
        for where, row in _json_rows(file):
            rows.append(row)
            wheres.append(where)
            folders.append(file.parent)
    return _begun(FileExamples(rows, wheres, files, folders, columns), str(path))


def tar(*, path: str | list[str], columns: dict[str, str | list[str]] | None = None) -> FileExamples:
    """webdataset's tar files (``0001.jpg`` beside ``0001.txt`` or ``0001.json``), also as ``data/*.tar``. They are
    looked through once and then read in any order, so they need not be shuffled.

    Raises UserError on a missing or damaged file, and if a first sample is no example.
    """
    check_columns(columns) if columns else None
    rows: list[dict[str, Any]] = []
    wheres: list[str] = []
    folders: list[Path] = []
    lacking: list[str] = []
    files = files_of(path)
    for file in files:
        for key, members in _samples(file).items():
            kinds = {Path(f"x.{ending}").suffix.lower() for ending in members}
            if not (kinds & set(_PICTURES) and kinds & set(_TEXTS)):
                lacking.append(f"{file}:{key}")
                continue
            rows.append({"__key__": key, **_told(members, f"{file}:{key}")})
            wheres.append(f"{file}:{key}")
            folders.append(file.parent)
    total = len(rows) + len(lacking)
    left_out = f"{len(lacking)} of {total:,} samples have no picture or no text and are left out, first"
    notes = [f"{left_out} {lacking[0]}"] if lacking else []
    return _begun(FileExamples(rows, wheres, files, folders, columns, notes), str(path))


def files_of(path: str | list[str]) -> list[Path]:
    """Raises: UserError if one is missing, or a pattern fits none."""
    found: list[Path] = []
    for one in [path] if isinstance(path, str) else path:
        fitting = sorted(map(Path, glob(one)))
        if not fitting:
            near = did_you_mean(Path(one).name, [file.name for file in Path(one).parent.glob("*")])
            raise UserError(f"there is no file {one!r}{near}")
        found += fitting
    return found


def _begun(examples: FileExamples, path: str) -> FileExamples:
    """Raises: UserError if there is none, or the first is none."""
    if not len(examples):
        raise UserError(f"{path}: it holds no examples")
    examples[0]
    return examples


def _json_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if file.suffix.lower() != ".json":
        for number, line in numbered_lines(str(file)):
            yield f"{file}:{number}", json_object(line, f"{file}:{number}")
        return
    try:
        rows = json.loads(read_text(str(file)))
    except ValueError as error:
        raise UserError(f"{file}: not valid JSON ({error}); JSON lines have the ending .jsonl") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{file}: it must be a list of JSON objects, one for each example")
    for number, row in enumerate(rows):
        yield f"{file}[{number}]", row


def _samples(file: Path) -> dict[str, dict[str, TarMember]]:
    """Key -> ending -> where it lies."""
    found: dict[str, dict[str, TarMember]] = {}
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                text = f".{ending.lower()}" in _TEXTS
                parts = found.setdefault(f"{folder}/{key}" if folder else key, {})
                parts[ending.lower()] = TarMember(file, member.offset_data, member.size, text)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"{file}: this is no tar file that can be read ({error}); unpack a compressed one (gunzip), or download a "
            "damaged one again"
        ) from error
    return found


def _told(members: Mapping[str, TarMember], where: str) -> dict[str, Any]:
    """The members as columns, and what a JSON one says as columns of its own."""
    if "json" not in members:
        return dict(members)
    said = json_object(members["json"].text(), f"{where}.json")
    return {**said, **{ending: member for ending, member in members.items() if ending != "json"}}
