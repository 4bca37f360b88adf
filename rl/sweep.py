"""``python -m rl.sweep CONFIG --seeds 0 1 2 [--parallel 2] [key=value ...] [key=a,b,c ...]``: settings x seeds.

Every run is its own ``python -m rl.launch`` process with its own folder. ``key=a,b`` makes one setting per value;
several of them are crossed. The table has, per task, the held-out score before, after and the difference: mean over
seeds, range, and Student's 95 % t interval. Written to ``sweep.json`` and ``sweep.md`` in the sweep's folder.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rl.evaluate import OVERALL, load_all
from rl.records import write_atomically
from rl.statistics import Estimate, t_interval
from rl.tables import estimate, signed
from rl.types import UserError

LAUNCH = (sys.executable, "-m", "rl.launch")
_TAIL_LINES = 15


@dataclass(frozen=True)
class Job:
    """One run of the sweep: a setting (the overrides that vary) and a seed."""

    setting: str
    seed: int
    folder: Path
    command: tuple[str, ...]

    @property
    def log(self) -> Path:
        return self.folder.with_name(self.folder.name + ".log")


@dataclass(frozen=True)
class Finished:
    """``code`` 0: ran to its end with evaluations; else ``tail`` holds its last lines."""

    job: Job
    code: int
    tail: str


@dataclass(frozen=True)
class Spread:
    """Over seeds: mean with t interval, and the extremes."""

    estimate: Estimate
    lowest: float
    highest: float


@dataclass(frozen=True)
class SweepRow:
    setting: str
    reward: str
    task: str
    seeds: int
    before: Spread
    after: Spread
    difference: Spread


def settings(overrides: Sequence[str]) -> tuple[list[str], list[tuple[str, ...]]]:
    """``["a=1", "b=2,3"]`` -> the fixed ones ``["a=1"]`` and the crossed ones ``[("b=2",), ("b=3",)]``.

    A comma inside brackets or quotes does not split: ``train.betas=[0.9,0.95]`` is one value. Raises UserError
    for anything that is not ``key=value``, and for ``run.seed`` and ``run.folder``, which the sweep sets itself.
    """
    fixed, varied = [], []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override: write key=value, or key=a,b,c for one run of each")
        if key in ("run.seed", "run.folder"):
            raise UserError(f"{key} is set by the sweep: use --seeds and --folder instead of {override!r}")
        values = split_values(value)
        if len(values) == 1:
            fixed.append(override)
        else:
            varied.append([f"{key}={one}" for one in values])
    return fixed, list(itertools.product(*varied))


def split_values(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes."""
    values, depth, quote, start = [], 0, "", 0
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            values.append(text[start:index])
            start = index + 1
    return [*values, text[start:]]


def plan(
    config: Path, seeds: Sequence[int], overrides: Sequence[str], folder: Path, launch: Sequence[str] = LAUNCH
) -> list[Job]:
    """All jobs, setting by setting. Raises UserError for repeated seeds or a config that is not there."""
    if not config.is_file():
        raise UserError(f"{config} is not a file: give the YAML of one run")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {' '.join(map(str, seeds))} names a seed twice: every run needs its own")
    fixed, crossed = settings(overrides)
    jobs = []
    for number, setting in enumerate(crossed):
        for seed in seeds:
            name = f"seed{seed}" if len(crossed) == 1 else f"setting{number}-seed{seed}"
            target = folder / name
            command = (*launch, str(config), *fixed, *setting, f"run.seed={seed}", f"run.folder={target}")
            jobs.append(Job(" ".join(setting), seed, target, command))
    return jobs


