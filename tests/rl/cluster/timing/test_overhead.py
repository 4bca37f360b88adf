"""CPU seconds a picture: a run on Ray, in turn with its updates, against the same run in one process."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.rl.run_case import ROOT, command, environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
FIRST, LAST = 2, 20  # steps that are done when the clock begins and ends: what loads is not counted
PICTURES = 16 * 8
CONFIG = [
    "examples/geneval.yaml",
    "data.prompts_per_step=16",
    "eval.at_start=false",
    "eval.at_end=false",
    "eval.every=0",
    "checkpoint.every=0",
    "tracking.pictures_every=0",
    "tracking.to=[]",
    f"train.steps={LAST + 1}",
]
AHEAD = ["loop=ahead", "loop.staleness=0", "loop.in_turn=true"]
SAME_WORK = "rollout.hidden_states=trainer"
"""A painter reads what was sampled again, for hidden states go nowhere; an engine in the run's process can spare it."""
MOST = 1.10


def cpu_seconds_a_picture(folder: Path, *overrides: str) -> float:
    """Of the run and of all processes below it, Ray's own as well."""
    line = command(*CONFIG, *overrides, f"run.folder={folder}")
    with subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as process:
        try:
            begin, end = (_cpu_seconds(process, folder / "metrics.jsonl", steps) for steps in (FIRST, LAST))
        finally:
            process.terminate()
    return (end - begin) / ((LAST - FIRST) * PICTURES)


def _cpu_seconds(process: subprocess.Popen[bytes], log: Path, steps: int) -> float:
    """That all of them have used when so many steps are done."""
    while not log.exists() or log.read_text().count("\n") < steps:
        assert process.poll() is None
        time.sleep(0.02)
    whole = psutil.Process(process.pid)
    return sum(sum(one.cpu_times()[:2]) for one in (whole, *whole.children(recursive=True)))


def test_a_cluster_costs_little_more_than_one_process(tmp_path: Path) -> None:
    least = cpu_seconds_a_picture(tmp_path / "least")
    serial = cpu_seconds_a_picture(tmp_path / "serial", SAME_WORK)
    workers = cpu_seconds_a_picture(tmp_path / "workers", *AHEAD)
    print(
        f"CPU seconds a picture: one process {serial:.4f}, on Ray {workers:.4f}: {workers / serial:.2f} x; one process "
        f"whose engine spares a forward {least:.4f}: {workers / least:.2f} x"
    )
    assert workers / serial < MOST
