from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from rl.config.sections.milestones import EvalConfig
from rl.evaluation.evaluate import evaluate, grid_prompts, strict_value, task_of
from rl.evaluation.results import Evaluation, Outcome, compare, load, load_all, save, with_graded
from rl.evaluation.statistics import (
    Estimate,
    macro_mean,
    mean_of,
    mean_over_prompts,
    paired_bootstrap,
    share_interval,
    sign_flip,
    t_interval,
    wilson,
)
from rl.evaluation.tables import table
from rl.types import Prompt, Score, UserError
from rollout.seeds import sample_seed


def test_wilson_against_published_values() -> None:
    # Newcombe 1998, table I, method 3: 81/263 -> .2553 to .3662; 0/20 -> 0 to .1611
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)  # type: ignore[arg-type]
    assert wilson(0, 20).low == 0
    assert wilson(0, 20).high == pytest.approx(0.1611, abs=1e-4)
    assert wilson(20, 20).high == 1
    with pytest.raises(ValueError, match="3 passed of 2"):
        wilson(3, 2)


def test_t_interval_by_hand() -> None:
    # 1, 2, 3: sd 1, t(.975, 2) = 4.3027, half-width 4.3027 / sqrt(3)
    found = t_interval([1, 2, 3])
    assert found.mean == 2
    assert found.high == pytest.approx(2 + 4.30265 / 3**0.5, abs=1e-4)
    assert t_interval([5.0]) == Estimate(5.0, None, None)


def test_mean_of_chooses_the_interval() -> None:
    assert mean_of([1.0, 0.0, 1.0]) == wilson(2, 3)
    assert mean_of([0.5, 0.7]) == share_interval([0.5, 0.7])
    assert mean_of([0.5, 1.7]) == t_interval([0.5, 1.7])  # no shares


def test_an_interval_of_shares_is_students_and_stays_between_0_and_1() -> None:
    values = np.random.default_rng(0).uniform(0.3, 0.7, 400).tolist()
    found, students = share_interval(values), t_interval(values)
    assert (found.low, found.high) == pytest.approx((students.low, students.high), abs=1e-4)
    # 29 of 30 right and one nearly: Student's reaches 1.009
    near = [1.0] * 29 + [0.75]
    assert t_interval(near).high > 1  # type: ignore[operator]
    # mean .99167, variance of the mean .25^2 / 30^2: as of 119 passes and failures; t(.975, 29) = 2.0452
    share, n, t = 0.991667, 119.0, 2.0452
    half = t / (2 * (n + t**2)) * (4 * n * share * (1 - share) + t**2) ** 0.5
    centre = (2 * n * share + t**2) / (2 * (n + t**2))
    assert share_interval(near).interval == pytest.approx((centre - half, centre + half), abs=1e-3)
    assert share_interval(near).high < 1  # type: ignore[operator]
    # two values say little of a third
    low, high = share_interval([0.4, 0.6]).interval or (0.0, 0.0)
    assert 0 < low < 0.05 and 0.95 < high < 1
    assert share_interval([0.4]) == Estimate(0.4, None, None)
    assert share_interval([0.4, 0.4]) == Estimate(0.4, 0.4, 0.4)


def test_samples_of_one_prompt_are_no_independent_ones() -> None:
    assert mean_over_prompts([[1.0], [0.0], [1.0]]) == wilson(2, 3)
    # three samples that always agree say no more than one
    alike = mean_over_prompts([[1.0] * 3] * 30 + [[0.0] * 3] * 10)
    assert (alike.low, alike.high) == pytest.approx((wilson(30, 40).low, wilson(30, 40).high))
    # samples that have nothing to do with their prompt say as much as other prompts would
    coins = np.random.default_rng(0).integers(0, 2, (400, 4)).astype(float)
    found, free = mean_over_prompts(coins.tolist()), wilson(int(coins.sum()), coins.size)
    assert (found.low, found.high) == pytest.approx((free.low, free.high), abs=0.003)
    # nothing ever passed: the prompts are what there is
    assert mean_over_prompts([[0.0, 0.0]] * 20).high == pytest.approx(0.1611, abs=1e-4)
    assert mean_over_prompts([[0.5, 0.7], [0.1, 0.3]]) == share_interval([0.6, 0.2])


