"""Scoring a folder, whatever its layout: pictures are read, scored and written batch by batch, with a bar on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rewards.batches import batches_by_group
from rewards.score.layout import Layout, PictureFile, load
from rewards.score.result_file import ResultFile
from rl.process.output import shown
from rl.types import Sample, Score

Scorer = Callable[[Sequence[Sample]], Sequence[Score]]


def score_missing(
    layout: Layout,
    missing: Sequence[PictureFile],
    results: ResultFile,
    scorer: Scorer,
    *,
    title: str,
    batch_size: int,
    version: str = "",
) -> dict[Path, str]:
    """Score the pictures that ``results`` lacks into it; the reasons of those that failed, by file."""
    failed: dict[Path, str] = {}
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(shown(title), total=len(layout.pictures), completed=len(layout.pictures) - len(missing))
        for batch, loaded in _loaded_ahead(in_batches(missing, batch_size, whole_groups=layout.whole_groups)):
            samples = [entry for entry in loaded if isinstance(entry, Sample)]
            scored = iter(scorer(samples) if samples else ())
            scores = [next(scored) if isinstance(entry, Sample) else entry for entry in loaded]
            results.append(batch, scores, version)
            reasons = zip(batch, (score.failure for score in scores), strict=True)
            failed |= {picture.path: reason for picture, reason in reasons if reason is not None}
            progress.advance(bar, len(batch))
    return failed


def in_batches(pictures: Sequence[PictureFile], size: int, *, whole_groups: bool) -> list[list[PictureFile]]:
    """At most ``size`` each, unless a prompt that has more must stay whole."""
    return [[pictures[index] for index in run] for run in batches_by_group(pictures, size, whole_groups=whole_groups)]


def _loaded_ahead(
    batches: Sequence[Sequence[PictureFile]],
) -> Iterator[tuple[Sequence[PictureFile], list[Sample | Score]]]:
    """Each batch with its samples; the next one is read while this one is being scored."""

    def loaded(batch: Sequence[PictureFile]) -> list[Sample | Score]:
        return [load(picture) for picture in batch]

    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(loaded, batches[0])
        for batch, following in zip(batches, [*batches[1:], []], strict=True):
            ready, ahead = ahead.result(), reader.submit(loaded, following)
            yield batch, ready
