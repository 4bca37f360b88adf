"""From a command line to a run, with the run itself left out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from rl.config.load import load
from rl.launch import main
from rl.run_folder import checkpoint
from rl.run_folder.claim import CONFIG_FILE
from rl.run_folder.environment import typed_command
from rl.run_folder.lock import LOCK_FILE
from rl.types import UserError
from tests.rl.run_case import ROOT, write_config


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What ``rl.loop.run`` was called with; ``then`` is what it does."""
    calls: list[dict[str, Any]] = []

    def run(config: Any, prompts: Any, saved: Any, interrupt: Any, **rest: Any) -> int:
        calls.append({"config": config, "saved": saved, "held": Path(config.run.folder, LOCK_FILE).exists(), **rest})
        return 0

    monkeypatch.setattr("rl.loop.run", run)
    monkeypatch.setattr("rl.start.rewards_starting", lambda config: nullcontext())
    return calls


@pytest.fixture
def run_file(tiny_policy: Path, tmp_path: Path) -> Path:
    return write_config(tmp_path, tiny_policy)


def steps_done(folder: Path, steps: int) -> None:
    rows = [json.dumps({"step": step, "metrics": {}, "seconds": {}, "alarms": []}) for step in range(steps)]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    checkpoint.save(folder, steps, {}, {"version": steps}, keep=2)  # type: ignore[typeddict-item]


def test_the_first_line_comes_before_torch_and_the_folder_is_held(
    run_file: Path, tmp_path: Path, runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_file), "train.steps=5"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"easel-rl: {run_file} -> {tmp_path}/run, 5 steps; loading torch, engine and rewards"
    assert (runs[0]["held"], runs[0]["resume"], runs[0]["saved"]) == (True, False, None)
    assert not (tmp_path / "run" / LOCK_FILE).exists()
    assert main([str(run_file), "tracking.console=off"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [UserError("no weights"), OSError(28, "No space left on device")])
def test_a_start_that_fails_leaves_the_folder_free(
    run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: list[dict[str, Any]], error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("rl.loop.run", fails)
        assert main([str(run_file), "train.lr=0.5"]) == 2
    assert main([str(run_file), "--resume"]) == 0  # nothing was done: it begins, with what is typed now
    assert main([str(run_file)]) == 0
    assert [call["config"].train.lr for call in runs] == [1e-3, 1e-3]
    assert [call["resume"] for call in runs] == [False, False]


def test_a_resume_goes_on_with_what_was_saved(
    run_file: Path, tmp_path: Path, runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_file), "train.lr=0.5", "kl=null", "train.schedule=cosine"]) == 0
    steps_done(tmp_path / "run", 4)
    capsys.readouterr()
    assert main([str(run_file), "--resume", "train.steps=9"]) == 0
    said = capsys.readouterr().out
    assert f"-> {tmp_path}/run, going on, 9 steps; loading" in said
    assert "note: changed for the rest of the run: train.steps (was 6, now 9)\n" in said
    assert (
        f"/run/config.yaml goes on, where {run_file} says otherwise: kl (was null, now k3), train.lr (was 0.5" in said
    )
    assert "so with 9 instead of 6 steps the learning rate jumps from 0.25 to 0.41 here; to train on without" in said
    assert (runs[1]["config"].train.lr, runs[1]["config"].train.steps, runs[1]["saved"].step) == (0.5, 9, 4)
    assert load(tmp_path / "run" / CONFIG_FILE).train.steps == 9


def test_a_resume_without_a_checkpoint_says_that_it_begins(
    run_file: Path, tmp_path: Path, runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_file)]) == 0
    steps_done(tmp_path / "run", 1)
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    capsys.readouterr()
    assert main([str(run_file), "--resume"]) == 0
    assert f"-> {tmp_path}/run, from the beginning (no checkpoint yet), 6 steps; loading" in capsys.readouterr().out
    assert (runs[1]["resume"], runs[1]["saved"]) == (True, None)


def test_the_saved_configuration_alone_is_enough_from_anywhere(
    run_file: Path, tmp_path: Path, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(run_file)]) == 0
    steps_done(tmp_path / "run", 4)
    (tmp_path / "run").rename(tmp_path / "moved here")
    monkeypatch.chdir(tmp_path / "moved here")
    assert main(["config.yaml", "--resume"]) == 0
    assert os.path.samefile(runs[1]["config"].run.folder, tmp_path / "moved here")
    assert runs[1]["saved"].step == 4
    assert not (tmp_path / "run").exists()


