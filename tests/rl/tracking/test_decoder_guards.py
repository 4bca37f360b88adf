"""The alarms of a decoder that learns, and the pattern of its latents in pictures."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest

from rl.config.sections.guards import GuardsConfig
from rl.tracking.guards.departure import DISTANCE, REWARD, STEPS, compared_over
from rl.tracking.guards.guards import Guards
from rl.tracking.guards.pictures import grid_pattern

Metrics = dict[str, float | None]


def alarms(history: list[Metrics], config: GuardsConfig | None = None) -> list[tuple[int, str]]:
    guards = Guards(config or GuardsConfig())
    return [(a.step, a.sentence) for step, metrics in enumerate(history) for a in guards.check(step, metrics)]


def test_no_spread_between_renders_is_said_in_the_first_step() -> None:
    [(step, sentence)] = alarms([{"var/unlike_renders": 0.0}] * 4)
    assert step == 0
    assert sentence == (
        "unlike renders is 0 at step 1 (guards.min_unlike_renders: 0.01): the renders of a sequence score alike, so "
        "the decoder has nothing to learn from; give it a graded reward, render.seed: sample, more render.renders or "
        "fewer render.steps"
    )
    assert alarms([{"var/unlike_renders": 0.02}] * 9) == []
    assert alarms([{"var/unlike_renders": 0.0}], GuardsConfig(min_unlike_renders=None)) == []


def test_a_small_share_of_the_decoder_is_said_once_it_is_no_chance() -> None:
    shares = [0.05, -0.01, 0.01, 0.02, 0.01, 0.01]
    [(step, sentence)] = alarms([{"var/decoder_share": share} for share in shares])
    assert step == 4  # the mean of five: .016
    assert sentence == (
        "decoder share is 0.016 at step 5 (guards.min_decoder_share: 0.02): hardly any of the reward's variance inside "
        "a prompt is the decoder's, so training it on this reward moves it by chance; python -m rl.variance measures "
        "it for each reward and number of steps"
    )
    assert alarms([{"var/decoder_share": 0.03}] * 9) == []


def test_growing_latents() -> None:
    [(step, sentence)] = alarms([{"decoder/x0_mean_square": value} for value in [1.0] * 5 + [1.6] * 5])
    assert step == 9
    assert sentence.startswith(
        "decoder/x0 mean square rose from 1 to 1.6 by step 10 (guards.x0_rise: 50%): the decoder's latents grow, and "
    )
    assert alarms([{"decoder/x0_mean_square": value} for value in [1.0] * 5 + [1.4] * 5 + [0.2] * 9]) == []


def test_a_grid_that_appears() -> None:
    [(_, sentence)] = alarms([{"guard/grid_pattern": value} for value in [0.2] * 5 + [1.5] * 5])
    assert sentence.startswith(
        "grid pattern rose from 0.2 to 1.5 by step 10 (guards.grid_rise: 1): the pictures show the grid of the decoder"
    )


def way(distances: list[float], rewards: list[float]) -> list[Metrics]:
    return [{DISTANCE: far, REWARD: reward} for far, reward in zip(distances, rewards, strict=True)]


def noisy(rewards: np.ndarray) -> list[float]:
    return (rewards + np.random.default_rng(0).normal(0, 0.01, len(rewards))).tolist()


def test_a_distance_that_rises_while_the_reward_does_not() -> None:
    steps = np.arange(100)
    rising, level = 1e-4 * steps, 0.3 + np.minimum(steps, 45) * 0.01
    found = alarms(way(rising.tolist(), noisy(level)))
    [(step, sentence)] = found
    assert 65 <= step <= 75  # 25 steps after the last gain
    assert sentence.startswith("the decoder's distance to its base rose from ")
    assert (
        f"in the 25 steps to step {step + 1}, in which its reward did not rise (guards.reference_rise: 50%)" in sentence
    )
    assert alarms(way(rising.tolist(), noisy(0.3 + steps * 0.01))) == []  # it is paid for
    assert alarms(way(np.minimum(rising, 2e-3).tolist(), noisy(level))) == []  # it has stopped
    assert alarms(way(rising.tolist(), noisy(level)), GuardsConfig(reference_rise=None)) == []


def test_nothing_is_said_of_the_distance_in_the_first_steps() -> None:
    steps = 2 * STEPS - 1
    assert alarms(way([1e-4 * step**2 for step in range(steps)], [0.5] * steps)) == []
    assert [step for step, _ in alarms(way([1e-4 * step**2 for step in range(99)], [0.5] * 99))] == [steps]


def test_a_short_run_is_compared_over_a_third_of_itself() -> None:
    assert [compared_over(steps) for steps in (0, 10, 15, 45, 74, 75, 500)] == [5, 5, 5, 15, 24, 25, 25]
    history = way([1e-4 * step for step in range(45)], [0.5] * 45)
    assert alarms(history) == []
    short = Guards(GuardsConfig(), decoder_steps=45)
    found = [(step, one.sentence) for step, row in enumerate(history) for one in short.check(step, row)]
    assert [step for step, _ in found] == [29] and "in the 15 steps to step 30, in which" in found[0][1]
    shortest = Guards(GuardsConfig(), decoder_steps=10)
    assert [step for step, row in enumerate(history[:10]) for _ in shortest.check(step, row)] == [9]


def test_in_groups_of_one_the_share_of_all_is_watched() -> None:
    [(step, sentence)] = alarms([{"var/decoder_share_of_all": 0.01}] * 6)
    assert step == 4 and sentence.startswith(
        "decoder share of all is 0.01 at step 5 (guards.min_decoder_share: 0.02): hardly any of the reward's variance "
    )


def test_steps_of_the_language_model_alone_are_no_steps_of_the_decoder() -> None:
    both = way([1e-4 * step for step in range(80)], [0.5] * 80)
    alone: Metrics = {"score": 0.5}
    alternating = list(chain.from_iterable((one, alone) for one in both))
    assert [(step // 2) for step, _ in alarms(alternating)] == [step for step, _ in alarms(both)]


def test_replay_equals_never_having_stopped() -> None:
    history = way([1e-4 * step for step in range(90)], noisy(0.3 + np.minimum(np.arange(90), 40) * 0.01))
    history = [{**one, "var/decoder_share": 0.01, "var/unlike_renders": 0.0} for one in history]
    expected = alarms(history)
    for stop in (1, 4, 5, 49, 60, 75):
        resumed = Guards(GuardsConfig())
        resumed.replay(list(enumerate(history[:stop])))
        found = [(a.step, a.sentence) for step in range(stop, 90) for a in resumed.check(step, history[step])]
        assert found == [alarm for alarm in expected if alarm[0] >= stop]


def scenes(count: int, size: int) -> np.ndarray:
    """Smooth noise, as of pictures: power falls with the square of the frequency."""
    generator = np.random.default_rng(1)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    spectrum = np.fft.fft2(generator.normal(size=(count, size, size))) / np.maximum(frequency, 1 / size)
    grey = np.fft.ifft2(spectrum).real
    return 0.5 + 0.15 * grey / grey.std()


def as_pictures(grey: np.ndarray) -> np.ndarray:
    return np.repeat((grey.clip(0, 1) * 255).astype(np.uint8)[..., None], 3, -1)


@pytest.mark.parametrize(("size", "period"), [(64, 16), (256, 32)])
def test_a_grid_stands_out_of_the_spectrum(size: int, period: int) -> None:
    grey, lines, wave = scenes(32, size), np.zeros(size), np.cos(2 * np.pi * np.arange(size) / period)
    lines[::period] = 1
    plain = grid_pattern(as_pictures(grey), period)
    assert abs(plain) < 0.5
    for pattern in (lines, wave):
        grid = 0.1 * (pattern[:, None] + pattern[None])
        assert grid_pattern(as_pictures(grey + grid), period) > plain + 1.0
    other = 0.1 * np.cos(2 * np.pi * np.arange(size) / (period * 0.8))
    assert grid_pattern(as_pictures(grey + other), period) < plain + 0.3


def test_a_grid_is_not_looked_for_where_nothing_can_be_seen() -> None:
    assert grid_pattern(np.full((3, 64, 64, 3), 127, np.uint8), 16) == 0.0
    assert math.isnan(grid_pattern(np.zeros((3, 4, 4, 3), np.uint8), 4))
    many = as_pictures(scenes(4, 64))
    assert grid_pattern(np.repeat(many, 100, 0), 16) == pytest.approx(grid_pattern(many, 16), abs=1e-4)
