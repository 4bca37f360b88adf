"""Score a folder of pictures by GenEval's rules, one line of ``results.jsonl`` a picture, resumable at any line.

A picture that cannot be read or scored is a failure: it has no line, is not counted as wrong, and is tried again by
``--resume``. Beside the results lies ``results.jsonl.settings.json``, so that no file mixes two detectors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewards.base import describe_exception, failures
from rewards.library.geneval.reward import GenEval
from rewards.score.geneval_folder import PromptFolder, read_picture
from rl.types import Prompt, Sample, Score, UserError

Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One picture to score."""

    file: Path
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """One picture without a verdict, or one prompt without pictures."""

    file: Path
    reason: str


def jobs(layout: Sequence[PromptFolder]) -> tuple[list[Job], list[Failure]]:
    """Every picture, and a failure for every prompt that has none."""
    found = [Job(file, prompt.metadata) for prompt in layout for file in prompt.pictures]
    missing = [Failure(prompt.path, "no pictures in samples/") for prompt in layout if not prompt.pictures]
    return found, missing


class Results:
    """The results file: official fields, appended and flushed batch by batch."""

    def __init__(self, file: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        """Raises ``UserError`` if the file exists and ``resume`` is off, or was made with other settings."""
        self.file, self._settings_file = file, file.with_name(f"{file.name}.settings.json")
        self._settings = settings
        self.rows: list[Row] = []
        if file.exists() and not resume:
            raise UserError(f"{file} exists: add --resume to go on with it, or name another file with --out")
        if file.exists():
            self._check()
            self.rows = _whole_rows(file)

    def _check(self) -> None:
        then = json.loads(self._settings_file.read_text()) if self._settings_file.exists() else {}
        for key in {**self._settings, **then}:
            if self._settings.get(key) != then.get(key):
                raise UserError(
                    f"{self.file} was made with {key} {then.get(key)!r}, not {self._settings.get(key)!r}: use the same "
                    f"settings, or name another file with --out"
                )

    def open(self) -> None:
        """Write the settings and the rows so far, without a line that a kill cut off; only now anything is written."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._settings_file.write_text(json.dumps(self._settings, indent=2) + "\n")
        self.file.write_text("".join(json.dumps(row) + "\n" for row in self.rows), encoding="utf-8")

    def missing(self, found: Sequence[Job]) -> list[Job]:
        """The pictures without a row, by whatever path the folder was named then and is now."""
        done = {_place(Path(row["filename"])) for row in self.rows}
        return [job for job in found if _place(job.file) not in done]

    def add(self, rows: Sequence[Row]) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        self.rows.extend(rows)


def _place(file: Path) -> str:
    """``00000/samples/0000.png``: where a picture is inside its folder."""
    return "/".join(file.parts[-3:])


def _whole_rows(file: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break  # the last one, cut off
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise UserError(
                f"{file}, line {number}, is not JSON: remove it, or name another file with --out"
            ) from error
    return rows


def score(
    todo: Sequence[Job], reward: GenEval, results: Results, *, batch_size: int, on_batch: Callable[[int], None]
) -> list[Failure]:
    """Score ``todo`` into ``results``; ``on_batch`` hears how many pictures were dealt with. The failures."""
    failed: list[Failure] = []
    for batch in (todo[i : i + batch_size] for i in range(0, len(todo), batch_size)):
        samples, unreadable = _load(batch)
        scores = _scored(reward, [sample for _, sample in samples])
        results.add([_row(job, one) for (job, _), one in zip(samples, scores, strict=True) if one.value is not None])
        failed += unreadable
        failed += [
            Failure(job.file, one.failure)
            for (job, _), one in zip(samples, scores, strict=True)
            if one.failure is not None
        ]
        on_batch(len(batch))
    return failed


def _scored(reward: GenEval, samples: Sequence[Sample]) -> list[Score]:
    """What raises is tried again one by one, so that it costs its own picture only."""
    try:
        return reward(samples)
    except Exception as error:  # a detector may raise anything
        if len(samples) > 1:
            return [score for sample in samples for score in _scored(reward, [sample])]
        return failures(1, str(error) if isinstance(error, UserError) else describe_exception(error))


def _load(batch: Sequence[Job]) -> tuple[list[tuple[Job, Sample]], list[Failure]]:
    samples, unreadable = [], []
    for job in batch:
        name, text = str(job.file), job.metadata["prompt"]
        try:
            picture = read_picture(job.file)
        except ValueError as error:
            unreadable.append(Failure(job.file, str(error)))
        else:
            samples.append((job, Sample(name, text, Prompt(text, text, job.metadata), picture)))
    return samples, unreadable


def _row(job: Job, score: Score) -> Row:
    return {
        "filename": str(job.file),
        "tag": job.metadata["tag"],
        "prompt": job.metadata["prompt"],
        "correct": score.details["strict"],
        "reason": score.details["reason"],
        "metadata": json.dumps(job.metadata),
        "details": json.dumps(score.details["found"]),
    }


def in_order(rows: Sequence[Row], layout: Sequence[PromptFolder]) -> Iterator[Row]:
    """The rows of this layout's pictures, in its order: a resumed file may hold others, or be out of order."""
    by_place = {_place(Path(row["filename"])): row for row in rows}
    for prompt in layout:
        yield from (by_place[place] for file in prompt.pictures if (place := _place(file)) in by_place)
