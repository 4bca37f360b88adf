"""The whole command, its prices from a table or a log, and every mistake as a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rl.run_folder.usage import CallSpan, UsageRow, append_usage
from rl.simulate.__main__ import main
from rl.simulate.costs import H100, costs_of_run
from rl.types import UserError

CONFIG = Path(__file__).parents[3] / "examples" / "geneval.yaml"
SMALL = ["--workers", "3..12", "--steps", "12"]


def run_folder(folder: Path, *seconds: dict[str, float], images: float | None = 64.0) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text("run: {seed: 0}\n")
    rows = [{"step": i, "metrics": {"images": images}, "seconds": s, "alarms": []} for i, s in enumerate(seconds)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


STEP = {"sample": 1.0, "paint": 4.0, "forward": 1.0, "score": 0.5, "update": 2.0, "sync": 0.25, "evaluate": 9.0}


def test_a_whole_simulation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main([str(CONFIG), *SMALL, "--staleness", "1", "--out", str(out), "data.prompts_per_step=8"]) == 0
    shown = capsys.readouterr().out
    assert "staleness 1; costs: BLIP3o-NEXT on H100s, derived, not measured" in shown
    assert "The costs are derived, not measured: nothing here has run on such machines." in shown
    assert "those that learn from it: 0, 1." in shown
    assert "; 288 of 288 groups were learnt from and 0 have failed." in shown
    record = json.loads((out / "simulation.json").read_text())
    assert [row["workers"] for row in record["rows"]] == [3, 6, 12]
    assert all(row["step_seconds"] == pytest.approx(row["formula_seconds"], rel=0.1) for row in record["rows"])
    assert record["rows"][0]["staleness"] == {"0": 1, "1": 11}
    picture = (out / "simulation.svg").read_text()
    assert picture.startswith("<svg") and "three steps on 1:1:1 of 3 workers" in picture
    assert picture.count("<polyline") == 9 and "trainer: step 7" in picture


def test_on_shared_cores_they_are_what_a_step_waits_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", STEP)
    size = ["data.prompts_per_step=8", "rollout.group_size=8", "--slow", "0", "--hours-between-failures", "0"]
    given = [str(CONFIG), "--run", str(run), "--workers", "3", "--steps", "24", "--out", str(tmp_path / "out"), *size]
    found = {}
    for more in ([], ["--cores", "1"]):
        assert main([*given, *more]) == 0
        (row,) = json.loads((tmp_path / "out" / "simulation.json").read_text())["rows"]
        found[bool(more)] = row
    assert found[True]["bound_by"] == "cores" and found[False]["bound_by"] == "painters"
    assert found[True]["formula_seconds"] == pytest.approx(1.0 + 5.0 + 0.5 + 2.25)
    assert found[True]["step_seconds"] == pytest.approx(found[True]["formula_seconds"], rel=0.1)


def test_the_time_that_faults_cost_counts_whenever_they_come(tmp_path: Path) -> None:
    """Also in the first steps, which are no measure of the speed."""
    often = ["--hours-between-failures", "0.1", "--restart", "100", "--slow", "0", "checkpoint.every=1"]
    assert main([str(CONFIG), "--workers", "6", "--steps", "12", "--out", str(tmp_path), *often]) == 0
    (row,) = json.loads((tmp_path / "simulation.json").read_text())["rows"]
    assert row["counts"]["trainer deaths"] > 0
    lost = 12 * (row["faulty_step_seconds"] - row["step_seconds"])
    assert lost > 100 * row["counts"]["trainer deaths"]


def test_what_a_trainers_deaths_cost_on_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", STEP)
    size = ["data.prompts_per_step=8", "rollout.group_size=8", "checkpoint.every=40", "--hours-between-failures", "2"]
    assert main([str(CONFIG), "--run", str(run), "--workers", "3", "--out", str(tmp_path / "out"), *size]) == 0
    # 240 s and 20 steps of 2.25 s, once in 7200 s of updates
    said = "one in 2 hours of work, each 285 s by the restart and the steps since a checkpoint, so 0.089 s a step."
    assert said in capsys.readouterr().out


def test_a_runs_own_log_is_the_price_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One worker of each kind and staleness 0 take what the serial run took."""
    run = run_folder(tmp_path / "run", {"sample": 99.0}, STEP, STEP, STEP)  # the first step is a warm-up
    size = ["data.prompts_per_step=8", "rollout.group_size=8"]
    command = [str(CONFIG), "--run", str(run), "--workers", "3", "--staleness", "0", "--steps", "8", *size]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert f"costs: {run}, medians of 3 steps" in capsys.readouterr().out.replace("\n", " ")
    (row,) = json.loads((tmp_path / "out" / "simulation.json").read_text())["rows"]
    assert row["time_shared_seconds"] == pytest.approx(3 / 8 * (1 + 5) + 2.25 / 3)  # 3 of 8 groups on one device
    # sampled, then painted group by group, the last one scored, then learnt from
    assert row["step_seconds"] == pytest.approx(1.0 + 5.0 + 0.5 / 8 + 2.25, rel=0.01)
    costs = costs_of_run(run, 64)
    assert (costs.sample_sequence, costs.paint_picture, costs.update_sequence) == (1 / 64, 5 / 64, 2.25 / 64)
    assert costs.measured and costs.jitter == 0.0


