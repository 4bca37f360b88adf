"""A file of results, one JSON object per picture and line, that a run adds to and a later run goes on with."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Protocol, Self

from rewards.score.layout import PictureFile
from rl.types import Score, UserError

Row = Mapping[str, object]


class RowFormat(Protocol):
    """What stands in a line."""

    @property
    def start(self) -> bytes:
        """What every line begins with."""
        ...

    def parse(self, line: str, path: Path, number: int) -> tuple[str, Row]:
        """The picture's name and its row. Raises ``UserError`` if line ``number`` of ``path`` is no row of this run."""
        ...

    def check(self, row: Row, picture: PictureFile, path: Path) -> None:
        """Raises ``UserError`` if the row in ``path`` is known to be of something else than ``picture`` is now."""
        ...

    def row(self, picture: PictureFile, score: Score, version: str) -> Row | None:
        """``None``: this score has no line. ``version``: of the reward's code."""
        ...


class ResultFile:
    """The rows of ``path`` by picture; ``append`` adds to both. One process at a time: the file is locked."""

    def __init__(self, path: Path, form: RowFormat) -> None:
        """Reads what is there; a last line that was not finished is cut off.

        Raises ``UserError`` if the file holds something else, can't be written, or another run writes to it.
        """
        self.path, self._form = path, form
        self.rows: dict[str, Row] = {}
        self._locked: IO[bytes] | None = None
        self._new = not path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock()
            self._read()
        except (OSError, UnicodeDecodeError) as error:
            self.close()
            raise UserError(f"--out {path} can't be used: {error}") from error
        except UserError:
            self.close()
            raise

    def close(self) -> None:
        """Let others write to the file."""
        if self._locked is not None:
            self._locked.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._new and not self.rows:  # a call that was wrong leaves nothing behind
            self.path.unlink(missing_ok=True)
        self.close()

    def missing(self, pictures: Iterable[PictureFile]) -> list[PictureFile]:
        """The pictures without a row. Raises ``UserError`` if one that has a row is not what was scored."""
        missing = []
        for picture in pictures:
            row = self.rows.get(picture.name)
            if row is None:
                missing.append(picture)
            else:
                self._form.check(row, picture, self.path)
        return missing

    def of(self, pictures: Iterable[PictureFile]) -> list[Row]:
        """The rows of these pictures, in their order: the file may hold others, and in another one."""
        return [self.rows[picture.name] for picture in pictures if picture.name in self.rows]

    def append(self, pictures: Sequence[PictureFile], scores: Sequence[Score], version: str) -> None:
        """Adds rows; they are on disk when it returns. Raises ``UserError`` if they can't be written."""
        found = {p.name: self._form.row(p, score, version) for p, score in zip(pictures, scores, strict=True)}
        rows = {name: row for name, row in found.items() if row is not None}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, rows.values())))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk
            raise UserError(
                f"--out {self.path} can't be written: {error}; make room, then the same command goes on"
            ) from error
        self.rows |= rows

    def remove(self, names: Container[str]) -> None:
        """Forget the rows of these pictures, in the file too. Raises ``UserError``."""
        kept = {name: row for name, row in self.rows.items() if name not in names}
        if len(kept) == len(self.rows):
            return
        beside = self.path.with_name(self.path.name + ".part")
        try:
            beside.write_text("".join(map(_line, kept.values())), encoding="utf-8")
            os.replace(beside, self.path)
            self._lock()
        except OSError as error:
            raise UserError(f"--out {self.path} can't be used: {error}") from error
        self.rows = kept

    def _lock(self) -> None:
        self.close()  # of the file that this one has taken the place of
        self._locked = self.path.open("ab")
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"--out {self.path} is being written by another run; wait for it, or name another"
            ) from error

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
            name, row = self._form.parse(line, self.path, number)
            self.rows[name] = row
        rest, start = content[len(whole) :], self._form.start
        if rest and not (rest.startswith(start) or start.startswith(rest)):
            raise UserError(f"{self.path}: its last line is no row of scores; choose another --out, or remove the file")
        if rest:  # a run was killed while it wrote
            os.truncate(self.path, len(whole))


def _line(row: Row) -> str:
    return json.dumps(row, allow_nan=False) + "\n"
