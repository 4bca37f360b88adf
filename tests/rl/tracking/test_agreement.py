"""A reward that is at odds with a monitor is told of before the monitor has fallen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rl.config.sections.guards import GuardsConfig
from rl.tracking.guards.agreement import agreement, values_of
from rl.tracking.guards.guards import Guards
from rl.types import Score


def test_correlations_of_the_groups_in_which_both_vary() -> None:
    total_PG = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [0.0, 1.0, 2.0]])
    monitor_PG = np.array([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    # -1 and 0, each with the variance 1 / 2 of three pairs by chance
    value, groups = agreement(total_PG, monitor_PG)
    assert groups == 2
    assert value == pytest.approx(-math.sqrt(2) / math.sqrt(2))


def test_what_is_missing_takes_no_part() -> None:
    total_PG = np.array([[0.0, 1.0, math.nan, 5.0]])
    monitor_PG = np.array([values_of([Score(0.0), Score(1.0), Score(1.0), Score(None, failure="late")])])
    assert agreement(total_PG, monitor_PG) == (pytest.approx(1.0), 1)
    value, groups = agreement(total_PG, np.full((1, 4), math.nan))
    assert math.isnan(value) and groups == 0


def test_chance_has_a_standard_error_of_one() -> None:
    rng = np.random.default_rng(0)
    found = [agreement(rng.random((16, 8)), rng.integers(0, 2, (16, 8)).astype(float))[0] for _ in range(300)]
    assert np.std(found) == pytest.approx(1, abs=0.1)


def told(guards: Guards, values: list[float | None]) -> list[tuple[int, str]]:
    rows = [{"agreement/clip": value} for value in values]
    return [(step, alarm.sentence) for step, row in enumerate(rows) for alarm in guards.foresee(step, row)]


def test_what_is_beyond_chance_adds_up() -> None:
    guards = Guards(GuardsConfig(), ["clip"])
    # sums: 0, -1, -1, -2.5, -2, -4.5
    [(step, sentence)] = told(guards, [4.0, -2.0, None, -2.5, -0.5, -3.5, -3.0])
    assert step == 5
    assert sentence == (
        "inside groups, what is rewarded is what 'clip' likes least: by 4.5 standard errors beyond chance by step 6 "
        "(guards.disagreement: 3), so learning it costs that score; combine the two, or mend the reward"
    )


def test_one_alarm_until_it_is_over() -> None:
    values: list[float | None] = [-5.0, -5.0, 1.0, -5.0, *[5.0] * 5, *[-5.0] * 5]
    assert [step for step, _ in told(Guards(GuardsConfig(), ["clip"]), values)] == [0, 9]
    assert told(Guards(GuardsConfig(disagreement=None), ["clip"]), values) == []
    assert told(Guards(GuardsConfig(), []), values) == []


def test_chance_alone_is_told_of_once_in_thousands_of_steps() -> None:
    values = np.random.default_rng(0).standard_normal(60_000).tolist()
    assert 10 < len(told(Guards(GuardsConfig(), ["clip"]), values)) < 60


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("agreement/clip", ("stop", "guards.actions.disagreement")),
        ("eval/geneval/counting", ("lower_lr", "guards.actions.monitor_drop")),
        ("reward/clip", ("lower_lr", "guards.actions.monitor_drop")),
        ("decoder/velocity_mse", ("stop", "guards.actions.reference_rise")),
        ("guard/darkness", ("warn", "guards.action")),
    ],
)
def test_each_guard_has_an_action(metric: str, told: tuple[str, str]) -> None:
    actions = {"disagreement": "stop", "monitor_drop": "lower_lr", "reference_rise": "stop"}
    guards = Guards(GuardsConfig.model_validate({"actions": actions}), ["clip"])
    alarm = guards.foresee(0, {"agreement/clip": -9.0})[0]
    assert guards.action(type(alarm)(metric, 0, 0.0, 0.0, "")) == told
