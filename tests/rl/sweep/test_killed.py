"""The real thing at small size: a sweep that is killed and typed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl.run_folder.records import read_metrics

ROOT = Path(__file__).resolve().parents[3]
SWEEP = """\
sweep:
  config: {root}/examples/geneval.yaml
  seeds: [0, 1, 2]
  set:
    train.steps: 3
    train.warmup_steps: 1
    data.prompts_per_step: 2
    rollout.group_size: 2
    data.train.options.per_task: 4
    data.eval.options.per_task: 2
    checkpoint.every: 1
    eval.every: 0
    tracking.to: []
  arms: {{anchor: {{}}, none: {{anchor: null}}}}
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_killed_sweep_runs_only_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SWEEP.format(root=ROOT))
    command = [
        sys.executable,
        "-m",
        "rl.sweep",
        str(tmp_path / "small.yaml"),
        "--folder",
        str(tmp_path / "s"),
        "--json",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    halfway = tmp_path / "s" / "anchor-seed1"
    deadline = time.monotonic() + 600
    while not read_metrics(halfway):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    done = tmp_path / "s" / "anchor-seed0" / "metrics.jsonl"
    before = done.stat().st_mtime_ns
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert done.stat().st_mtime_ns == before
    assert f"{tmp_path}/s/anchor-seed0: done before, kept" in again.stderr
    assert f"{halfway}: goes on, log in" in again.stderr
    assert [row.step for row in read_metrics(halfway)] == [0, 1, 2]
    result = json.loads(again.stdout)
    assert [row["seeds"] for row in result["rows"] if row["task"] == "overall"][:2] == [3, 3]
    assert (tmp_path / "s" / "sweep.html").stat().st_size < 5_000_000
    # a third time there is nothing to do, and another sweep of the same runs makes none of them again
    other = [*command[:-2], str(tmp_path / "t"), "--markdown"]
    third = subprocess.run(other, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert third.returncode == 0, third.stderr
    assert third.stderr.count("by the same code: reused") == 6
