"""What is measured where the command line says nothing: of every example, and of a sampler with a window."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.config.load import load
from rl.types import UserError
from rl.variance.arguments import VariancePlan, make_plan, read_arguments
from tests.rl.config.test_examples import EXAMPLES, named
from tests.rl.run_case import ROOT

DECODER = str(ROOT / "examples" / "decoder.yaml")
LEARNING = [path for path in EXAMPLES if "decoder" in load(path).trainers]
CPS = ["render.sampler.use=cps", "render.sampler.options.window=2"]


def planned(*arguments: str) -> VariancePlan:
    return make_plan(read_arguments(arguments))


@pytest.mark.parametrize("path", LEARNING, ids=named)
def test_every_example_that_trains_a_decoder_can_be_measured(path: Path) -> None:
    plan = planned(str(path))
    assert plan.group >= 2 and plan.spoken == load(path).render.steps


def test_a_group_of_one_is_measured_in_twos_unless_it_was_asked_for() -> None:
    assert load(DECODER).rollout.group_size == 1 and planned(DECODER).group == 2
    assert planned(DECODER, "rollout.group_size=5").group == 5 and planned(DECODER, "--group", "3").group == 3
    for typed, key in ((["--group", "1"], "--group"), (["rollout.group_size=1"], "rollout.group_size")):
        with pytest.raises(UserError) as raised:
            planned(DECODER, *typed)
        assert str(raised.value).startswith(f"{key} is 1; it must be at least 2: without several token sequences")


def test_steps_that_a_window_does_not_fit_are_left_out_unless_they_were_asked_for() -> None:
    assert planned(DECODER, "render.steps=4").steps == (1, 2, 3, 4, 8)
    assert planned(DECODER, "render.steps=4", *CPS).steps == (3, 4, 8)
    assert planned(DECODER, "--steps", "3,5", *CPS).steps == (3, 5)
    with pytest.raises(UserError) as raised:
        planned(DECODER, "--steps", "2,4", *CPS)
    assert str(raised.value) == (
        "--steps 2: render.sampler.options.window is 2 from step 0, which includes the last of 2 steps and would leave "
        "its noise in the picture; leave 2 out, or make the window smaller"
    )