def test_of_a_run_on_a_cluster_the_calls_of_its_workers_are_the_prices(tmp_path: Path) -> None:
    """Its own log says nothing of sampling and painting, which it has not done itself."""
    here = {"collect": 7.0, "score": 0.5, "update": 2.0, "sync": 0.25}
    run = run_folder(tmp_path / "run", here, here, here)
    for step in range(3):
        calls = [("sampler-0", 0, 0.5), ("sampler-3", 0.25, 0.75), ("painter-0", 1, 4), ("painter-1", 2, 4)]
        calls.append(("trainer", 5, 9))
        spans = [CallSpan(worker, step, start, end) for worker, start, end in calls]
        append_usage(run, UsageRow(step, 2, None, 9.0, 7.0, {}, {}, {}, {}, spans))
    costs = costs_of_run(run, 64)
    assert (costs.sample_sequence, costs.paint_picture, costs.update_sequence) == (1 / 64, 5 / 64, 2.25 / 64)
    assert costs.score_picture == 0.5 / 64 and costs.measured


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--workers", "2"], "2 workers can't be simulated: one samples, one paints, one learns, so from 3 to 4096"),
        (["--workers", "64..8"], "'64..8' goes down; write the smaller number first"),
        (["--workers", "8-512"], "'8-512' is not a range such as 8..512, nor a list such as 8,32"),
        (["--staleness", "-1"], "'-1' is not a whole number from 0 to 64"),
        (["--slow", "2"], "'2' is not a number from 0 to 1"),
        (["--slow", "nan"], "'nan' is not a number from 0 to 1"),
        (["--pictures-per-worker", "0"], "'0' is not a whole number from 1 to 10000"),
        (["--steps", "x"], "'x' is not a whole number from 2 to 1000"),
        (["--run", "a", "--costs", "b"], "argument --costs: not allowed with argument --run"),
    ],
)
def test_wrong_arguments(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([str(CONFIG), *given])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def told(given: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(CONFIG), *given]) == 2
    return capsys.readouterr().err.strip()


def test_too_few_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["--steps", "8", "--staleness", "3"], capsys) == (
        "error: --steps 8 with --staleness 3: the first steps are no measure of those that follow; simulate at least 10"
    )


def test_more_than_can_be_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["--pictures-per-worker", "10000", "--workers", "4096"], capsys) == (
        "error: 24 steps of 5,120,000 groups are more than can be simulated (2,000,000 groups in all); take fewer "
        "--steps, or fewer pictures a step"
    )


def test_wrong_price_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "costs.yaml"
    assert told(["--costs", str(file)], capsys) == (
        f"error: --costs {file}: can't be read (No such file or directory); a table to begin with is {H100}"
    )
    file.write_text("source: ours\nmeasured: true\nsample_sequence: -1\npaint_pictur: 2\nupdate_sequence: 1\n")
    said = told(["--costs", str(file)], capsys)
    assert "sample_sequence must be greater than 0, got -1" in said
    assert "paint_picture" in said and "paint_pictur " in said and f"a whole table is {H100}" in said
    file.write_text("source: [ours\n")
    assert str(file) in told(["--costs", str(file)], capsys)


def test_runs_that_say_no_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(["--run", str(tmp_path)], capsys) == (
        f"error: --run {tmp_path} is no run folder (no config.yaml); give the folder of a run that has logged steps"
    )
    empty = run_folder(tmp_path / "empty")
    assert told(["--run", str(empty)], capsys) == (
        f"error: --run {empty}: metrics.jsonl has no step with pictures yet; let the run log a few steps"
    )
    untrained = run_folder(tmp_path / "untrained", {"sample": 1.0, "paint": 1.0, "score": 1.0})
    assert told(["--run", str(untrained)], capsys) == (
        f"error: --run {untrained}: metrics.jsonl has no seconds for update or decoder or sync, so it can't say what "
        "update costs; give the log of a run that samples, paints and learns, or --costs FILE"
    )
    with pytest.raises(UserError, match="is no run folder"):
        costs_of_run(tmp_path / "nowhere", 8)


def test_an_out_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.write_text("")
    assert told([*SMALL, "--out", str(out)], capsys) == (f"error: --out {out} is a file; name a folder")


def test_what_the_table_leaves_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoder = CONFIG.with_name("decoder.yaml")
    assert main([str(decoder), "--workers", "3", "--steps", "8", "--out", str(tmp_path)]) == 0
    assert "no price for the decoder's own update, which is left out; --run RUN has one." in capsys.readouterr().out
    assert main([str(CONFIG), "--workers", "3", "--steps", "8", "--out", str(tmp_path)]) == 0
    assert "decoder's own update" not in capsys.readouterr().out
