"""What each call costs in seconds: a table in a file, or a run's own log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median, pstdev

from pydantic import ValidationError

from rl.config.messages import dotted, explain
from rl.config.section import Section
from rl.config.values import AtLeastOne, Bool, NotNegative, Positive
from rl.config.yaml12 import parse
from rl.run_folder.claim import CONFIG_FILE
from rl.run_folder.records import METRICS_FILE, Row, read_metrics
from rl.run_folder.usage import WORKER_WORDS, CallSpan, read_usage
from rl.types import UserError

H100 = Path(__file__).with_name("h100.yaml")
_SAMPLE, _PAINT, _SCORE = ("sample",), ("paint", "forward"), ("score", "guards")
_UPDATE = ("update", "decoder", "sync")


class CostTable(Section):
    """Seconds of calls, on one worker each."""

    source: str
    """Where the numbers are from; shown above every table."""
    measured: Bool
    sample_call: NotNegative = 0.0
    """A call of the sampler, whatever its size."""
    sample_sequence: Positive
    sample_most: AtLeastOne = 256
    """Sequences of one call."""
    paint_picture: Positive
    """What does not depend on the decoder's steps."""
    paint_step: NotNegative = 0.0
    """Per picture and decoder step, without guidance."""
    score_picture: NotNegative = 0.0
    update_call: NotNegative = 0.0
    """A step's update and its new weights, whatever the number of sequences and ranks."""
    update_sequence: Positive
    load: NotNegative = 0.0
    """New weights into a sampler or painter."""
    switch: NotNegative = 0.0
    """A step's change of turns where all work on the same devices."""
    jitter: NotNegative = 0.0
    """Standard deviation of a call's seconds, as a share."""
    picture_mb: Positive | None = None


def read_costs(file: Path) -> CostTable:
    """Raises UserError with every mistake."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"--costs {file}: can't be read ({reason}); a table to begin with is {H100}") from error
    tree, problems = parse(text, str(file))
    if problems:
        raise UserError(str(problems[0]))
    try:
        return CostTable.model_validate(tree.plain())
    except ValidationError as errors:
        wrong = [f"{dotted(error['loc'])} {explain(error)}" for error in errors.errors(include_url=False)]
        raise UserError(f"--costs {file}: {'; '.join(wrong)}; a whole table is {H100}") from errors


def costs_of_run(run: Path, sequences: int) -> CostTable:
    """Medians of the run's steps, the first left out as a warm-up where there are others; ``sequences`` are a step's.

    Each stage counts as proportional to its pictures. What the rewards did while pictures were still being painted
    does not show in the log. Of a run on a cluster the calls of its samplers and painters are added up, in which they
    took new weights as well.
    """
    if not (run / CONFIG_FILE).is_file():
        raise UserError(
            f"--run {run} is no run folder (no {CONFIG_FILE}); give the folder of a run that has logged steps"
        )
    rows = [row for row in read_metrics(run) if row.metrics.get("images")]
    if not rows:
        raise UserError(f"--run {run}: {METRICS_FILE} has no step with pictures yet; let the run log a few steps")
    rows = rows[1:] or rows
    calls = {row.step: row.calls for row in read_usage(run)}
    steps = [_stages(row, calls.get(row.step, ())) for row in rows]
    found = {name: median(step[name] / _images(row) for step, row in zip(steps, rows, strict=True)) for name in _STAGES}
    for name, seconds in found.items():
        if seconds <= 0 and name != "score":
            raise UserError(
                f"--run {run}: {METRICS_FILE} has no seconds for {' or '.join(_STAGES[name])}, so it can't say what "
                f"{name} costs; give the log of a run that samples, paints and learns, or --costs FILE"
            )
    per_sequence = median(map(_images, rows)) / sequences
    return CostTable(
        source=f"{run}, medians of {len(rows)} steps",
        measured=True,
        sample_sequence=found["sample"] * per_sequence,
        sample_most=sequences,
        paint_picture=found["paint"],
        score_picture=found["score"],
        update_sequence=found["update"] * per_sequence,
        jitter=_jitter([sum(step.values()) for step in steps]),
    )


_STAGES: Mapping[str, tuple[str, ...]] = {"sample": _SAMPLE, "paint": _PAINT, "score": _SCORE, "update": _UPDATE}


def _stages(row: Row, calls: Sequence[CallSpan]) -> dict[str, float]:
    """Seconds of a step, in this process and in workers."""
    found = {name: sum(row.seconds.get(stage, 0.0) for stage in stages) for name, stages in _STAGES.items()}
    for name, word in WORKER_WORDS.items():
        found[name] += sum(call.end - call.start for call in calls if call.worker.startswith(f"{word}-"))
    return found


def _images(row: Row) -> float:
    return row.metrics["images"] or 0.0


def _jitter(seconds: Sequence[float]) -> float:
    return pstdev(seconds) / fmean(seconds) if len(seconds) > 1 else 0.0
