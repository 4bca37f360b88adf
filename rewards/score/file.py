"""The file of scores that a scoring run adds to and a later run goes on with: one JSON object per picture and line.

``{"file": "p17-3.png", "prompt": "p17", "reward": "ocr", "options": {}, "version": "...", "content": "...",
"value": 0.5, "passed": 0.0, "failure": null, "details": {...}}``. ``content`` is a hash of the picture and its prompt:
scores of something else are never taken for current. ``version``: of the reward's code (``rewards.pool.version``).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

from rewards.remote.wire import json_safe
from rewards.score.folder import PictureFile
from rl.config.schema import RewardComponent
from rl.types import Score, UserError

_KEYS = {"file", "prompt", "reward", "options", "version", "content", "value", "passed", "failure", "details"}
_START = b'{"file": "'


class ScoreFile:
    """The rows of ``path`` by picture file; ``append`` adds to both. One process at a time: the file is locked."""

    def __init__(self, path: Path, spec: RewardComponent, *, retry_failed: bool = False) -> None:
        """Reads what is there; a last line that was not finished is cut off, with ``retry_failed`` so are failures.

        Raises ``UserError`` if the file holds something else, or the scores of another reward or other options, or
        another run writes to it.
        """
        self.path, self._spec = path, spec
        self.rows: dict[str, dict[str, Any]] = {}
        self._locked: IO[bytes] | None = None
        try:
            self._lock()
            self._read()
            if retry_failed and any(row["failure"] is not None for row in self.rows.values()):
                self.rows = {name: row for name, row in self.rows.items() if row["failure"] is None}
                self._rewrite()
                self._lock()
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

    def __exit__(self, *_: object) -> None:
        self.close()

    def missing(self, pictures: Iterable[PictureFile]) -> list[PictureFile]:
        """The pictures without a row. Raises ``UserError`` if one that has a row is not what was scored."""
        missing = []
        for picture in pictures:
            row = self.rows.get(picture.path.name)
            if row is None:
                missing.append(picture)
            elif row["content"] != picture.content():
                raise UserError(
                    f"{picture.path} or its prompt has changed since it was scored in {self.path}; choose another "
                    f"--out, or remove that file"
                )
        return missing

    def append(self, pictures: Sequence[PictureFile], scores: Sequence[Score], version: str) -> None:
        """Adds rows; they are on disk when it returns. Raises ``UserError`` if they can't be written."""
        rows = [self._row(picture, score, version) for picture, score in zip(pictures, scores, strict=True)]
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, rows)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk
            raise UserError(
                f"--out {self.path} can't be written: {error}; make room, then the same command goes on"
            ) from error
        self.rows |= {row["file"]: row for row in rows}

    def _row(self, picture: PictureFile, score: Score, version: str) -> dict[str, Any]:
        return {
            "file": picture.path.name,
            "prompt": picture.prompt.id,
            "reward": self._spec.use,
            "options": dict(self._spec.options),
            "version": version,
            "content": picture.content(),
            "value": score.value,
            "passed": score.passed,
            "failure": json_safe(score.failure),
            "details": json_safe(score.details),
        }

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
            row = _parsed(line, f"{self.path}:{number}")
            self._check(row)
            self.rows[row["file"]] = row
        rest = content[len(whole) :]
        if rest and not (rest.startswith(_START) or _START.startswith(rest)):
            raise UserError(f"{self.path}: its last line is no row of scores; choose another --out, or remove the file")
        if rest:  # a run was killed while it wrote
            os.truncate(self.path, len(whole))

    def _check(self, row: Mapping[str, Any]) -> None:
        if (row["reward"], row["options"]) != (self._spec.use, self._spec.options):
            raise UserError(
                f"{self.path} holds scores of the reward {row['reward']!r} with options {json.dumps(row['options'])}, "
                f"not of {self._spec.use!r} with {json.dumps(self._spec.options)}; choose another --out, or remove it"
            )

    def _rewrite(self) -> None:
        beside = self.path.with_name(self.path.name + ".part")
        beside.write_text("".join(map(_line, self.rows.values())), encoding="utf-8")
        os.replace(beside, self.path)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _parsed(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict) or row.keys() != _KEYS:
        raise UserError(f"{where}: this line is no row of scores; choose another --out, or remove the file")
    return row