def test_another_policy_is_refused_at_a_resume(
    run_file: Path, tmp_path: Path, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main([str(run_file)]) == 0
    steps_done(tmp_path / "run", 4)
    record = json.loads((tmp_path / "run" / "inputs.json").read_text())
    record["policy"]["ar/model.safetensors"] = "7:other"
    (tmp_path / "run" / "inputs.json").write_text(json.dumps(record))
    assert main([str(run_file), "--resume"]) == 2
    assert "policy.path: ar/model.safetensors has changed since this run began" in capsys.readouterr().err
    assert len(runs) == 1


def test_a_finished_run_says_so_with_a_command_that_can_be_pasted(
    run_file: Path, tmp_path: Path, runs: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run_file)]) == 0
    steps_done(tmp_path / "run", 6)
    assert main([str(run_file), "--resume"]) == 0  # its policy and its page are still to be written
    assert len(runs) == 2
    (tmp_path / "run" / "policy").mkdir()
    (tmp_path / "run" / "report.html").write_text("")
    capsys.readouterr()
    assert main([str(run_file), "--resume"]) == 0
    assert len(runs) == 2
    assert (
        "this run is finished (6 of 6 steps); raise train.steps to go on: "
        f"python -m rl.launch {tmp_path}/run/config.yaml --resume train.steps=12\n"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argument", "recorded"),
    [
        ("{cwd}/a b.yaml", "a b.yaml"),
        ("run.folder={cwd}/runs/x", "run.folder=runs/x"),
        ("data.train.options.path={home}/prompts.jsonl", "data.train.options.path=~/prompts.jsonl"),
        ("policy.path=/models/p", "policy.path=/models/p"),
        ("loss=dapo", "loss=dapo"),
    ],
)
def test_the_recorded_command_holds_no_private_path(
    argument: str, recorded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    given = argument.format(cwd=tmp_path / "here", home=tmp_path / "home")
    assert typed_command([given]) == ["python", "-m", "rl.launch", recorded]


def test_as_many_ranks_as_torchrun_started(
    run_file: Path, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    def under_torchrun(ranks: int) -> None:
        place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        for name, value in {**place, "MASTER_ADDR": "x", "MASTER_PORT": "1", "TORCHELASTIC_RUN_ID": "x"}.items():
            monkeypatch.setenv(name, value)

    under_torchrun(2)
    assert main([str(run_file)]) == 0
    assert "6 steps on 2 ranks; loading" in capsys.readouterr().out
    assert (runs[0]["place"].world, runs[0]["others"], runs[0]["config"].train.ranks) == (2, None, 2)
    assert load(tmp_path / "run" / CONFIG_FILE).train.ranks == 2
    steps_done(tmp_path / "run", 4)
    under_torchrun(3)  # another number goes on
    assert main([str(run_file), "--resume"]) == 0
    assert (runs[1]["place"].world, runs[1]["config"].train.ranks) == (3, 3)
    under_torchrun(16)
    assert main([str(run_file), "--resume"]) == 2
    assert "error: train.ranks: 16 ranks can't share the 12 samples of an update" in capsys.readouterr().err
    under_torchrun(2)
    assert main([str(run_file), "train.ranks=4", "run.folder=other"]) == 2
    assert "train.ranks: 4 is not the 2 that torchrun started" in capsys.readouterr().err


def test_leftovers_in_the_environment_are_taken_out(
    run_file: Path, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("RANK", "3")
    assert main([str(run_file)]) == 0
    assert "note: RANK, WORLD_SIZE in the environment is ignored" in capsys.readouterr().out
    assert "WORLD_SIZE" not in os.environ


def test_a_folder_of_another_user_is_one_sentence(
    run_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(*_: Any) -> bool:
        raise PermissionError(13, "Permission denied", "runs/theirs/config.yaml")

    monkeypatch.setattr("rl.start.is_free", denied)
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert main([str(run_file), "--resume"]) == 2
    assert "error: runs/theirs/config.yaml: this user may not read or write it\n" in capsys.readouterr().err


def test_a_wrong_policy_does_not_even_make_the_folder(run_file: Path, tmp_path: Path) -> None:
    assert main([str(run_file), "policy.path=nowhere"]) == 2
    assert not (tmp_path / "run").exists()


def test_the_handlers_of_signals_stand_before_anything_else_is_imported() -> None:
    code = "import sys, rl.launch\nprint(sorted({'numpy', 'pydantic', 'yaml', 'psutil', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_that_a_terminal_would_obey_are_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in (["\x1b]0;x\x07.yaml"], ["examples/geneval.yaml", "--dry-run", "tr\x1b[31main.x=1"]):
        assert main(arguments) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") or "taken from easel-rl" in told
        assert "\x1b" not in told


def test_what_is_required_is_the_configuration_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err.endswith("error: the following arguments are required: config\n")
