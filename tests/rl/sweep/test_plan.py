from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from rl.config.load import load
from rl.sweep.__main__ import main
from rl.sweep.arguments import read_arguments
from rl.sweep.arms import Arm, settings, split_values
from rl.sweep.jobs import told_alike
from rl.sweep.plan import plan
from rl.sweep.slots import make_slots
from rl.sweep.sweep_file import value_text
from rl.types import UserError

ROOT = Path(__file__).resolve().parents[3]
SWEEP = """\
sweep:
  config: geneval.yaml
  seeds: [4, 5]
  set: {train.steps: 3}
  arms:
    plain: {}
    dapo: {loss: {use: dapo, options: {clip_high: 0.3}}, train.lr: 1e-4}
  baseline: dapo
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "geneval.yaml"
    path.write_text(f"extends: {ROOT / 'examples/geneval.yaml'}\ntrain: {{steps: 2, warmup_steps: 0}}\n")
    return path


@pytest.fixture
def sweep_file(tmp_path: Path, config: Path) -> Path:
    path = tmp_path / "loss.yaml"
    path.write_text(SWEEP)
    return path


def test_overrides_are_split_and_varied() -> None:
    assert split_values("1,[2,3],'a,b',{x: 1, y: 2}") == ["1", "[2,3]", "'a,b'", "{x: 1, y: 2}"]
    fixed, varied = settings(["train.steps=5", "train.betas=[0.9,0.95]", "loss=grpo,dapo", "train.lr=1,2"])
    assert fixed == ["train.steps=5", "train.betas=[0.9,0.95]"]
    assert varied == [["loss=grpo", "loss=dapo"], ["train.lr=1", "train.lr=2"]]


def test_one_arm_is_named_after_its_file(tmp_path: Path, config: Path) -> None:
    found = plan(config, ["train.warmup_steps=1"], tmp_path / "s", seeds=[0, 7], launch=("launch",))
    assert [run.folder.name for run in found.runs] == ["seed0", "seed7"]
    assert (found.arms, found.baseline) == ((Arm("geneval"),), "geneval")
    assert found.runs[1].command == (
        "launch",
        str(config),
        "train.warmup_steps=1",
        "run.seed=7",
        f"run.folder={tmp_path / 's' / 'seed7'}",
    )
    assert (found.runs[1].steps, found.runs[1].config.run.seed) == (2, 7)


def test_what_is_typed_is_crossed(tmp_path: Path, config: Path) -> None:
    found = plan(config, ["loss=grpo,dapo", "train.lr=1,2", "seed=0,1"], tmp_path)
    assert [arm.name for arm in found.arms] == [
        "loss=grpo train.lr=1",
        "loss=grpo train.lr=2",
        "loss=dapo train.lr=1",
        "loss=dapo train.lr=2",
    ]
    assert (found.seeds, found.baseline, len(found.runs)) == ((0, 1), "loss=grpo train.lr=1", 8)
    assert found.runs[-1].folder == tmp_path / "loss=dapo-train.lr=2-seed1"
    assert found.runs[-1].config.train.lr == 2
    # another arm or seed changes no folder of those that were there
    more = plan(config, ["loss=reinforce,grpo,dapo", "train.lr=1,2"], tmp_path, seeds=[0, 1, 2])
    assert {run.folder for run in found.runs} < {run.folder for run in more.runs}


def test_a_sweep_is_read_from_its_file(tmp_path: Path, sweep_file: Path) -> None:
    found = plan(sweep_file, [], tmp_path / "s", launch=("launch",))
    assert [(run.arm, run.seed) for run in found.runs] == [("plain", 4), ("plain", 5), ("dapo", 4), ("dapo", 5)]
    assert found.baseline == "dapo"
    last = found.runs[-1]
    assert (last.config.loss.use, last.config.loss.options["clip_high"]) == ("dapo", 0.3)
    assert (last.config.train.lr, last.steps, last.folder.name) == (1e-4, 3, "dapo-seed5")
    # the command alone makes the same run
    assert load(last.command[1], last.command[2:]) == last.config
    crossed = plan(sweep_file, ["kl.options.beta=0,0.1"], tmp_path / "s", seeds=[0], baseline="plain kl.options.beta=0")
    assert [arm.name for arm in crossed.arms][:2] == ["plain kl.options.beta=0", "plain kl.options.beta=0.1"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("arms:", "arm:", "loss.yaml:5: sweep.arm: unknown key, did you mean 'arms'?"),
        ("[4, 5]", "four", "loss.yaml:3: sweep.seeds: must be a list of whole numbers, such as [0, 1, 2], got 'four'"),
        ("geneval.yaml", "lost.yaml", "loss.yaml:2: sweep.config: there is no file"),
        ("plain: {}", "plain: {run.seed: 3}", "loss.yaml:6: sweep.arms.plain.run.seed: is set by the sweep: use sweep"),
        ("plain: {}", "plain: dapo", "loss.yaml:6: sweep.arms.plain: must be a mapping"),
        ("baseline: dapo", "baseline: dap", "baseline: there is no arm 'dap', did you mean 'dapo'?"),
        ("sweep:\n", "loss: dapo\nsweep:\n", "loss.yaml:1: loss: stands beside 'sweep'"),
        ("train.lr: 1e-4", "train.lrr: 1e-4", "arm dapo: command line: train.lrr: unknown key, did you mean 'lr'?"),
        ("{train.steps: 3}", "{train.stepz: 3}", "command line: train.stepz: unknown key, did you mean 'steps'?"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file_are_one_sentence(
    tmp_path: Path, sweep_file: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, message: str
) -> None:
    assert old in SWEEP
    sweep_file.write_text(SWEEP.replace(old, new))
    assert main([str(sweep_file), "--folder", str(tmp_path / "s")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_what_all_arms_share_need_not_be_a_whole_run(tmp_path: Path, sweep_file: Path) -> None:
    reward = "rewards: {geneval: null}"
    (tmp_path / "geneval.yaml").write_text(f"extends: {ROOT / 'examples/geneval.yaml'}\n{reward}\n")
    own = "{rewards.geneval.use: geneval}"
    sweep_file.write_text(SWEEP.replace("{}", own).replace("train.lr: 1e-4", own[1:-1]))
    assert [run.seed for run in plan(sweep_file, [], tmp_path / "s").runs] == [4, 5, 4, 5]
    sweep_file.write_text(sweep_file.read_text().replace("[4, 5]", "[4, -5]"))
    with pytest.raises(UserError, match="run.seed"):
        plan(sweep_file, [], tmp_path / "s")


def test_every_wrong_arm_is_named(tmp_path: Path, sweep_file: Path) -> None:
    text = SWEEP.replace("plain: {}", "plain: {train.lr: fast}").replace("train.lr: 1e-4", "train.lr: -1")
    sweep_file.write_text(text)
    with pytest.raises(UserError) as wrong:
        plan(sweep_file, [], tmp_path)
    first, plain, dapo = str(wrong.value).splitlines()
    assert first == "2 arms of the sweep are wrong:"
    assert plain.startswith("  arm plain: command line: train.lr: ")
    assert dapo.startswith("  arm dapo: command line: train.lr: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "1", "1"], "seeds 1 1 name one twice: every run needs its own"),
        (["steps"], "'steps' is not an override: write key=value, or key=a,b,c for one run of each"),
        (["run.seed=4"], "run.seed is set by the sweep: use --seeds and --folder instead of 'run.seed=4'"),
        (["--sweep", "seed=0,x"], "--sweep seed=0,x: 'x' is not a whole number"),
        (["loss=grpo,gspo", "loss=dapo,sapo"], "loss is varied twice in the sweep: write all its values in one list"),
        (
            ["data.eval=null"],
            "data.eval is null: a sweep compares held-out scores, so give it prompts to evaluate",
        ),
        (
            ["eval.at_start=false,true", "eval.every=0"],
            "arm eval.at_start=false: a sweep compares an evaluation after training with one before it, and the run "
            "has fewer than two: give it steps (train.steps), and turn eval.at_start and eval.at_end on",
        ),
        (
            ["--seeds", "0", "--sweep", "seed=1,2"],
            "seeds are given twice, by --seeds and by seed=...: leave one of them out",
        ),
        (["loss=dapo,dapo"], "two arms of the sweep have the name 'loss=dapo': every arm needs its own"),
        (["--asha"], "--asha stops runs early on Ray: add --ray"),
        (
            ["--ray", "--parallel", "2"],
            "--parallel is for this machine alone: Ray runs as many as its cluster has room for",
        ),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([str(config), *arguments, "--folder", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "s").exists()


def test_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml is not a file: give the YAML of one run, or of a sweep" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["x.yaml", "--seeds", "0", "7", "train.steps=1", "loss=dapo"],
        ["--seeds", "0", "7", "x.yaml", "train.steps=1", "loss=dapo"],
        ["x.yaml", "train.steps=1", "--seeds", "0", "7", "--parallel", "1", "loss=dapo"],
        ["--sweep", "train.steps=1", "loss=dapo", "x.yaml", "--seeds", "0", "7"],
    ],
)
def test_the_arguments_may_come_in_any_order(given: list[str]) -> None:
    found = read_arguments(given)
    assert (found.config, found.seeds, found.overrides) == (Path("x.yaml"), (0, 7), ("train.steps=1", "loss=dapo"))
    assert (found.folder, found.parallel) == (Path("runs/x-sweep"), 1)


def test_values_are_written_as_they_are_typed() -> None:
    assert [value_text(one) for one in ("gspo", 1e-06, True, None, "true", {"use": "x"}, [0.9, 1])] == [
        "gspo",
        "1e-06",
        "true",
        "null",
        '"true"',
        '{"use": "x"}',
        "[0.9, 1]",
    ]


def test_a_dry_run_checks_everything_and_lists_a_job_a_line(
    tmp_path: Path, sweep_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(sweep_file), "--dry-run", "--folder", str(tmp_path / "s s")]) == 0
    out, err = capsys.readouterr()
    lines = [shlex.split(line) for line in out.splitlines()]
    assert len(lines) == 4
    assert lines[3][:3] == ["python", "-m", "rl.launch"]
    assert lines[3][-2:] == ["run.seed=5", f"run.folder={tmp_path}/s s/dapo-seed5"]
    assert "2 arms x 2 seeds, all configurations checked: 4 jobs" in err
    assert not (tmp_path / "s s").exists()
    # what a run would find out after its start is told here as well
    sweep_file.write_text(SWEEP.replace("{}", "{data.prompts_per_step: 100000}"))
    assert main([str(sweep_file), "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: arm plain: data.")


def test_arms_that_chance_alone_tells_apart_are_warned_of(tmp_path: Path, config: Path) -> None:
    def told(*typed: str) -> list[str]:
        return list(told_alike(plan(config, typed, tmp_path / "s", seeds=[0])))

    alone = "in its loss alone, and with train.updates_per_rollout 1 every ratio is 1"
    [first, second] = told("loss=grpo,gspo,cispo")
    assert first.startswith(f"loss=gspo differs from loss=grpo {alone}") and second.startswith("loss=cispo differs")
    assert told("loss=grpo,gspo", "train.updates_per_rollout=2") == []
    assert told("advantage=grpo,rloo") == []
    assert told("anchor.options.beta=0.3,0.30") == [
        "anchor.options.beta=0.30 is the same run as anchor.options.beta=0.3: what it changes is so already."
    ]


def test_runs_at_a_time_share_the_threads() -> None:
    assert [slot.environment for slot in make_slots(1, {}, cores=8)] == [{}]
    two = make_slots(3, {"MKL_NUM_THREADS": "1"}, cores=8)
    assert [slot.environment["OMP_NUM_THREADS"] for slot in two] == ["2", "2", "2"]
    assert all("MKL_NUM_THREADS" not in slot.environment for slot in two)  # what the user has set stands
    assert make_slots(4, os.environ, cores=2)[0].environment.get("OMP_NUM_THREADS", "1") == "1"
