"""What a run that chooses its prompts says before it starts."""

from __future__ import annotations

import pytest

from rl.config.load import load
from rl.config.schema import Config
from rl.data.prompts import load_prompts
from rl.dry_run import describe
from rl.preflight.prompts import check_draws
from rl.types import Prompt, UserError


def test_a_budget_beyond_the_prompts_is_refused() -> None:
    config = Config.model_validate({"groups": {"flat": "resample"}, "data": {"prompts_per_step": 8}})
    prompts = [Prompt(str(i), "x") for i in range(20)]
    with pytest.raises(UserError) as error:
        check_draws(config, prompts)
    assert str(error.value) == (
        "groups.budget is 3, so a step may sample 24 different prompts (data.prompts_per_step 8), but data.train has "
        "only 20; lower it to at most 2.5 or add prompts"
    )
    check_draws(config, prompts * 2)


def test_a_curriculum_without_tasks_is_refused() -> None:
    config = Config.model_validate({"data": {"curriculum": {"use": "failure"}}})
    with pytest.raises(UserError, match="have no tag, so there are no tasks to choose among; give their lines a"):
        check_draws(config, [Prompt("a", "x"), Prompt("b", "x")])


def test_a_dry_run_tells_what_is_chosen() -> None:
    typed = ["groups=resample", "groups.budget=2", "groups.sizes=knapsack", "data.curriculum=failure"]
    config = load("examples/geneval.yaml", typed)
    prompts = load_prompts(config.data.train, "data.train")
    told = [line.removeprefix("# ") for line in describe(config, prompts, []).splitlines() if line.startswith("# ")]
    rows = {name.strip(): value.strip() for name, _, value in (line.partition("  ") for line in told)}
    assert rows["curriculum"] == "failure, tasks by their success so far"
    assert rows["groups"] == "further prompts until 32 have a signal, at most 64 sampled in a step"
    assert rows["group sizes"] == "knapsack: 4 or more, a multiple of 4, 256 in all"
    usual = describe(load("examples/geneval.yaml", []), prompts, [])
    assert not {"# curriculum", "# groups", "# group sizes"} & {line.partition("  ")[0] for line in usual.splitlines()}
    assert "those without signal take no part in an update" in describe(
        load("examples/geneval.yaml", ["groups=skip"]), prompts, []
    )
