"""What a run that leaves groups out, samples again or shares its samples out must keep; and guards' own actions."""

from __future__ import annotations

import pytest

from rl.config.rules import check_groups, check_guards
from rl.config.schema import Config
from rl.config.sections.guards import GuardsConfig


def problems(**given: object) -> list[tuple[str, str]]:
    return list(check_groups(Config.model_validate(given)))


def test_what_is_sound() -> None:
    assert problems() == []
    for flat in ("keep", "skip", "resample"):
        assert problems(groups={"flat": flat, "sizes": {"use": "knapsack"}}) == []
    assert problems(groups={"flat": "skip"}, trainers=("ar", "decoder")) == []


@pytest.mark.parametrize(
    ("given", "key", "message"),
    [
        ({"groups": {"flat": "skip"}, "trainers": ("decoder",)}, "groups.flat", "is about the groups of the language"),
        ({"groups": {"flat": "skip"}, "rollout": {"group_size": 1}}, "groups.flat", "so nothing would be left"),
        ({"groups": {"flat": "resample"}, "trainers": ("ar", "decoder")}, "groups.flat", "write trainers: [ar]"),
        ({"groups": {"flat": "resample"}, "rollout": {"sleep": 2}}, "rollout.sleep", "set it to 1"),
        ({"groups": {"sizes": {"use": "neyman"}}, "trainers": ("ar", "decoder")}, "groups.sizes", "trainers: [ar]"),
        ({"groups": {"sizes": {"use": "neyman"}, "unit": 3}}, "groups.unit", "is 3, which does not divide rollout"),
        ({"groups": {"sizes": {"use": "neyman"}, "unit": 8}}, "groups.unit", "is rollout.group_size itself (8)"),
        ({"groups": {"sizes": {"use": "neyman"}, "unit": 1}}, "groups.unit", "compares at least 2 samples of a prompt"),
    ],
)
def test_what_is_refused(given: dict[str, object], key: str, message: str) -> None:
    [(where, told)] = problems(**given)
    assert where == key
    assert message in told


def test_a_guards_own_action_names_a_guard_that_is_on() -> None:
    assert list(check_guards(GuardsConfig(actions={"max_kl": "stop", "disagreement": "lower_lr"}))) == []
    [(key, message)] = check_guards(GuardsConfig(actions={"max_kll": "stop"}))
    assert key == "guards.actions.max_kll" and message.startswith("is no guard, did you mean 'max_kl'? (known: ")
    assert "lr_factor" not in message
    [(key, message)] = check_guards(GuardsConfig(max_kl=None, actions={"max_kl": "stop"}))
    assert message == "can't be taken, for guards.max_kl is null; give it a threshold"
