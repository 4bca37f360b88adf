"""The whole command on the tiny random policy, and its mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl.variance.__main__ import main
from tests.rl.run_case import write_config


def test_a_whole_measurement(tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = write_config(tmp_path, tiny_policy), tmp_path / "out"
    size = ["--prompts", "3", "--group", "3", "--renders", "2", "--steps", "1,3"]
    assert main([str(file), *size, "--out", str(out), "data.prompts_per_step=1"]) == 0
    shown = capsys.readouterr()
    assert "3 prompts x 3 token sequences x 2 renders, at 1, 3 steps: 36 pictures" in shown.err
    assert "painted: 36 of 36 pictures" in shown.err
    assert "ink at 3 steps: the pictures of 3 prompts are too few" in shown.out
    record = json.loads((out / "variance.json").read_text())
    assert [(one["reward"], one["steps"], one["split"]["prompts"]) for one in record["findings"]] == [
        ("ink", 1, 3),
        ("ink", 3, 3),
    ]
    exact = record["findings"][1]
    assert exact["rank_correlation"] == 1.0 and exact["picture_seconds"] > 0
    # random weights: hidden states hardly matter, noise is all
    assert exact["split"]["noise"] > exact["split"]["tokens"]
    assert (out / "variance.svg").read_text().startswith("<svg")
    assert main([str(file), *size, "--out", str(out)]) == 0  # the same again, from the same seeds
    assert json.loads((out / "variance.json").read_text())["findings"][1]["split"] == exact["split"]


def test_a_run_is_measured_with_the_policy_that_it_has_trained(
    tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(write_config(tmp_path, tiny_policy).read_text())
    assert main([str(run)]) == 2
    assert "is the folder of a run that has not written its policy yet" in capsys.readouterr().err
    (run / "policy").symlink_to(tiny_policy)
    size = ["--prompts", "2", "--group", "2", "--renders", "2", "--steps", "3", "--design", "nested"]
    window = ["render.sampler.use=cps", "render.sampler.options.window=1", "rollout.hidden_states=trainer"]
    window += ["train.micro_batch=auto", "render.micro_batch=auto"]
    assert main([str(run), *size, *window]) == 0
    record = json.loads((run / "variance" / "variance.json").read_text())
    assert record["policy"] == str(run) and record["design"] == "nested"
    assert record["findings"][0]["split"]["interaction"] is None


MISTAKES = [
    (["--renders", "1"], "error: --renders is 1; it must be at least 2: without several pictures of a token sequence"),
    (["--group", "1"], "error: --group is 1; it must be at least 2: without several token sequences of a prompt"),
    (["--steps", "1,x"], "error: --steps '1,x': must be whole numbers from 1 with commas between them"),
    (["--steps", "0"], "error: --steps '0': must be whole numbers from 1"),
    (["--out", "{file}"], "is a file; name a folder"),
    (["--steps", "2", "render.sampler.use=cps"], "includes the last of 2 steps and would leave its noise"),
    (["render.sampler.use=cpss"], "did you mean 'cps'?"),
    (["render.sampler={use: sde, options: {etta: 1}}"], "did you mean 'eta'?"),
]


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_mistake_is_one_line(
    arguments: list[str], sentence: str, tiny_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_config(tmp_path, tiny_policy)
    given = [one.format(file=file) if one == "{file}" else one for one in arguments]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out")]
    assert main([str(file), *out, *given]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and sentence in told[0]


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert f"error: {tmp_path} is no run folder (no config.yaml); give a run's folder" in capsys.readouterr().err
