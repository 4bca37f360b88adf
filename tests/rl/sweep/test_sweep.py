from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from rl.config.load import dump, load
from rl.data.prompt_list import PromptList
from rl.preflight.prompts import check_data
from rl.run_folder.inputs import fingerprints, record_inputs
from rl.sweep.__main__ import sweep
from rl.sweep.arguments import read_arguments
from rl.sweep.board import Board, table
from rl.sweep.member import Member, why
from rl.sweep.plan import SweepRun, plan
from rl.sweep.progress import progress, to_go
from rl.tracking.terminal import Terminal
from rl.types import UserError
from tests.rl.synthetic_run import write_run

ROOT = Path(__file__).resolve().parents[3]

# Stands for rl.launch: copies a finished run to the folder it is told to use, or fails where the config says so.
LAUNCHER = """
import os, shutil, sys
options = dict(one.split("=", 1) for one in sys.argv[2:] if one != "--resume")
print("resumed" if "--resume" in sys.argv else "new", os.environ.get("OMP_NUM_THREADS"))
if "# fails: " + options["run.seed"] in open(sys.argv[1]).read():
    print("loading"); print("error: rewards.ocr: no such model", file=sys.stderr); sys.exit(2)
gain = options.get("train.lr", "0.8")
shutil.copytree({runs!r} + "/gain" + gain + "-seed" + options["run.seed"], options["run.folder"], dirs_exist_ok=True)
"""


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    folder = tmp_path_factory.mktemp("finished")
    for gain, seeds in ((0.8, (0, 1, 2)), (0.1, (0,)), (0.9, (0,))):
        for seed in seeds:
            write_run(folder / f"gain{gain}-seed{seed}", seed=seed, steps=2, per_task=10, gain=gain)
    script = folder / "launcher.py"
    script.write_text(LAUNCHER.format(runs=str(folder)))
    return sys.executable, "-S", str(script)


def config(tmp_path: Path, failing_seed: str = "none") -> Path:
    path = tmp_path / "geneval.yaml"
    extends = f"extends: {ROOT / 'examples/geneval.yaml'}"
    path.write_text(f"{extends}\ntrain: {{steps: 2, warmup_steps: 0}}\n# fails: {failing_seed}\n")
    return path


def run_sweep(launch: Sequence[str], *arguments: object) -> int:
    return sweep(read_arguments([str(one) for one in arguments]), launch)


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "sweep.jsonl").read_text().splitlines()]


