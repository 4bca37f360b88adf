"""The file of scores that a scoring run adds to and a later run goes on with: one JSON object per picture and line.

``{"file": "p17-3.png", "prompt": "p17", "reward": "ocr", "options": {}, "content": "...", "value": 0.5, "passed": 0.0,
"failure": null, "details": {...}}``. ``content`` is a hash of the picture and its prompt: scores of something else are
never taken for current.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.base import RewardSpec
from rewards.picture_folder import PictureFile
from rewards.wire import json_safe
from rl.types import Score, UserError

_KEYS = {"file", "prompt", "reward", "options", "content", "value", "passed", "failure", "details"}


class ScoreFile:
    """The rows of ``path`` by picture file; ``append`` adds to both."""

    def __init__(self, path: Path, spec: RewardSpec, *, retry_failed: bool = False) -> None:
        """Reads what is there; a last line that was not finished is cut off, with ``retry_failed`` so are failures.

        Raises ``UserError`` if the file holds something else, or the scores of another reward or other options.
        """
        self.path, self._spec = path, spec
        self.rows: dict[str, dict[str, Any]] = {}
        try:
            self._read()
            if retry_failed and any(row["failure"] is not None for row in self.rows.values()):
                self.rows = {name: row for name, row in self.rows.items() if row["failure"] is None}
                self._rewrite()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--out {path} can't be used: {error}") from error

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

    def append(self, pictures: Sequence[PictureFile], scores: Sequence[Score]) -> None:
        """Adds rows; they are on disk when it returns."""
        rows = [self._row(picture, score) for picture, score in zip(pictures, scores, strict=True)]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(map(_line, rows)))
            file.flush()
            os.fsync(file.fileno())
        self.rows |= {row["file"]: row for row in rows}

    def _row(self, picture: PictureFile, score: Score) -> dict[str, Any]:
        return {
            "file": picture.path.name,
            "prompt": picture.prompt.id,
            "reward": self._spec.use,
            "options": dict(self._spec.options),
            "content": picture.content(),
            "value": score.value,
            "passed": score.passed,
            "failure": json_safe(score.failure),
            "details": json_safe(score.details),
        }

    def _read(self) -> None:
        if not self.path.exists():
            self.path.touch()
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
            row = _parsed(line, f"{self.path}:{number}")
            self._check(row)
            self.rows[row["file"]] = row
        if len(whole) < len(content):  # a run was killed while it wrote
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
