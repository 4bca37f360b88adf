"""From tables to words: one sentence per reward, the recommended number of steps, what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rl.config.schema import Config, RenderConfig, RewardComponent
from rl.evaluation.statistics import Estimate
from rl.evaluation.variance import complete
from rl.types import Prompt, Score, UserError
from rl.variance.arguments import Design, VariancePlan
from rl.variance.findings import _interval, _percent, analyse, as_json, enough_steps, picture, sentences
from rl.variance.measure import VarianceMeasurement

SHAPE = (400, 4, 3)


def plan(design: Design = "crossed", spoken: int = 2, sequence_cost: float | None = 4.0) -> VariancePlan:
    rewards = {"ink": RewardComponent(use="m:ink"), "words": RewardComponent(use="m:words")}
    config = Config(rewards=rewards, render=RenderConfig(steps=spoken))
    return VariancePlan(config, [Prompt("p", "a ring")] * 400, 4, 3, (1, 2, 8), design, sequence_cost)


def drawn(tokens: float, noise: float, interaction: float) -> np.ndarray:
    generator = np.random.default_rng(0)
    parts = [
        value * generator.normal(size=size)
        for value, size in ((tokens, (400, 4, 1)), (noise, (400, 1, 3)), (interaction, SHAPE))
    ]
    return sum(np.broadcast_to(part, SHAPE) for part in parts)


def measured(values: dict[int, dict[str, np.ndarray]]) -> VarianceMeasurement:
    found = VarianceMeasurement(sequence_seconds=[9.0, 0.004, 0.004])
    for steps, by_reward in values.items():
        scores = {
            name: [Score(None if np.isnan(value) else float(value)) for value in table.ravel()]
            for name, table in by_reward.items()
        }
        found.add(steps, scores, SHAPE, seconds=0.001 * steps * 4800)
    return found


def test_the_sentence_of_a_reward_that_tokens_decide() -> None:
    exact = drawn(1.0, 0.0, 0.01)
    blurred = {1: exact + 3 * np.random.default_rng(1).normal(size=SHAPE), 2: exact, 8: exact}
    findings = analyse(plan(), measured({steps: {"ink": table} for steps, table in blurred.items()}))
    (sentence,) = sentences(plan(), findings)
    assert sentence.startswith("ink at 2 steps: the language model can learn 100.0 % of the variance inside a prompt")
    assert "(under 2 %: too little to train it on); 1 render of a token sequence tells" in sentence
    assert sentence.endswith("; recommended for training: 2 steps (keeps the order of 8 at 1.000).")
    assert "\n" not in sentence
    assert enough_steps(findings) == 2


def test_the_sentence_of_a_reward_that_the_decoder_decides() -> None:
    tables = {steps: {"ink": drawn(0.5, 0.2, 1.0) * (-1 if steps < 8 else 1)} for steps in (1, 2, 8)}
    (sentence,) = sentences(plan(), analyse(plan(), measured(tables)))
    # renders near sqrt(4 x 1 / .25) = 4
    assert "too little" not in sentence and "; 4 renders of a token sequence tell the" in sentence
    assert sentence.endswith(
        "(the decoder needs 2 or more); no number of steps under 8 is recommended for training (none keeps its order "
        "at 0.95)."
    )


def test_noise_that_nobody_shares_asks_for_more_renders() -> None:
    tables = {steps: {"ink": drawn(0.5, 1.0, 0.5)} for steps in (1, 2, 8)}
    shared = plan()
    alone = replace(shared, config=shared.config.model_copy(update={"render": RenderConfig(steps=2, seed="sample")}))
    # sqrt(4 x .5 / .25) and sqrt(4 x 1.25 / .25), of squared stds .25, 1 and .25
    few, many = (analyse(one, measured(tables))[1].best_renders for one in (shared, alone))
    assert few is not None and many is not None and many > few


def test_the_cost_is_the_measured_one_where_none_is_given() -> None:
    found = measured({steps: {"ink": drawn(0.5, 0.2, 1.0)} for steps in (1, 2, 8)})
    by_steps = {one.steps: one.best_renders for one in analyse(plan(sequence_cost=None), found)}
    # 4 ms a sequence against 1 and 8 ms a picture: sqrt(4 x 4) and sqrt(4 / 8 x 4)
    assert by_steps[1] == 4 and by_steps[8] in (1, 2)


def test_nested_has_no_interaction_and_the_same_words() -> None:
    tables = {steps: {"ink": drawn(0.5, 0.0, 1.0)} for steps in (1, 2, 8)}
    findings = analyse(plan("nested"), measured(tables))
    assert findings[0].split.interaction is None
    assert findings[0].split.noise == pytest.approx(1.0, rel=0.05)
    assert "and the decoder 8" in sentences(plan("nested"), findings)[0]


def test_a_reward_that_never_varies_teaches_nobody() -> None:
    findings = analyse(plan(), measured({steps: {"ink": np.ones(SHAPE)} for steps in (1, 2, 8)}))
    (sentence,) = sentences(plan(), findings)
    assert sentence == (
        "ink at 2 steps: all pictures of a prompt score the same, so neither model can learn anything from it."
    )


def test_too_few_pictures_are_called_too_few() -> None:
    generator = np.random.default_rng(0)
    tables = {steps: {"ink": generator.normal(size=SHAPE)} for steps in (1, 2, 8)}
    for values in tables.values():
        values["ink"][3:] = np.nan  # three prompts are left
    (sentence,) = sentences(plan(), analyse(plan(), measured(tables)))
    assert sentence == (
        "ink at 2 steps: the pictures of 3 prompts are too few to tell what of the variance tokens decide and what "
        "the decoder's noise does; give more --prompts, --group or --renders."
    )


def test_a_share_that_may_be_anything_is_said_to_be() -> None:
    table = drawn(0.0, 0.0, 1.0)
    table[0] += 6 * np.arange(4)[:, None]  # in one prompt of eight tokens decide all
    table[8:] = np.nan
    tables = {steps: {"ink": table} for steps in (1, 2, 8)}
    (sentence,) = sentences(plan(), analyse(plan(), measured(tables)))
    assert "the pictures of 8 prompts are too few" in sentence
    assert "(the decoder's share may be anything from " in sentence and "%); give more" in sentence


def test_what_varies_is_not_said_to_be_all_alike() -> None:
    # the sequences' means are equal, and pictures differ: the estimate of all variance is below 0
    table = np.broadcast_to(np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]] * 2), SHAPE)
    (sentence,) = sentences(plan("nested"), analyse(plan("nested"), measured({n: {"ink": table} for n in (1, 2, 8)})))
    assert "all pictures of a prompt score the same" not in sentence


def test_a_share_that_rounds_to_nothing_has_no_sign() -> None:
    assert (_percent(-0.0004, 1.0), _percent(-0.004, 1.0), _percent(0.5, 1.0)) == ("0.0 %", "-0.4 %", "50.0 %")
    assert _interval(Estimate(-0.0002, -0.0003, 0.0011)) == "0.0 % [0.0, 0.1]"


def test_sequences_with_a_missing_score_and_rewards_that_never_apply_are_left_out() -> None:
    ink = drawn(1.0, 0.0, 0.3)
    ink[0, 0, 2] = np.nan
    ink[1, :3, 0] = np.nan
    tables = {steps: {"ink": ink, "words": np.full(SHAPE, np.nan)} for steps in (1, 2, 8)}
    findings = analyse(plan(), measured(tables))
    assert {one.reward for one in findings} == {"ink"}
    assert findings[0].split.prompts == 399  # of prompt 1 one sequence is left
    first, second = complete(list(ink), list(ink + 1))
    assert first[0].shape == (3, 3) and np.array_equal(second[0], first[0] + 1)
    with pytest.raises(UserError, match="no reward has scored two token sequences .* ink, words need of a prompt"):
        analyse(plan(), measured({steps: {"ink": np.full(SHAPE, np.nan)} for steps in (1, 2, 8)}))


def test_the_record_and_the_picture(tmp_path: Path) -> None:
    values = {steps: {"ink": drawn(1.0, 0.0, 0.3), "<words>": drawn(0.1, 0.5, 0.3)} for steps in (1, 2, 8)}
    found = measured(values)
    findings = analyse(plan(), found)
    record = as_json(plan(), found, findings)
    assert record["recommended_steps"] == {"ink": 1, "<words>": 1} and record["sequence_seconds"] == 0.004
    svg = picture(findings)
    assert svg.count("<title>") == 2 * 3 * 3 and "&lt;words&gt;: variance" in svg
    assert "1 step, tokens: " in svg and 'height="-' not in svg