def test_three_seeds_make_a_result(tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, 1, 2, "--folder", folder, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    overall = [row for row in result["rows"] if row["task"] == "overall" and row["reward"] == "geneval"]
    assert len(overall) == 1
    # the same numbers, read from the runs by hand
    afters = []
    for seed in range(3):
        outcomes = json.loads((folder / f"seed{seed}" / "evaluation-2.json").read_text())["outcomes"]
        tasks: dict[str, list[float]] = {}
        for one in outcomes:
            tasks.setdefault(one["task"], []).append(one["value"])
        afters.append(sum(sum(values) / len(values) for values in tasks.values()) / len(tasks))
    assert overall[0]["after"]["estimate"]["mean"] == pytest.approx(sum(afters) / 3)
    assert (overall[0]["after"]["lowest"], overall[0]["after"]["highest"]) == pytest.approx((min(afters), max(afters)))
    assert [line["scores"]["geneval"]["overall"]["after"] for line in lines_of(folder)] == pytest.approx(afters)  # type: ignore[index]
    assert [line["state"] for line in lines_of(folder)] == ["done"] * 3
    assert "What did it learn?" in (folder / "sweep.html").read_text()


def test_a_failed_run_is_named_and_the_others_count(
    tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, given = tmp_path / "sweep", config(tmp_path, failing_seed="1")
    arguments = [given, "train.lr=0.1,0.9", "--seeds", 0, 1, "--folder", folder, "--markdown"]
    assert run_sweep(launch, *arguments) == 1
    text, told = capsys.readouterr()
    assert f"{folder}/train.lr=0.1-seed1: FAILED, exit code 2: rewards.ocr: no such model" in told
    assert "**train.lr=0.1-seed1 failed** (exit code 2: rewards.ocr: no such model)" in text
    assert "`train.lr=0.9` | geneval | counting | 1 |" in text
    assert "Warning: train.lr=0.1, seed 1, is missing (failed: exit code 2: rewards.ocr: no such model)." in text
    assert "Warning: Fewer than 3 seeds: train.lr=0.1 (1) and train.lr=0.9 (1)." in text
    assert [line["state"] for line in lines_of(folder)] == ["done", "failed", "done", "failed"]
    assert "no such model" in (folder / "sweep.html").read_text()
    # why stays known when only the page is made again
    assert run_sweep(launch, *arguments, "--collect") == 1
    assert "seed 1, is missing (failed: exit code 2: rewards.ocr: no such model)." in capsys.readouterr().out
    assert [line["state"] for line in lines_of(folder)] == ["kept", "failed", "kept", "failed"]


def test_a_run_without_evaluations_is_a_failure(tmp_path: Path) -> None:
    assert run_sweep((sys.executable, "-c", "pass"), config(tmp_path), "--seeds", 0, "--folder", tmp_path / "s") == 1
    [line] = lines_of(tmp_path / "s")
    assert line["reason"] == "it ended without an evaluation before and one after: see eval.at_start, at_end"


def test_two_at_a_time_are_the_same_as_one_and_share_the_threads(
    tmp_path: Path, launch: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, parallel in (("one", 1), ("two", 2)):
        arguments = [config(tmp_path), "--seeds", 0, 1, "--folder", tmp_path / name, "--parallel", parallel]
        assert run_sweep(launch, *arguments) == 0
    one, two = ([line["scores"] for line in lines_of(tmp_path / name)] for name in ("one", "two"))
    assert one == two
    threads = max(1, len(os.sched_getaffinity(0)) // 2)
    assert (tmp_path / "two" / "seed1.log").read_text() == f"new {threads}\n"
    assert (tmp_path / "one" / "seed1.log").read_text() == "new None\n"


def test_the_same_sweep_again_keeps_what_is_done(
    tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    assert run_sweep(launch, config(tmp_path, failing_seed="1"), "--seeds", 0, 1, "--folder", folder) == 1
    first = (folder / "seed0.log").stat().st_mtime_ns
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, 1, 2, "--folder", folder) == 0
    assert (folder / "seed0.log").stat().st_mtime_ns == first
    assert f"{folder}/seed0: done before, kept\n" in capsys.readouterr().err
    assert [line["state"] for line in lines_of(folder)] == ["kept", "done", "done"]


def test_a_run_that_was_stopped_is_resumed(tmp_path: Path, launch: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, "--folder", folder) == 0
    metrics = folder / "seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, "--folder", folder) == 0
    words = [line.split()[0] for line in (folder / "seed0.log").read_text().splitlines()]
    assert words == ["new", "resumed"]


def test_collect_runs_nothing(tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, "--folder", folder) == 0
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, 1, "--folder", folder, "--collect") == 0
    assert [line["state"] for line in lines_of(folder)] == ["kept", "waiting"]
    assert not (folder / "seed1").exists()
    assert "warning: geneval, seed 1, is missing (waiting)." in capsys.readouterr().out


def test_another_sweep_in_the_same_folder_is_refused(tmp_path: Path, launch: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    assert run_sweep(launch, config(tmp_path), "--seeds", 0, "--folder", folder) == 0
    with pytest.raises(UserError) as refused:
        run_sweep(launch, config(tmp_path), "kl=null", "train.lr=0.1", "--seeds", 0, "--folder", folder)
    assert str(refused.value) == (
        f"{folder}/seed0 holds a run with another configuration (kl, train.lr): "
        "choose another --folder, or remove the old sweep"
    )
    (folder / "seed5").mkdir()
    with pytest.raises(UserError, match=r"seed5 exists already and is not of this sweep: choose another --folder"):
        run_sweep(launch, config(tmp_path), "--seeds", 5, "--folder", folder)


def finished_elsewhere(folder: Path, run: SweepRun) -> None:
    """As ``rl.launch`` would leave it: with the configuration and the inputs that it had."""
    write_run(folder, seed=run.seed, steps=run.steps, per_task=3)
    own = run.config.model_copy(update={"run": run.config.run.model_copy(update={"folder": str(folder)})})
    (folder / "config.yaml").write_text(dump(own))
    train, held_out = check_data(own)
    record_inputs(folder, fingerprints(own, {"data.train": train, "data.eval": PromptList(held_out)}))


def test_an_identical_earlier_run_is_reused_and_one_of_other_code_is_not(
    tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    given = config(tmp_path)
    for seed in (0, 1):
        [run] = plan(given, [], tmp_path / "runs" / "s", seeds=[seed]).runs
        finished_elsewhere(tmp_path / "runs" / f"before{seed}", run)
    environment = tmp_path / "runs" / "before1" / "environment.json"
    environment.write_text(environment.read_text().replace('"code": "', '"code": "0'))
    assert run_sweep(launch, given, "--seeds", 0, 1, 2, "--folder", tmp_path / "runs" / "s") == 0
    lines = lines_of(tmp_path / "runs" / "s")
    assert [line["state"] for line in lines] == ["reused", "done", "done"]
    assert lines[0]["source"] == str(tmp_path / "runs" / "before0")
    assert not (tmp_path / "runs" / "s" / "seed0").exists()
    assert "seed0: the same as" in capsys.readouterr().err
    # another learning rate is another run
    arguments = [given, "train.lr=0.9", "--seeds", 0, "--folder", tmp_path / "runs" / "t"]
    assert run_sweep(launch, *arguments) == 0
    assert [line["state"] for line in lines_of(tmp_path / "runs" / "t")] == ["done"]


def test_progress_is_told_from_the_log(tmp_path: Path) -> None:
    [run] = plan(config(tmp_path), ["train.steps=8"], tmp_path, seeds=[0]).runs
    member = Member(run, "running", started=100.0)
    assert progress(member, 112.4) == f"starting for 12 s ({tmp_path}/seed0.log)"
    assert to_go([member], 1, 112.4) is None
    write_run(run.folder, steps=3, per_task=2)
    step, score, left = progress(member, 199).split(", ")
    assert (step, left) == ("step 3/8", "about 22 s to go")  # 5 steps of 4.4 s
    assert 0.5 < float(score.removeprefix("score ")) < 1.2
    # it began 13.2 s ago and takes 35.2 s in all, as do the two that wait: 22 + 2 x 35.2, on one place or on two
    waiting = [Member(run), Member(run)]
    assert to_go([member, *waiting], 1, 113.2) == pytest.approx(92.4)
    assert to_go([member, *waiting], 2, 113.2) == pytest.approx(46.2)
    [other] = plan(config(tmp_path), ["train.steps=8"], tmp_path, seeds=[1]).runs
    starting = Member(other, "running", started=108.2)  # no step yet: as long as the other, less the 5 s so far
    assert to_go([member, starting], 2, 113.2) == pytest.approx(30.2)


def test_the_table_shows_every_run_and_what_is_left(tmp_path: Path) -> None:
    runs = plan(config(tmp_path), ["loss=grpo,dapo", "train.steps=8"], tmp_path, seeds=[0, 1]).runs
    members = [Member(run) for run in runs]
    members[0].state, members[3].state = "running", "failed"
    write_run(runs[0].folder, steps=3, per_task=2)
    stream = io.StringIO()
    Terminal(stream, narrowest=100).print(table(members, 1))
    text = stream.getvalue()
    assert "0 of 4 runs complete, 1 failed, about" in text
    assert "3/8" in text and "22 s" in text
    assert text.count("loss=dapo") == 2
    # where not all fit, those that wait are left out first
    stream = io.StringIO()
    Terminal(stream, narrowest=100).print(table(members, 1, most=2))
    assert "running" in stream.getvalue() and "failed" in stream.getvalue() and "and 2 more runs" in stream.getvalue()


def test_lines_are_told_where_nothing_can_be_redrawn(tmp_path: Path) -> None:
    [run] = plan(config(tmp_path), ["train.steps=8"], tmp_path, seeds=[0]).runs
    stream, member = io.StringIO(), Member(run, "running")
    board = Board([member], 1, stream)
    board.look()
    assert stream.getvalue() == ""
    write_run(run.folder, steps=3, per_task=2)
    board.look()
    board.look()
    assert stream.getvalue().count("\n") == 1
    assert "seed0: step 3/8, score" in stream.getvalue()


def test_why_a_run_failed_is_one_sentence() -> None:
    assert why(2, "loading\nerror: train.lr: too large\nnote: x\n") == "exit code 2: train.lr: too large"
    assert why(1, "Traceback\nKeyError: 'a'\n") == "exit code 1: KeyError: 'a'"
    assert why(-9, "") == "killed by signal 9: somebody did, or the machine ran out of memory"
    assert why(3, "") == "exit code 3: it said nothing"


STOPPED = """
import pathlib, signal, sys, time
folder = pathlib.Path([one for one in sys.argv if one.startswith("run.folder=")][0].partition("=")[2])
def save(*_):
    folder.with_suffix(".saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


def start_of_two(tmp_path: Path) -> tuple[subprocess.Popen[str], list[Path]]:
    (tmp_path / "child.py").write_text(STOPPED)
    launch = (sys.executable, "-S", str(tmp_path / "child.py"))
    code = f"import rl.sweep.__main__ as s; s.sweep.__defaults__ = ({launch!r},); s.sys.exit(s.main())"
    command = [sys.executable, "-c", code, str(config(tmp_path)), "--seeds", "0", "1", "--folder", str(tmp_path / "s")]
    command += ["--parallel", "2"]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    logs = [tmp_path / "s" / f"seed{seed}.log" for seed in (0, 1)]
    wait_for(lambda: all(log.is_file() and log.read_text() == "ready\n" for log in logs))
    return started, [tmp_path / "s" / f"seed{seed}.saved" for seed in (0, 1)]


def wait_for(true: object) -> None:
    deadline = time.monotonic() + 60
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_stops_its_runs_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    started, saved = start_of_two(tmp_path)
    os.kill(started.pid, number)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "stopping 2 runs: each finishes its step and saves; Ctrl-C: at once" in err
    assert f"stopped; go on with: python -m rl.sweep {tmp_path}/geneval.yaml --seeds 0 1 --folder " in err
    assert all(one.exists() for one in saved)


def test_a_killed_sweep_leaves_no_run_behind(tmp_path: Path) -> None:
    started, saved = start_of_two(tmp_path)
    started.kill()
    started.communicate(timeout=60)
    wait_for(lambda: all(one.exists() for one in saved))


def test_the_configuration_of_every_run_lies_beside_it(tmp_path: Path, launch: tuple[str, ...]) -> None:
    assert run_sweep(launch, config(tmp_path), "--seeds", 2, "--folder", tmp_path / "s") == 0
    beside = load(tmp_path / "s" / "seed2.yaml")
    assert (beside.run.seed, beside.train.steps) == (2, 2)