def test_macro_mean_by_hand() -> None:
    found = macro_mean([Estimate(0.2, 0.17, 0.24), Estimate(0.8, 0.76, 0.83)])
    # below: hypot(.03, .04) / 2; above: hypot(.04, .03) / 2
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.475, 0.525))
    assert macro_mean([Estimate(0.2, None, None), Estimate(0.8, 0.7, 0.9)]) == Estimate(0.5, None, None)


def test_paired_bootstrap() -> None:
    constant = paired_bootstrap({"a": [0.5] * 4, "b": [0.1] * 9})
    assert (constant.mean, constant.low, constant.high) == pytest.approx((0.3, 0.3, 0.3))
    values = np.random.default_rng(0).normal(0.2, 1, 400)
    found, normal = paired_bootstrap({"a": list(values)}), t_interval(list(values))
    assert found.low == pytest.approx(normal.low, abs=0.02)
    assert found.high == pytest.approx(normal.high, abs=0.02)
    assert found == paired_bootstrap({"a": list(values)})  # the same table every time it is made


def test_sign_flip_by_hand() -> None:
    # three gains of three: the signs are all alike in 2 of 8 draws
    assert sign_flip({"a": [1, 1, 1, 0]}, resamples=40000) == pytest.approx(2 / 8, abs=0.01)
    # mean of two tasks: only all four signs alike give .75 or more
    assert sign_flip({"a": [1, 1], "b": [0.5, 0.5]}, resamples=40000) == pytest.approx(2 / 16, abs=0.01)
    assert sign_flip({"a": [0, 0]}) == 1
    assert sign_flip({"a": [1, -1]}) == 1
    assert sign_flip({"a": [1] * 40}) == pytest.approx(1 / 4001)


def outcomes(values: Mapping[str, Sequence[float | None]], reward: str = "geneval", seed: int = 1) -> list[Outcome]:
    return [
        Outcome(reward, task, f"{task}{i}", seed, value, None if value is not None else "timed out")
        for task, members in values.items()
        for i, value in enumerate(members)
    ]


def test_failures_are_counted_apart_and_never_zero() -> None:
    result = Evaluation(0, tuple(outcomes({"counting": [1, 1, None, 0], "colors": [None]}))).results["geneval"]
    assert (result["counting"].n, result["counting"].failed) == (3, 1)
    assert result["counting"].estimate == wilson(2, 3)
    assert (result["colors"].n, result["colors"].failed, result["colors"].estimate) == (0, 1, None)
    assert result["overall"].estimate is not None
    assert result["overall"].estimate.mean == pytest.approx(2 / 3)
    assert result["overall"].failed == 2


def test_overall_is_the_mean_of_tasks_not_of_samples() -> None:
    evaluation = Evaluation(0, tuple(outcomes({"a": [1] * 9, "b": [0]})))
    assert evaluation.flat() == {"eval/geneval/a": 1.0, "eval/geneval/b": 0.0, "eval/geneval/overall": 0.5}


def test_compare_takes_the_same_samples_only() -> None:
    before = Evaluation(0, tuple(outcomes({"a": [0, 0, 1, None, 1]})))
    after = Evaluation(9, tuple(outcomes({"a": [1, 0, 0, 1, 1]})))
    change = compare(before, after)["geneval"]["a"]
    assert (change.n, change.gained, change.lost, change.difference.mean) == (4, 1, 1, 0)
    other = Evaluation(9, tuple(outcomes({"a": [1]}, seed=2)))
    with pytest.raises(UserError, match="evaluations 0 and 9 share no prompt and seed: evaluate both with the same"):
        compare(before, other)


def test_compare_overall_weighs_tasks_alike() -> None:
    before, after = outcomes({"a": [0] * 9, "b": [1]}), outcomes({"a": [1] * 9, "b": [1]})
    changes = compare(Evaluation(0, tuple(before)), Evaluation(9, tuple(after)))["geneval"]
    assert changes["a"].difference.mean == 1
    assert changes["overall"].difference.mean == 0.5
    assert (changes["overall"].n, changes["overall"].gained) == (10, 9)


