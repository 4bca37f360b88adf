"""Score a folder of pictures: ``python -m rewards.score --reward ocr --prompts p.jsonl FOLDER --out scores.jsonl``.

A picture is called ``<prompt id>.png`` or ``<prompt id>-<n>.png``; the prompt file is that of a run (JSON lines). Rows
are written batch by batch and the same command goes on where it was interrupted; ``--retry-failed`` scores failures
again. Exit codes: 0 done, 2 a user's mistake, 3 more than ``--max-failed-fraction`` failed, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rewards.command_line import add_reward_arguments, named_components, positive_float, positive_int
from rewards.pool.pool import RewardPool
from rewards.score.file import ScoreFile
from rewards.score.folder import PictureFile, find_pictures, in_batches
from rl.config.schema import RewardPoolConfig
from rl.data.prompts import jsonl
from rl.types import Sample, Score, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, score what is missing, print the summary; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        return score_folder(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on from {given.out}", file=sys.stderr)
        return 130


def score_folder(given: argparse.Namespace) -> int:
    """The command. Raises ``UserError`` on wrong arguments or files and on a reward that cannot be loaded."""
    specs = named_components(given.rewards, given.workers)
    if len(specs) != 1:
        raise UserError(f"--reward is given {len(specs)} times; score with one reward at a time, each with its --out")
    name, spec = next(iter(specs.items()))
    prompts = {prompt.id: prompt for prompt in jsonl(path=given.prompts)}
    pictures = find_pictures(given.folder, prompts)
    with ScoreFile(given.out, spec, retry_failed=given.retry_failed) as file:
        missing = file.missing(pictures)
        if missing:
            with RewardPool({name: spec}, RewardPoolConfig(timeout_s=given.timeout)) as pool:
                _score(pool, name, in_batches(missing, given.batch_size), file, len(pictures))
    rows = [file.rows[picture.path.name] for picture in pictures]
    unpainted = len(prompts) - len({picture.prompt.id for picture in pictures})
    print(summary(name, rows, unpainted=unpainted, kept=len(pictures) - len(missing), out=given.out))
    return 3 if failed_fraction(rows) > given.max_failed_fraction else 0


def _score(
    pool: RewardPool, name: str, batches: Sequence[Sequence[PictureFile]], file: ScoreFile, pictures: int
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    missing = sum(map(len, batches))
    version = pool.versions[name] or "unknown"  # more than one, if the code changes at this very moment
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task(name, total=pictures, completed=pictures - missing)
        for batch, loaded in _loaded_ahead(batches):
            samples = [entry for entry in loaded if isinstance(entry, Sample)]
            scored = iter(pool.score(samples)[name] if samples else ())
            scores = [next(scored) if isinstance(entry, Sample) else entry for entry in loaded]
            file.append(batch, scores, version)
            progress.advance(bar, len(batch))


def _loaded_ahead(
    batches: Sequence[Sequence[PictureFile]],
) -> Iterator[tuple[Sequence[PictureFile], list[Sample | Score]]]:
    """Each batch with its samples; the next one is read while this one is being scored."""
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(_load, batches[0])
        for index, batch in enumerate(batches):
            loaded = ahead.result()
            if index + 1 < len(batches):
                ahead = reader.submit(_load, batches[index + 1])
            yield batch, loaded


def _load(batch: Sequence[PictureFile]) -> list[Sample | Score]:
    return [picture.load() for picture in batch]


def failed_fraction(rows: Sequence[dict[str, object]]) -> float:
    """Failures among the pictures that the reward applies to."""
    failed = sum(row["failure"] is not None for row in rows)
    applicable = failed + sum(row["value"] is not None for row in rows)
    return failed / applicable if applicable else 0.0


def summary(name: str, rows: Sequence[dict[str, object]], *, unpainted: int, kept: int, out: Path) -> str:
    """What came out, for people: mean, passed, not applicable, failures by reason."""
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
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m rewards.score", description=__doc__.partition("\n")[0])
    add_reward_arguments(parser)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="with <prompt id>.png or <prompt id>-<n>.png")
    add("--prompts", required=True, metavar="FILE", help="JSON lines with prompt, id and metadata")
    add("--out", type=Path, required=True, metavar="FILE", help="JSON lines, one row per picture; continued if there")
    add("--retry-failed", action="store_true", help="score the pictures again that failed before")
    add("--batch-size", type=positive_int, default=32, metavar="N", help="pictures at a time (default 32)")
    add("--timeout", type=positive_float, default=60.0, metavar="S", help="of a batch in a worker (default 60 s)")
    add("--max-failed-fraction", type=float, default=0.05, metavar="X", help="exit code 3 above it (default 0.05)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
