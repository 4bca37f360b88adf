"""What a sweep finds in runs whose numbers were written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rl.config.load import load
from rl.evaluation.results import Evaluation, Outcome, save
from rl.run_folder.records import Row
from rl.sweep.member import Member
from rl.sweep.plan import plan
from rl.sweep.result.curves import arm_charts
from rl.sweep.result.gather import MadeArm, MadeRun
from rl.sweep.result.page import find_result
from rl.sweep.result.sheet import START, SheetRow
from rl.sweep.result.tables import SweepResult, as_json, markdown

ROOT = Path(__file__).resolve().parents[4]
PROMPTS = 20
CONFIG = f"""\
extends: {ROOT / "examples/geneval.yaml"}
train: {{steps: 10, warmup_steps: 2}}
rewards: {{nice: {{use: clip_score, role: monitor}}}}
"""


def written(folder: Path, passes: int, nice: float, dark: float, pictures: float = 64.0) -> None:
    """``passes``: of the 20 prompts of either task after training, of which 4 pass before."""
    folder.mkdir(parents=True)
    for step, passed, value in ((0, 4, 0.5), (10, passes, nice)):
        outcomes = [
            outcome
            for task in ("colors", "counting")
            for place in range(PROMPTS)
            for outcome in (
                Outcome("geneval", task, f"{task}{place}", 1, float(place < passed)),
                Outcome("nice", task, f"{task}{place}", 1, value + 0.01 * place),
            )
        ]
        save(Evaluation(step, tuple(outcomes)), folder)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(10):
            metrics = {"score": 0.5, "images": pictures, "kl": 0.01, "guard/darkness": dark if step > 7 else 0.1}
            row = {"step": step, "metrics": metrics, "seconds": {"total": 5.0, "evaluate": 2.0}, "alarms": []}
            file.write(json.dumps(row) + "\n")


def found(
    tmp_path: Path,
    arms: dict[str, Sequence[tuple[int, float, float]]],
    pictures: float = 64.0,
    seeds: Sequence[int] = (0, 1, 2),
) -> SweepResult:
    """``arms``: for each seed its passes, monitor and darkness; the second arm has ``pictures`` a step."""
    listed = ", ".join(f"{name}: {{kl.options.beta: {0.005 + 0.01 * place}}}" for place, name in enumerate(arms))
    (tmp_path / "run.yaml").write_text(CONFIG)
    (tmp_path / "beta.yaml").write_text(f"sweep: {{config: run.yaml, arms: {{{listed}}}}}\n")
    planned = plan(tmp_path / "beta.yaml", [], tmp_path / "s", seeds=seeds)
    members = [Member(run) for run in planned.runs]
    for one in members:
        given = arms[one.run.arm]
        place = list(seeds).index(one.run.seed)
        if place < len(given):
            written(one.run.folder, *given[place], pictures=64.0 if one.run.arm == next(iter(arms)) else pictures)
            one.state = "done"
        else:
            one.state, one.reason = "failed", "exit code 3: gone"
    return find_result(planned, members)


def sheet_row(result: SweepResult, name: str, arm: str, against: str) -> SheetRow:
    [row] = [one for one in result.sheet if (one.name, one.arm, one.against) == (name, arm, against)]
    return row


PLAIN = [(10, 0.5, 0.1), (11, 0.5, 0.11), (9, 0.5, 0.09)]
HACKED = [(18, 0.3, 0.5), (19, 0.3, 0.52), (18, 0.3, 0.51)]


def test_scores_differences_and_costs_by_hand(tmp_path: Path) -> None:
    result = found(tmp_path, {"small": PLAIN, "large": HACKED})
    rows = {(row.arm, row.reward, row.task): row for row in result.rows}
    small, large = rows["small", "geneval", "overall"], rows["large", "geneval", "overall"]
    assert small.after.estimate.mean == pytest.approx(0.5)  # 10, 11 and 9 of 20
    assert small.after.estimate.interval == pytest.approx((0.45, 0.55))
    assert small.gain.estimate.mean == pytest.approx(0.3) and small.versus is None
    assert large.versus is not None
    assert large.versus.difference.estimate.mean == pytest.approx((0.4 + 0.4 + 0.45) / 3)
    assert (large.versus.difference.seeds, large.versus.difference.prompts) == (3, 40)
    assert large.versus.significant
    assert result.answers[0].sentences == ("large is better than small on held-out geneval.",)
    # 10 steps of 5 s, 2 of them evaluation, and 64 pictures: .3 in 30 s and 640 pictures
    cost = result.answers[3].sentences
    assert cost[0] == "small: 30 s of training and 640 pictures a run; +0.600 a minute, +0.4688 a thousand pictures."
    assert "(1.00 x the time, 1.00 x the pictures)" in cost[1]
    assert [(one.key, one.texts) for one in result.changed["large"]] == [("kl.options.beta", ("0.005", "0.015"))]
    assert result.warnings == []


def test_what_the_better_arm_has_paid_stands_on_the_sheet(tmp_path: Path) -> None:
    result = found(tmp_path, {"small": PLAIN, "large": HACKED})
    monitor = sheet_row(result, "nice, colors", "large", "small")
    assert (monitor.kind, monitor.verdict, monitor.sure) == ("monitor", "worse", "significant")
    assert monitor.versus.difference.estimate.mean == pytest.approx(-0.2)
    guard = sheet_row(result, "darkness", "large", "small")
    assert (guard.kind, guard.verdict) == ("guard", "worse")  # darker is worse, though the number rose
    assert (guard.theirs, guard.ours) == pytest.approx((0.1, 0.51))
    # the differences are .40, .41 and .42: t = .41 / (.01 / sqrt 3) = 71, with 2 degrees of freedom p = .0002
    assert guard.versus.difference.p == pytest.approx(0.000198, abs=2e-6)
    assert guard.versus.significant
    assert sheet_row(result, "darkness", "large", START).theirs == pytest.approx(0.1)
    assert sheet_row(result, "geneval, colors", "large", "small").verdict == "better"
    assert sheet_row(result, "kl", "large", "small").verdict == "same"
    assert not [row for row in result.sheet if row.name == "kl" and row.against == START]  # moves in any training
    worse = " ".join(result.answers[2].sentences)
    assert "large against small: " in worse and "darkness +0.41" in worse and "nice, colors -0.2" in worse
    assert result.sheet[0].verdict == "worse" and result.sheet[0].versus.significant
    said = json.loads(as_json(result))
    assert said["answers"]["Which is better?"] == ["large is better than small on held-out geneval."]
    assert "| `large` | geneval | colors | 3 | 0.200 | 0.917 [0.900, 0.950] |" in markdown(result)


def test_chance_is_called_chance(tmp_path: Path) -> None:
    other = [(9, 0.5, 0.1), (11, 0.5, 0.11), (11, 0.5, 0.09)]
    result = found(tmp_path, {"small": PLAIN, "large": other})
    assert result.answers[0].sentences == (
        "No arm is surely better than small on held-out geneval: large is highest (0.517 against 0.500), which may be "
        "chance.",
    )
    assert "may be chance, 3 seeds." in result.answers[1].sentences[0]


def test_what_is_not_to_be_believed_is_warned_of(tmp_path: Path) -> None:
    result = found(tmp_path, {"small": PLAIN, "large": HACKED[:2]}, pictures=128.0)
    assert result.warnings == [
        "Fewer than 3 seeds: large (2). Another seed may say something else.",
        "large, seed 2, is missing (failed: exit code 3: gone).",
        "The arms have different budgets of training pictures: small 640, large 1,280. More pictures alone teach more.",
    ]
    assert "2 seeds." in result.answers[1].sentences[0]  # those of both


def test_what_was_not_compared_is_not_called_unhurt(tmp_path: Path) -> None:
    result = found(tmp_path, {"small": [], "large": HACKED})
    assert result.answers[1].question == "What got worse?"
    against = [one for one in result.answers[1].sentences if one.startswith("large against small")]
    assert against == ["large against small: not compared, for no finished run has the same seed."]


def test_one_seed_is_told_to_be_one(tmp_path: Path) -> None:
    result = found(tmp_path, {"small": PLAIN[:1], "large": HACKED[:1]}, seeds=[0])
    assert result.warnings == ["Fewer than 3 seeds: small (1) and large (1). Another seed may say something else."]
    guard = sheet_row(result, "darkness", "large", "small")
    assert (guard.versus.difference.p, guard.sure) == (None, "one seed cannot tell")


def test_nothing_done_is_a_page_all_the_same(tmp_path: Path) -> None:
    result = found(tmp_path, {"small": [], "large": []})
    assert (list(result.rows), list(result.answers)) == ([], [])
    assert len(result.warnings) == 6


def test_curves_of_many_arms_have_fewer_points() -> None:
    """Each page has all of them three times, over steps, pictures and seconds."""
    rows = [Row(step, {"score": 0.5, "images": 64.0}, {"total": 1.0}) for step in range(250)]
    run = MadeRun("a", 0, Path(), load(None, ["rewards.geneval.use=geneval"]), rows, [Evaluation(0, ())], [])
    counts = []
    for arms in (1, 15):
        [chart] = arm_charts([MadeArm(f"a{place}", (run, run), ()) for place in range(arms)])
        counts.append({len(curve.line.split()) for curve in chart.by_axis["step"].curves})
    assert counts == [{125}, {42}]
