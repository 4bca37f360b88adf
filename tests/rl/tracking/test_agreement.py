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


def told(guards: Guards, values: list[float | None], groups: float = 16) -> list[tuple[int, str]]:
    rows = [{"agreement/clip": value, "agreement_groups/clip": groups} for value in values]
    return [(step, alarm.sentence) for step, row in enumerate(rows) for alarm in guards.check(step, row)]


def test_steps_are_put_together() -> None:
    guards = Guards(GuardsConfig(), ["clip"])
    [(step, sentence)] = told(guards, [-2.0, None, -2.5, -2.5, -3.0, -3.0])
    assert step == 3  # -7 / sqrt(3) = -4.04
    assert sentence == (
        "inside groups, what is rewarded is what 'clip' likes least: by 4.0 standard errors at step 4 "
        "(guards.disagreement: 4), so learning it will cost that score; combine the two, or mend the reward"
    )


def test_one_alarm_until_it_is_over() -> None:
    values: list[float | None] = [-5.0, -5.0, *[5.0] * 5, *[-5.0] * 5]
    assert [step for step, _ in told(Guards(GuardsConfig(), ["clip"]), values)] == [0, 10]
    assert told(Guards(GuardsConfig(disagreement=None), ["clip"]), values) == []
    assert told(Guards(GuardsConfig(), []), values) == []


def test_steps_count_by_their_groups() -> None:
    guards = Guards(GuardsConfig(), ["clip"])
    assert guards.check(0, {"agreement/clip": -3.9, "agreement_groups/clip": 100.0}) == []
    # (-3.9 * 10 - 1 * 1) / sqrt(101) = -3.98, where equal weights would give -3.46
    [alarm] = guards.check(1, {"agreement/clip": -1.5, "agreement_groups/clip": 1.0})
    assert alarm.value == pytest.approx((-39 - 1.5) / math.sqrt(101))


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
    alarm = guards.check(0, {"agreement/clip": -9.0, "agreement_groups/clip": 4.0})[0]
    assert guards.action(type(alarm)(metric, 0, 0.0, 0.0, "")) == told
