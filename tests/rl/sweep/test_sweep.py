from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl.config.load import load
from rl.evaluation.results import Evaluation, Outcome, save
from rl.run_folder.records import read_json
from rl.sweep.__main__ import main, sweep
from rl.sweep.plan import SweepRun, plan, settings, split_values
from rl.sweep.progress import progress
from rl.sweep.table import markdown, summarise
from rl.types import UserError
from tests.rl.synthetic_run import write_run

ROOT = Path(__file__).resolve().parents[3]

# Stands for rl.launch: copies a finished run to the folder it is told to use, or fails where the config says so.
LAUNCHER = """
import shutil, sys
options = dict(one.split("=", 1) for one in sys.argv[2:] if one != "--resume")
print("resumed" if "--resume" in sys.argv else "new")
if "# fails: " + options["run.seed"] in open(sys.argv[1]).read():
    print("loading"); print("rewards.ocr: no such model", file=sys.stderr); sys.exit(2)
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


def test_overrides_are_split_and_crossed() -> None:
    assert split_values("1,[2,3],'a,b',{x: 1, y: 2}") == ["1", "[2,3]", "'a,b'", "{x: 1, y: 2}"]
    fixed, crossed = settings(["train.steps=5", "train.betas=[0.9,0.95]", "loss=grpo,dapo", "train.lr=1,2"])
    assert fixed == ["train.steps=5", "train.betas=[0.9,0.95]"]
    assert crossed == [
        ("loss=grpo", "train.lr=1"),
        ("loss=grpo", "train.lr=2"),
        ("loss=dapo", "train.lr=1"),
        ("loss=dapo", "train.lr=2"),
    ]


def test_plan(tmp_path: Path) -> None:
    runs = plan(config(tmp_path), [0, 7], ["train.warmup_steps=1"], tmp_path / "s", ("launch",))
    assert [run.folder.name for run in runs] == ["seed0", "seed7"]
    assert runs[1].command == (
        "launch",
        str(tmp_path / "geneval.yaml"),
        "train.warmup_steps=1",
        "run.seed=7",
        f"run.folder={tmp_path / 's' / 'seed7'}",
    )
    assert runs[1].steps == 2
    assert "seed: 7" in runs[1].resolved
    names = [run.folder.name for run in plan(config(tmp_path), [0, 1], ["train.lr=1,2"], tmp_path / "s")]
    assert names == ["setting0-seed0", "setting0-seed1", "setting1-seed0", "setting1-seed1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1", "1"], "--seeds 1 1 names a seed twice: every run needs its own"),
        (["steps"], "'steps' is not an override: write key=value, or key=a,b,c for one run of each"),
        (["train.stepz=4"], "command line: train.stepz: unknown key, did you mean 'steps'?"),
        (["run.seed=4"], "run.seed is set by the sweep: use --seeds and --folder instead of 'run.seed=4'"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(config(tmp_path)), *arguments, "--folder", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "s").exists()


def test_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml is not a file: give the YAML of one run" in capsys.readouterr().err


def test_three_seeds_make_a_table(tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sweep"
    assert sweep(config(tmp_path), [0, 1, 2], [], folder, launch=launch) == 0
    record = read_json(folder / "sweep.json")
    overall = [row for row in record["rows"] if row["task"] == "overall"]
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
    text = (folder / "sweep.md").read_text()
    assert "| **geneval** | **overall** | **3** |" in text
    assert text in capsys.readouterr().out


def test_a_failed_run_is_told_and_the_others_count(tmp_path: Path, launch: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    assert sweep(config(tmp_path, failing_seed="1"), [0, 1], ["train.lr=0.1,0.9"], folder, launch=launch) == 1
    text = (folder / "sweep.md").read_text()
    assert "**setting0-seed1 failed with exit code 2**" in text
    assert "rewards.ocr: no such model" in text
    assert "`train.lr=0.9` | geneval | counting | 1 |" in text
    rows = {row["setting"]: row for row in read_json(folder / "sweep.json")["rows"] if row["task"] == "overall"}
    assert rows["train.lr=0.1"]["after"]["estimate"]["mean"] < rows["train.lr=0.9"]["after"]["estimate"]["mean"]
    assert rows["train.lr=0.1"]["seeds"] == 1
    assert rows["train.lr=0.1"]["after"]["estimate"]["low"] is None  # one seed has no interval


def test_a_run_without_evaluations_is_a_failure(tmp_path: Path) -> None:
    assert sweep(config(tmp_path), [0], [], tmp_path / "sweep", launch=(sys.executable, "-c", "pass")) == 1
    assert "ended without an evaluation before and one after" in (tmp_path / "sweep" / "sweep.md").read_text()


def test_two_at_a_time_are_the_same_as_one(tmp_path: Path, launch: tuple[str, ...]) -> None:
    assert sweep(config(tmp_path), [0, 1], [], tmp_path / "two", parallel=2, launch=launch) == 0
    assert sweep(config(tmp_path), [0, 1], [], tmp_path / "one", parallel=1, launch=launch) == 0
    assert read_json(tmp_path / "two" / "sweep.json")["rows"] == read_json(tmp_path / "one" / "sweep.json")["rows"]


@pytest.mark.parametrize(
    "given",
    [
        ["x.yaml", "--seeds", "0", "7", "train.steps=1", "loss=dapo"],
        ["--seeds", "0", "7", "x.yaml", "train.steps=1", "loss=dapo"],
        ["x.yaml", "train.steps=1", "--seeds", "0", "7", "--parallel", "1", "loss=dapo"],
    ],
)
def test_the_arguments_may_come_in_any_order(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr("rl.sweep.__main__.sweep", lambda *found: called.extend(found) or 0)
    main(given)
    assert called[:3] == [Path("x.yaml"), [0, 7], ["train.steps=1", "loss=dapo"]]


def test_the_same_sweep_again_keeps_what_is_done(
    tmp_path: Path, launch: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    assert sweep(config(tmp_path, failing_seed="1"), [0, 1], [], folder, launch=launch) == 1
    first = (folder / "seed0.log").stat().st_mtime_ns
    assert sweep(config(tmp_path), [0, 1, 2], [], folder, launch=launch) == 0
    assert (folder / "seed0.log").stat().st_mtime_ns == first
    assert f"{folder}/seed0: done before, kept\n" in capsys.readouterr().out
    overall = [row for row in read_json(folder / "sweep.json")["rows"] if row["task"] == "overall"]
    assert overall[0]["seeds"] == 3


def test_a_run_that_was_stopped_is_resumed(tmp_path: Path, launch: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    assert sweep(config(tmp_path), [0], [], folder, launch=launch) == 0
    metrics = folder / "seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])
    assert sweep(config(tmp_path), [0], [], folder, launch=launch) == 0
    assert (folder / "seed0.log").read_text() == "new\nresumed\n"


def test_another_sweep_in_the_same_folder_is_refused(tmp_path: Path, launch: tuple[str, ...]) -> None:
    folder = tmp_path / "sweep"
    assert sweep(config(tmp_path), [0], [], folder, launch=launch) == 0
    with pytest.raises(UserError) as refused:
        sweep(config(tmp_path), [0], ["kl=null", "train.lr=0.1"], folder, launch=launch)
    assert str(refused.value) == (
        f"{folder}/seed0 holds a run with another configuration (kl, train.lr): "
        "choose another --folder, or remove the old sweep"
    )
    (folder / "seed5").mkdir()
    with pytest.raises(UserError, match=r"seed5 exists already and is not of this sweep: choose another --folder"):
        sweep(config(tmp_path), [5], [], folder, launch=launch)


def test_progress_is_told_from_the_log(tmp_path: Path) -> None:
    run = SweepRun("", 0, tmp_path / "seed0", (), steps=8, resolved="")
    assert progress(run, 12.4) == f"starting for 12 s ({tmp_path}/seed0.log)"
    write_run(run.folder, steps=3, per_task=2)
    step, score, to_go = progress(run, 99).split(", ")
    assert (step, to_go) == ("step 3/8", "about 22 s to go")  # 5 steps of 4.4 s
    assert 0.5 < float(score.removeprefix("score ")) < 1.2


STOPPED = """
import pathlib, signal, sys, time
def save(*_):
    pathlib.Path(sys.argv[-1].partition("=")[2]).with_suffix(".saved").touch()
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_sweep_stops_its_runs_and_says_how_to_go_on(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "child.py").write_text(STOPPED)
    launch = (sys.executable, "-S", str(tmp_path / "child.py"))
    code = f"import rl.sweep.__main__ as s; s.sweep.__defaults__ = (2, {launch!r}); s.sys.exit(s.main())"
    command = [sys.executable, "-c", code, str(config(tmp_path)), "--seeds", "0", "1", "--folder", str(tmp_path / "s")]
    command += ["--parallel", "2"]
    started = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    logs = [tmp_path / "s" / f"seed{seed}.log" for seed in (0, 1)]
    deadline = time.monotonic() + 60
    while not all(log.is_file() and log.read_text() == "ready\n" for log in logs):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(started.pid, number)
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "stopping 2 runs: each finishes its step and saves; Ctrl-C: at once" in out
    assert err.startswith(f"stopped; go on with: python -m rl.sweep {tmp_path}/geneval.yaml --seeds 0 1 --folder ")
    assert all((tmp_path / "s" / f"seed{seed}.saved").exists() for seed in (0, 1))


