"""The lines of ``python -m rewards.score``, and what they come to.

``{"file": "p17-3.png", "prompt": "p17", "reward": "ocr", "options": {}, "version": "...", "content": "...",
"value": 0.5, "passed": 0.0, "failure": null, "details": {...}}``. ``content`` is a hash of the picture and its prompt:
scores of something else are never taken for current. ``version``: of the reward's code (``rewards.pool.version``).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rewards.reference import file_hash
from rewards.remote.wire import json_safe
from rewards.score.files import file_bytes
from rewards.score.layout import PictureFile
from rewards.score.result_file import Row
from rl.types import Score, UserError

_KEYS = {"file", "prompt", "reward", "options", "version", "content", "value", "passed", "failure", "details"}


class ScoreRows:
    """Rows of one reward with its options; a failure has a row as well."""

    start = b'{"file": "'

    def __init__(self, use: str, options: Mapping[str, object]) -> None:
        self._use, self._options = use, dict(options)

    def parse(self, line: str, path: Path, number: int) -> tuple[str, Row]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or row.keys() != _KEYS:
            raise UserError(f"{path}:{number}: this line is no row of scores; choose another --out, or remove the file")
        if (row["reward"], row["options"]) != (self._use, self._options):
            raise UserError(
                f"{path} holds scores of the reward {row['reward']!r} with options {json.dumps(row['options'])}, "
                f"not of {self._use!r} with {json.dumps(self._options)}; choose another --out, or remove it"
            )
        return row["file"], row

    def check(self, row: Row, picture: PictureFile, path: Path) -> None:
        if row["content"] != _content(picture):
            raise UserError(
                f"{picture.path} or its prompt has changed since it was scored in {path}; choose another --out, or "
                f"remove that file"
            )

    def row(self, picture: PictureFile, score: Score, version: str) -> Row:
        return {
            "file": picture.name,
            "prompt": picture.prompt.id,
            "reward": self._use,
            "options": self._options,
            "version": version,
            "content": _content(picture),
            "value": score.value,
            "passed": score.passed,
            "failure": json_safe(score.failure),
            "details": json_safe(score.details),
        }


def _content(picture: PictureFile) -> str:
    """A hash of what is scored: the file, the prompt (not where its line stands), its pictures and reference file."""
    prompt = picture.prompt
    asked = [prompt.id, prompt.text, dict(prompt.metadata), file_hash(prompt.metadata)]
    content = json.dumps([*asked, *(one.digest for one in prompt.pictures)], sort_keys=True)
    return hashlib.sha256(file_bytes(picture.path) + content.encode()).hexdigest()[:16]


def failed_fraction(rows: Sequence[Row]) -> float:
    """Failures among the pictures that the reward applies to."""
    failed = sum(row["failure"] is not None for row in rows)
    applicable = failed + sum(row["value"] is not None for row in rows)
    return failed / applicable if applicable else 0.0


def summary(
    name: str, rows: Sequence[Row], *, unpainted: int, kept: int, out: Path, left_out: Sequence[str] = ()
) -> str:
    """What came out, for people: mean, passed, not applicable, failures by reason.

    ``left_out``: files that are called like pictures and are none.
    """
    values = [row["value"] for row in rows if isinstance(row["value"], float | int)]
    passed = [row["passed"] for row in rows if isinstance(row["passed"], float | int)]
    reasons = Counter(str(row["failure"]) for row in rows if row["failure"] is not None)
    failed = sum(reasons.values())
    lines = [f"{name}: {len(rows)} pictures, {kept} of them scored before, in {out}"]
    if values:
        lines.append(f"mean {sum(values) / len(values):.4f} over {len(values)}")
    if passed:
        lines.append(f"passed {100 * sum(passed) / len(passed):.1f} % of {len(passed)}")
    if others := len(rows) - len(values) - failed:
        lines.append(f"not applicable: {others}")
    if failed:
        lines.append(f"failed: {failed} (no value, not counted as 0)")
        lines += [f"  {count} x {reason}" for reason, count in reasons.most_common(10)]
    versions = Counter(str(row["version"]) for row in rows)
    if len(versions) > 1:
        counts = " and ".join(str(count) for count in versions.values())
        lines.append(
            f"by {len(versions)} versions of the reward's code ({counts} pictures): for one, score into another file"
        )
    if unpainted:
        lines.append(f"prompts without a picture: {unpainted}")
    if left_out:
        lines.append(f"left out, not being pictures by their ending: {len(left_out)} ({left_out[0]!r})")
    return "\n".join(lines)
