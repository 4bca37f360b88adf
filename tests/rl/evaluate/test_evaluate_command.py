"""The whole command, in this process: the scores of a run, policies and pipelines by the same rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl.evaluate.__main__ import main
from rl.evaluation.results import load
from rl.launch import main as launch
from tests.rl.run_case import write_config

INK = "tests.rl.run_case:ink"


def test_a_policy_scores_what_it_scores_in_a_run(tiny_policy: Path, tmp_path: Path) -> None:
    file = write_config(tmp_path, tiny_policy, eval={"grid": 4, "samples_per_prompt": 2})
    run, out = tmp_path / "run", tmp_path / "out"
    assert launch([str(file), "train.steps=0"]) == 0
    in_the_run = load(run / "evaluation-0.json")
    assert main(["--policy", str(tiny_policy), "--config", str(file), "--out", str(out)]) == 0
    assert load(out / "tiny" / "evaluation-0.json").outcomes == in_the_run.outcomes
    assert (out / "tiny" / "evaluation-0.png").read_bytes() == (run / "evaluation-0.png").read_bytes()


def test_a_pipeline_is_measured_beside_a_policy(
    tiny_policy: Path, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("a ring\ntwo stars\nthree crosses\n")
    command = ["--policy", f"ours={tiny_policy}", "--policy", f"sd={pipeline_folder}", "--pipeline-option", "steps=2"]
    command += ["--prompts", str(tmp_path / "p.txt"), "--reward", f"ink={INK}", "--samples", "2"]
    command += ["--out", str(tmp_path / "out"), "render.steps=1", "rollout.engine=torch", "render.micro_batch=auto"]
    for _ in range(2):  # the second finds everything and says the same
        assert main(command) == 0
        shown = capsys.readouterr()
        assert "untagged" in shown.out and "sd - ours" in shown.out
    assert "sd: 6 of 6 pictures are there already" in shown.err
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["task"] for row in found["rows"]] == ["untagged", "overall"]
    assert found["rows"][0]["results"]["sd"]["n"] == found["rows"][0]["changes"]["sd"]["n"] == 6
    assert found["measured_by"]["eval.samples_per_prompt"] == 2
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"ours", "sd", "config.yaml", "settings.json", "evaluation.json", "table.md", "grid.png"}


def test_failures_are_left_out_and_too_many_are_an_exit_code(
    pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.txt").write_text("a ring\ntwo stars\n")
    command = [
        "--policy",
        f"sd={pipeline_folder}",
        "--pipeline-option",
        "steps=1",
        "--prompts",
        str(tmp_path / "p.txt"),
    ]
    command += ["--reward", "late=tests.rl.run_case:every_second", "--out", str(tmp_path / "out")]
    assert main(command) == 3
    shown = capsys.readouterr()
    assert "left out of every mean: sd: late failed on 1 of 2 pictures: 1 x" in shown.err
    results = json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"][0]["results"]["sd"]
    assert (results["n"], results["failed"], results["estimate"]["mean"]) == (1, 1, 0.5)


@pytest.mark.parametrize("arguments", [["--policy", "nix"], ["--policy", "shapes"]])
def test_a_mistake_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("error: --p") and shown.err.count("\n") == 1
