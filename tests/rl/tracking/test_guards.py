from __future__ import annotations

import numpy as np
import pytest

from rl.config.sections.guards import GuardsConfig
from rl.tracking.guards.guards import Guards
from rl.tracking.guards.pictures import (
    Fidelity,
    color_entropy,
    diversity,
    edge_density,
    evenly,
    picture_metrics,
    render_fidelity,
    saturation,
    token_metrics,
)
from rl.tracking.guards.watches import WINDOW

WHITE, BLACK, RED = (255, 255, 255), (0, 0, 0), (255, 0, 0)


def picture(rows: list[list[tuple[int, int, int]]]) -> np.ndarray:
    return np.array(rows, dtype=np.uint8)


def test_darkness_and_saturation_by_hand() -> None:
    pictures = np.stack([picture([[WHITE, BLACK], [BLACK, RED]])])
    metrics = picture_metrics(pictures, 1)
    # red's luma is .2126: dark as well
    assert metrics["guard/darkness"] == 0.75
    assert metrics["guard/saturation"] == 0.25
    assert "guard/diversity" not in metrics  # groups of one


def test_saturation_of_pastel() -> None:
    # (200, 100, 100): (max - min) / max = 100 / 200
    assert saturation(np.array([[[[200, 100, 100]]]], np.uint8))[0] == pytest.approx(0.5)


def test_edge_density_by_hand() -> None:
    luma = np.array([[[1, 1, 0], [1, 1, 0], [0, 0, 0]]], np.float32)
    # the four inner pixels: (0,0) no edge; (0,1) right; (1,0) below; (1,1) both
    assert edge_density(luma)[0] == 0.75
    assert edge_density(np.full((1, 4, 4), 0.3, np.float32))[0] == 0


def test_color_entropy_by_hand() -> None:
    one_colour, four = picture([[WHITE, WHITE]] * 2), picture([[WHITE, BLACK], [RED, (0, 255, 0)]])
    alike = picture([[(1, 1, 1), (60, 60, 60)]] * 2)  # in the same quarter of each channel
    assert color_entropy(np.stack([one_colour, four, alike])) == pytest.approx([0, 2, 0])


def test_diversity_equals_the_mean_over_pairs() -> None:
    rgb = np.random.default_rng(0).random((6, 4, 4, 3), dtype=np.float32)
    for group, found in zip(np.split(rgb, 2), diversity(rgb, 3), strict=True):
        pairs = [((group[i] - group[j]) ** 2).mean() for i in range(3) for j in range(i + 1, 3)]
        assert found == pytest.approx(np.sqrt(np.mean(pairs)), rel=1e-5)
    black_white = np.stack([np.zeros((2, 2, 3), np.float32), np.ones((2, 2, 3), np.float32)])
    assert diversity(black_white, 2)[0] == pytest.approx(1)
    with pytest.raises(ValueError, match="6 pictures are not groups of 4"):
        diversity(rgb, 4)


def test_token_metrics_by_hand() -> None:
    metrics = token_metrics(np.array([[7, 7, 7, 1], [7, 1, 2, 3]]))
    assert metrics["guard/ink_fraction"] == (0.25 + 0.75) / 2
    assert metrics["guard/distinct_tokens"] == (0.5 + 1.0) / 2


def test_render_fidelity() -> None:
    assert render_fidelity(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [3, 5]])) == 0.75
    with pytest.raises(ValueError, match="differ in shape"):
        render_fidelity(np.zeros((2, 2), int), np.zeros((2, 3), int))


class FirstPixels:
    """Reads the tokens off the picture's first pixels, and counts the pictures that it is shown."""

    def __init__(self) -> None:
        self.shown: list[int] = []

    def encode(self, pictures: np.ndarray) -> np.ndarray:
        self.shown += pictures[:, 0, 0, 0].tolist()
        return pictures[:, 0, :2, 0].astype(np.int64)