def test_intervals_of_shares_stay_between_0_and_1_others_do_not(tmp_path: Path) -> None:
    runs = []
    for seed, (share, grade) in enumerate([(1, 0.9), (1, 0.95), (0, 0.3)]):
        run = SweepRun("", seed, tmp_path / f"seed{seed}", (), 1, "")
        run.folder.mkdir()
        for step in (0, 1):
            shown = float(share) if step else float(seed == 2)
            outcomes = [Outcome("ocr", "words", "p0", 0, shown), Outcome("pick", "words", "p0", 0, grade)]
            save(Evaluation(step, tuple(outcomes)), run.folder)
        runs.append(run)
    rows = {(row.reward, row.task): row for row in summarise(runs)}
    assert rows["ocr", "words"].after.estimate.interval == (0.0, 1.0)
    assert rows["ocr", "words"].difference.estimate.interval == (-1.0, 1.0)
    interval = rows["pick", "words"].after.estimate.interval
    assert interval is not None
    assert interval[0] < 0
    assert interval[1] > 1
    assert "cut at 0 and 1" in markdown(list(rows.values()), [])


def test_the_configuration_of_every_run_lies_beside_it(tmp_path: Path, launch: tuple[str, ...]) -> None:
    assert sweep(config(tmp_path), [2], [], tmp_path / "s", launch=launch) == 0
    beside = load(tmp_path / "s" / "seed2.yaml")
    assert (beside.run.seed, beside.train.steps) == (2, 2)