def test_strict_value_prefers_pass_or_fail() -> None:
    assert strict_value(Score(0.75, passed=False)) == 0
    assert strict_value(Score(0.9, passed=True)) == 1
    assert strict_value(Score(0.75, details={"strict": 0.75, "exact": 0.0})) == 0.75  # a detail's name means nothing
    assert strict_value(Score(0.9)) == 0.9
    assert strict_value(Score(None, failure="crashed")) is None


def test_grid_prompts_show_every_task() -> None:
    prompts = [Prompt(f"{tag}{i}", tag, {"tag": tag}) for tag in "abc" for i in range(10)]
    assert [prompt.id for prompt in grid_prompts(prompts, 5)] == ["a0", "a1", "b0", "b1", "c0"]
    assert grid_prompts(prompts, 0) == []


class Painter:
    """Stands for the sampler, decoder and rewards: a picture is its seed, even seeds pass."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(
        self, prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[NDArray[np.uint8], dict[str, list[Score]]]:
        self.batches.append(len(prompts))
        count = len(seeds)
        pictures = np.stack([np.full((64, 64, 3), seed % 256, np.uint8) for seed in seeds])
        geneval = [Score(0.5, passed=seed % 2 == 0) for seed in seeds]
        ocr = [Score(None, failure="hung") if i == 0 else Score(None) for i in range(count)]
        return pictures, {"geneval": geneval, "ocr": ocr}


def test_runner_batches_saves_and_loads(tmp_path: Path) -> None:
    prompts = [Prompt(str(i), f"prompt {i}", {"tag": "colors" if i % 2 else "position"}) for i in range(5)]
    painter = Painter()
    found = evaluate(7, prompts, painter, tmp_path, EvalConfig(samples_per_prompt=2, seed=100, grid=3), 2)
    assert painter.batches == [2, 2, 1]
    geneval = [one for one in found.outcomes if one.reward == "geneval"]
    seeds = [sample_seed(100, 0, str(prompt), sample) for prompt in range(5) for sample in range(2)]
    assert [one.seed for one in geneval] == seeds  # the step, 7, plays no part
    assert [one.value for one in geneval] == [seed % 2 == 0 for seed in seeds]  # strict, not the graded .5
    # not applicable is not counted; a failure is
    assert [(one.prompt_id, one.failure) for one in found.outcomes if one.reward == "ocr"] == [
        ("0", "hung"),
        ("2", "hung"),
        ("4", "hung"),
    ]
    assert load_all(tmp_path) == [found]
    assert load(tmp_path / "evaluation-7.json").results == found.results
    sheet = Image.open(tmp_path / "evaluation-7.png")
    assert [(tile.prompt_id, tile.task) for tile in found.tiles] == [
        ("0", "position"),
        ("1", "colors"),
        ("2", "position"),
    ]
    assert [sheet.crop(tile.box).getpixel((5, 5))[0] for tile in found.tiles] == [seed % 256 for seed in seeds[:6:2]]  # type: ignore[index]
    assert found.tiles[0].marks == {"geneval": float(seeds[0] % 2 == 0), "ocr": None}


def test_progress_is_told_in_pictures(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    prompts = [Prompt(str(index), "a") for index in range(3)]
    options = EvalConfig(samples_per_prompt=2, grid=0)
    evaluate(0, prompts, Painter(), tmp_path, options, 2, lambda done, total: told.append((done, total)))
    assert told == [(0, 6), (4, 6), (6, 6)]


def test_runner_refuses_no_prompts_and_equal_ids(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no evaluation prompts: data.eval gave an empty list"):
        evaluate(0, [], Painter(), tmp_path, EvalConfig())
    with pytest.raises(UserError, match=r"two prompts of data.eval have the id '1': give each prompt its own id"):
        evaluate(0, [Prompt("1", "a"), Prompt("1", "b")], Painter(), tmp_path, EvalConfig())


def test_a_damaged_evaluation_is_named(tmp_path: Path) -> None:
    path = tmp_path / "evaluation-0.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"evaluation-0.json:1 is not valid JSON"):
        load(path)
    path.write_text(json.dumps({"step": 0}))
    with pytest.raises(UserError, match=r"evaluation-0.json is not an evaluation"):
        load(path)
    with pytest.raises(UserError, match=r"evaluation-9.json is missing"):
        load(tmp_path / "evaluation-9.json")


def test_tables() -> None:
    before = Evaluation(0, tuple(outcomes({"color_attr": [0] * 20, "counting": [0] * 20})))
    after = Evaluation(50, tuple(outcomes({"color_attr": [1] * 20, "counting": [0] * 19 + [None]})))
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table(before, after))
    shown = capture.get()
    assert "step 0 → 50" in shown
    assert "color attr" in shown
    assert "+1.000 [+1.000, +1.000]" in shown
    assert "reward" not in shown  # one reward needs no column
    [color_attr], [counting], [overall] = (
        [line.strip("│ \n").split() for line in shown.splitlines() if task in line]
        for task in ("color attr", "counting", "overall")
    )
    expected = "20 │ 0.000 [0.00, 0.16] │ 1.000 [0.84, 1.00] │ +1.000 [+1.000, +1.000]"
    assert expected.split() == color_attr[3 : 3 + len(expected.split())]
    assert counting[-1] == "1"  # failed
    assert "+0.500" in overall


def test_a_users_tag_is_shown_as_it_is() -> None:
    before, after = (Evaluation(step, tuple(outcomes({"[red]a/b c": [1], "überall 中": [0]}))) for step in (0, 5))
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table(before, after))
    assert "[red]a/b c" in capture.get() and "überall 中" in capture.get()


@pytest.mark.parametrize(("metadata", "task"), [({}, "untagged"), ({"tag": None}, "untagged"), ({"tag": "x"}, "x")])
def test_a_prompt_that_names_no_task_is_untagged(metadata: Mapping[str, object], task: str) -> None:
    assert task_of(Prompt("a", "a", metadata)) == task


def test_a_reward_that_grades_beside_its_verdict_has_both_numbers(tmp_path: Path) -> None:
    def pipeline(
        batch: Sequence[Prompt], samples: int, seeds: Sequence[int]
    ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
        scores = {
            "details": [Score(0.75, passed=0.0), Score(1.0, passed=1.0), Score(None, failure="died")],
            "strict": [Score(1.0, passed=1.0)] * 3,
            "plain": [Score(0.5)] * 3,
        }
        return np.zeros((3, 8, 8, 3), np.uint8), scores

    prompts = [Prompt(f"p{place}", "x", {"tag": "look"}) for place in range(3)]
    found = evaluate(4, prompts, pipeline, tmp_path, EvalConfig(grid=0))
    assert found.flat() == {
        "eval/details/look": 0.5,
        "eval/details/overall": 0.5,
        "eval/strict/look": 1.0,
        "eval/strict/overall": 1.0,
        "eval/plain/look": 0.5,
        "eval/plain/overall": 0.5,
        "eval_graded/details/look": 0.875,
        "eval_graded/details/overall": 0.875,
    }
    [read] = load_all(tmp_path)
    assert read == found and [one.graded for one in read.outcomes if one.reward == "details"] == [0.75, 1.0, None]
    [whole] = with_graded([found])
    assert list(whole.results) == ["details", "strict", "plain", "details, graded"]
    assert whole.results["details, graded"]["look"].failed == 1
    shown = io.StringIO()
    Console(width=120, file=shown).print(table(found, replace(found, step=8)))
    assert "details, graded" in shown.getvalue()


def test_an_evaluation_from_before_has_no_graded_values(tmp_path: Path) -> None:
    path = save(Evaluation(0, tuple(outcomes({"colors": [1.0, 0.0]}))), tmp_path)
    kept = json.loads(path.read_text())
    for one in kept["outcomes"]:
        del one["graded"]
    path.write_text(json.dumps(kept))
    assert load(path).flat() == {"eval/geneval/colors": 0.5, "eval/geneval/overall": 0.5}
