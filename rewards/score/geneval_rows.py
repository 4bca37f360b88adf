"""GenEval's official results: the fields of a line, the summary of all, and beside them the settings they came from."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from rewards.score.geneval_layout import name_in_folder
from rewards.score.layout import PictureFile
from rewards.score.result_file import Row
from rl.types import Score, UserError

_READ = {"filename", "tag", "correct", "metadata"}  # of the official keys


class GenEvalRows:
    """Official rows. A picture without a verdict has none: it is not counted as wrong, and is tried again."""

    start = b'{"filename": "'

    def parse(self, line: str, path: Path, number: int) -> tuple[str, Row]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}, is not JSON: remove it, or name another file with --out"
            ) from error
        if not isinstance(row, dict) or not row.keys() >= _READ:
            raise UserError(f"{path}, line {number}, is no row of results: remove it, or name another file with --out")
        return name_in_folder(Path(row["filename"])), row

    def check(self, row: Row, picture: PictureFile, path: Path) -> None:
        """The official fields have nothing to tell a changed picture by."""

    def row(self, picture: PictureFile, score: Score, version: str) -> Row | None:
        if score.value is None:
            return None
        metadata = picture.prompt.metadata
        return {
            "filename": str(picture.path),
            "tag": metadata["tag"],
            "prompt": metadata["prompt"],
            "correct": score.details["strict"],
            "reason": score.details["reason"],
            "metadata": json.dumps(metadata),
            "details": json.dumps(score.details["found"]),
        }


def check_settings(file: Path, settings: Mapping[str, object]) -> None:
    """Raises ``UserError`` if the results in ``file`` were made with others: no file mixes two detectors."""
    beside = _settings_file(file)
    try:
        then = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"{beside} can't be read ({error}): name another file than {file} with --out") from error
    for key in {**settings, **then}:
        if settings.get(key) != then.get(key):
            raise UserError(
                f"{file} was made with {key} {then.get(key)!r}, not {settings.get(key)!r}: use the same settings, or "
                f"name another file with --out"
            )


def write_settings(file: Path, settings: Mapping[str, object]) -> None:
    """Beside ``file``. Raises ``UserError``."""
    beside = _settings_file(file)
    try:
        beside.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{beside} can't be written ({error})") from error


def _settings_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.settings.json")


def summary(rows: Sequence[Row]) -> str:
    """Image and prompt accuracy (a prompt is correct if any of its pictures is), each task's, and their mean, in the
    official form. Raises ``ValueError`` without any rows."""
    if not rows:
        raise ValueError("no picture was scored")
    by_prompt, by_task = _grouped(rows, "metadata"), _grouped(rows, "tag")
    lines = ["Summary", "======="]
    lines += [f"Total images: {len(rows)}", f"Total prompts: {len(by_prompt)}"]
    lines += [f"% correct images: {_mean([bool(row['correct']) for row in rows]):.2%}"]
    lines += [f"% correct prompts: {_mean([any(values) for values in by_prompt.values()]):.2%}", ""]
    lines += ["Task breakdown", "=============="]
    lines += [f"{task:<16} = {_mean(values):.2%} ({sum(values)} / {len(values)})" for task, values in by_task.items()]
    overall = _mean([_mean(values) for values in by_task.values()])
    return "\n".join([*lines, "", f"Overall score (avg. over tasks): {overall:.5f}"])


def _grouped(rows: Sequence[Row], key: str) -> dict[str, list[bool]]:
    groups: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        groups[str(row[key])].append(bool(row["correct"]))
    return groups


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