def run_job(job: Job) -> Finished:
    """Runs the process to its end, its output in ``<folder>.log``."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("wb") as log:
        code = subprocess.run(job.command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    with job.log.open(encoding="utf-8", errors="replace") as lines:
        tail = "".join(deque(lines, maxlen=_TAIL_LINES))
    if code == 0 and len(load_all(job.folder)) < 2:
        return Finished(
            job, 1, tail + "\nit ended without an evaluation before and one after: see eval.at_start, at_end"
        )
    return Finished(job, code, "" if code == 0 else tail)


def run_all(jobs: Sequence[Job], parallel: int = 1) -> list[Finished]:
    """In sequence, or ``parallel`` at a time as Ray tasks; a failed run does not stop the others."""
    if parallel <= 1:
        return [_told(run_job(job)) for job in jobs]
    import ray  # needed only here; costs seconds

    ray.init(num_cpus=parallel, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        waiting = {ray.remote(num_cpus=1, max_retries=0)(run_job).remote(job): job for job in jobs}
        finished: dict[Path, Finished] = {}
        while len(finished) < len(jobs):
            [ready], _ = ray.wait([task for task, job in waiting.items() if job.folder not in finished])
            finished[waiting[ready].folder] = _told(ray.get(ready))
    finally:
        ray.shutdown()
    return [finished[job.folder] for job in jobs]


def _told(finished: Finished) -> Finished:
    job = finished.job
    outcome = "done" if finished.code == 0 else f"FAILED with exit code {finished.code}"
    print(f"{job.folder}: {outcome}", flush=True)
    return finished


def summarise(jobs: Sequence[Job]) -> list[SweepRow]:
    """Per setting, reward and task (and overall), over the seeds whose first and last evaluation have it."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for job in jobs:
        evaluations = load_all(job.folder)
        before, after = evaluations[0].results, evaluations[-1].results
        for reward, tasks in after.items():
            for task, result in tasks.items():
                old = before.get(reward, {}).get(task)
                if result.estimate is not None and old is not None and old.estimate is not None:
                    pair = (old.estimate.mean, result.estimate.mean)
                    found.setdefault((job.setting, reward, task), []).append(pair)
    return [
        SweepRow(
            *key,
            seeds=len(pairs),
            before=_spread([before for before, _ in pairs]),
            after=_spread([after for _, after in pairs]),
            difference=_spread([after - before for before, after in pairs]),
        )
        for key, pairs in found.items()
    ]


def _spread(values: Sequence[float]) -> Spread:
    return Spread(t_interval(values), min(values), max(values))


def markdown(rows: Sequence[SweepRow], failures: Sequence[Finished]) -> str:
    """The table for a README: ``mean [95 % t interval] (lowest .. highest)``; then what failed, and how."""
    several = len({row.setting for row in rows}) > 1
    head = ["setting"] * several + ["reward", "task", "seeds", "before", "after", "difference"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [f"`{row.setting}`"] * several + [row.reward, row.task, str(row.seeds)]
        cells += [_cell(row.before, estimate), _cell(row.after, estimate), _cell(row.difference, signed)]
        bold = row.task == OVERALL
        lines.append("| " + " | ".join(f"**{cell}**" if bold else cell for cell in cells) + " |")
    lines += ["", "Mean over seeds [95 % Student t interval] (lowest .. highest seed); held-out prompts, same seeds."]
    for failed in failures:
        lines += ["", f"**{failed.job.folder.name} failed with exit code {failed.code}** (`{failed.job.log}`):"]
        lines += ["```", failed.tail.strip(), "```"]
    return "\n".join(lines) + "\n"


def _cell(spread: Spread, written: Any) -> str:
    text: str = written(spread.estimate)
    return text if spread.lowest == spread.highest else f"{text} ({spread.lowest:.3f} .. {spread.highest:.3f})"


def sweep(
    config: Path,
    seeds: Sequence[int],
    overrides: Sequence[str],
    folder: Path,
    parallel: int = 1,
    launch: Sequence[str] = LAUNCH,
) -> int:
    """Runs everything and writes the table; 0 if every run succeeded, 1 otherwise."""
    jobs = plan(config, seeds, overrides, folder, launch)
    taken = [job.folder for job in jobs if job.folder.exists()]
    if taken:
        raise UserError(f"{taken[0]} exists already: choose another --folder, or remove the old sweep")
    finished = run_all(jobs, parallel)
    failures = [one for one in finished if one.code != 0]
    rows = summarise([one.job for one in finished if one.code == 0])
    record = {
        "config": str(config),
        "runs": [{**_named(one), "code": one.code, "tail": one.tail} for one in finished],
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(folder / "sweep.json", json.dumps(record, indent=1) + "\n")
    text = markdown(rows, failures)
    write_atomically(folder / "sweep.md", text)
    print(text, flush=True)
    return 1 if failures else 0


def _named(finished: Finished) -> dict[str, Any]:
    job = finished.job
    return {"setting": job.setting, "seed": job.seed, "folder": str(job.folder), "command": list(job.command)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, 1 if a run failed, 2 for a mistake in the command."""
    parser = argparse.ArgumentParser(prog="python -m rl.sweep", description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="key=a,b,c makes one setting of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parallel", type=int, default=1, help="runs at a time (Ray); default 1")
    parser.add_argument("--folder", type=Path, help="default runs/<config>-sweep")
    found = parser.parse_intermixed_args(arguments)
    folder = found.folder or Path("runs") / f"{found.config.stem}-sweep"
    try:
        return sweep(found.config, found.seeds, found.overrides, folder, found.parallel)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