def test_fidelity_of_a_share_of_the_pictures() -> None:
    tokens = np.stack([np.arange(24), np.zeros(24, int)], axis=1)
    pictures = np.zeros((24, 4, 4, 3), np.uint8)
    pictures[:, 0, 0] = np.arange(24)[:, None]
    pictures[12, 0, 1] = 9  # one wrong token
    for share, shown in ((1.0, list(range(24))), (0.25, [0, 4, 8, 12, 16, 20]), (0.01, [0])):
        tokenizer = FirstPixels()
        found = Fidelity(tokenizer, share)(tokens, pictures)
        assert tokenizer.shown == shown
        assert found == {"guard/render_fidelity": 1 - (12 in shown) / (2 * len(shown))}
    tokenizer = FirstPixels()
    assert Fidelity(tokenizer, 0)(tokens, pictures) == {}
    assert tokenizer.shown == []


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize(("groups", "size"), [(8, 16), (3, 5), (7, 4)])
def test_a_share_is_spread_over_the_groups(share: float, groups: int, size: int) -> None:
    chosen = evenly(groups * size, share)
    assert len(chosen) == np.ceil(share * groups * size)
    assert len(np.unique(chosen)) == len(chosen)
    of_group = np.bincount(chosen // size, minlength=groups)
    assert of_group.max() - of_group.min() <= 1
    assert np.array_equal(chosen, evenly(groups * size, share))


def test_without_render_fidelity_its_guard_is_silent() -> None:
    first = [0.9] * 5
    assert len(run(Guards(GuardsConfig()), "guard/render_fidelity", first + [0.1] * 9)) == 1
    guards = Guards(GuardsConfig(render_fidelity_share=0))
    assert run(guards, "guard/render_fidelity", first) == []
    missing = Fidelity(FirstPixels(), 0)(np.zeros((9, 2), int), np.zeros((9, 2, 2, 3), np.uint8))
    assert [alarm for step in range(5, 30) for alarm in guards.check(step, missing)] == []


def run(guards: Guards, metric: str, values: list[float]) -> list[tuple[int, str]]:
    return [(a.step, a.sentence) for step, value in enumerate(values) for a in guards.check(step, {metric: value})]


def test_alarm_when_the_smoothed_value_leaves_the_band() -> None:
    # baseline: five steps of .4. A window of .4 .4 .4 .9 .9 has mean .6 (inside), .4 .4 .9 .9 .9 has .7 (outside)
    values = [0.4] * 8 + [0.9] * 6
    alarms = run(Guards(GuardsConfig()), "guard/darkness", values)
    assert [step for step, _ in alarms] == [10]  # once, not at every step outside
    assert alarms[0][1].startswith("darkness rose from 0.4 to 0.7 by step 11 (guards.darkness_rise: 0.25): look at the")


def test_one_wild_step_is_smoothed_away() -> None:
    assert run(Guards(GuardsConfig()), "guard/darkness", [0.4] * 8 + [1.0] + [0.4] * 8) == []


def test_direction_matters() -> None:
    assert run(Guards(GuardsConfig()), "guard/darkness", [0.9] * 5 + [0.1] * 9) == []  # only a rise is suspicious
    assert len(run(Guards(GuardsConfig()), "guard/saturation", [0.9] * 5 + [0.1] * 9)) == 1
    assert len(run(Guards(GuardsConfig()), "guard/saturation", [0.1] * 5 + [0.9] * 9)) == 1


def test_relative_drop() -> None:
    assert run(Guards(GuardsConfig()), "guard/edge_density", [0.2] * 5 + [0.11] * 9) == []
    [(step, sentence)] = run(Guards(GuardsConfig()), "guard/edge_density", [0.2] * 5 + [0.09] * 9)
    assert step == 9
    assert "edge density fell from 0.2 to 0.09 by step 10 (guards.edge_drop: 50%)" in sentence


def test_an_alarm_can_come_back() -> None:
    values = [0.1] * 5 + [0.9] * 5 + [0.1] * 10 + [0.9] * 5
    assert [step for step, _ in run(Guards(GuardsConfig()), "guard/darkness", values)] == [9, 21]


def test_maxima_need_no_baseline() -> None:
    [(step, sentence)] = run(Guards(GuardsConfig()), "mismatch", [0.2] * 10)
    assert step == WINDOW - 1
    assert sentence.startswith("mismatch is 0.2 at step 5 (guards.max_mismatch: 0.05): sampler")


def test_the_age_of_weights_is_no_fault_of_the_sync() -> None:
    """Together they are above max_mismatch, and none of it is a difference of weights that should be the same."""
    old = {"mismatch": 0.2, "mismatch_numerics": 0.01, "mismatch_age": 0.19}
    assert alarms_of(old) == []
    [sentence] = alarms_of({"mismatch": 0.5, "mismatch_numerics": 0.01, "mismatch_age": 0.49})
    assert sentence == (
        "mismatch age is 0.49 at step 5 (guards.max_mismatch_age: 0.3): the policy has moved far since the weights "
        "that sampled, whose numbers are in order; lower train.lr or loop.staleness"
    )
    [sentence] = alarms_of({"mismatch": 0.2, "mismatch_numerics": 0.2, "mismatch_age": 0.0})
    assert sentence == (
        "mismatch numerics is 0.2 at step 5 (guards.max_mismatch: 0.05): sampler and painter, with the same weights, "
        "disagree on log-probs; check the weight sync, and that dtypes and temperature agree"
    )


def alarms_of(metrics: dict[str, float]) -> list[str]:
    guards = Guards(GuardsConfig())
    return [alarm.sentence for step in range(WINDOW) for alarm in guards.check(step, metrics)]


def test_monitors_and_evaluations() -> None:
    guards = Guards(GuardsConfig(), monitors=["clip"])
    assert len(run(guards, "reward/clip", [0.8] * 5 + [0.6] * 5)) == 1
    assert run(guards, "reward/geneval", [0.8] * 5 + [0.1] * 5) == []  # trained on: no monitor
    [(step, sentence)] = run(Guards(GuardsConfig()), "eval/geneval/counting", [0.8, 0.75, 0.65])
    assert step == 2
    assert sentence.startswith("eval/geneval/counting fell from 0.8 to 0.65 by step 3")


def test_a_task_of_few_prompts_falls_by_chance() -> None:
    fell = [0.6, 0.4]  # of 5: two standard errors are 2 sqrt(2 x .25 / 5) = .63; of 200: .1
    assert run(Guards(GuardsConfig(), held_out={"counting": 5}), "eval/geneval/counting", fell) == []
    assert len(run(Guards(GuardsConfig(), held_out={"counting": 201}), "eval/geneval/counting", fell)) == 1
    assert len(run(Guards(GuardsConfig(), held_out={"colors": 5}), "eval/geneval/counting", fell)) == 1  # not known
    assert len(run(Guards(GuardsConfig(), held_out={"words": 5}), "eval/pick/words", [21.0, 20.0])) == 1  # no share


def test_a_monitor_of_few_pictures_falls_by_chance() -> None:
    wild, calm = [1.0, 0.6, 0.2, 1.0, 0.7], [0.71, 0.7, 0.69, 0.7, 0.7]
    # the variance of five values is .11 before and after: two standard errors are 2 sqrt(.11 / 5 + .11 / 5) = .42
    assert run(Guards(GuardsConfig(), ["clip"]), "reward/clip", wild + [value - 0.15 for value in wild]) == []
    assert len(run(Guards(GuardsConfig(), ["clip"]), "reward/clip", calm + [value - 0.15 for value in calm])) == 1


def test_null_turns_an_alarm_off_and_nan_is_skipped() -> None:
    assert run(Guards(GuardsConfig(darkness_rise=None)), "guard/darkness", [0.1] * 5 + [0.9] * 9) == []
    assert run(Guards(GuardsConfig()), "guard/darkness", [0.1] * 5 + [float("nan")] * 9) == []


def test_replay_equals_never_having_stopped() -> None:
    values = [0.4] * 8 + [0.9] * 6 + [0.4] * 6 + [0.95] * 6
    history = [(step, {"guard/darkness": value}) for step, value in enumerate(values)]
    whole = Guards(GuardsConfig())
    expected = [whole.check(step, metrics) for step, metrics in history]
    for stop in range(len(history)):
        resumed = Guards(GuardsConfig())
        resumed.replay(history[:stop])
        assert [resumed.check(step, metrics) for step, metrics in history[stop:]] == expected[stop:]
