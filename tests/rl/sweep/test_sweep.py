from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rl.run_folder.records import read_json
from rl.sweep.__main__ import main, sweep
from rl.sweep.plan import plan, settings, split_values
from rl.types import UserError
from tests.rl.synthetic_run import write_run

# Stands for rl.launch: copies a finished run to the folder it is told to use, or fails where the config says so.
LAUNCHER = """
import shutil, sys
options = dict(one.split("=", 1) for one in sys.argv[2:])
if options["run.seed"] == open(sys.argv[1]).read().strip():
    print("loading"); print("rewards.ocr: no such model", file=sys.stderr); sys.exit(2)
gain = options.get("train.lr", "0.8")
shutil.copytree({runs!r} + "/gain" + gain + "-seed" + options["run.seed"], options["run.folder"])
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
    path.write_text(failing_seed)
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
    runs = plan(config(tmp_path), [0, 7], ["train.steps=5"], tmp_path / "s", ("launch",))
    assert [run.folder.name for run in runs] == ["seed0", "seed7"]
    assert runs[1].command == (
        "launch",
        str(tmp_path / "geneval.yaml"),
        "train.steps=5",
        "run.seed=7",
        f"run.folder={tmp_path / 's' / 'seed7'}",
    )
    names = [run.folder.name for run in plan(config(tmp_path), [0, 1], ["train.lr=1,2"], tmp_path / "s")]
    assert names == ["setting0-seed0", "setting0-seed1", "setting1-seed0", "setting1-seed1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1", "1"], "--seeds 1 1 names a seed twice: every run needs its own"),
        (["steps"], "'steps' is not an override: write key=value, or key=a,b,c for one run of each"),
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
    with pytest.raises(UserError, match=r"seed0 exists already: choose another --folder, or remove the old sweep"):
        sweep(config(tmp_path), [0], [], folder, launch=launch)


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


@pytest.mark.slow  # starting Ray: 10 s on a free machine, minutes on a busy one
def test_two_at_a_time_through_ray(tmp_path: Path, launch: tuple[str, ...]) -> None:
    assert sweep(config(tmp_path), [0, 1], [], tmp_path / "two", parallel=2, launch=launch) == 0
    assert sweep(config(tmp_path), [0, 1], [], tmp_path / "one", parallel=1, launch=launch) == 0
    assert read_json(tmp_path / "two" / "sweep.json")["rows"] == read_json(tmp_path / "one" / "sweep.json")["rows"]
