"""Several renders count as one sample for the language model, and each for itself for the decoder."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.combine import gdpo, mean, product
from rewards.scoring import Scoring, mean_score
from rl.config.schema import RewardComponent
from rl.config.values import Part
from rl.types import Score
from tests.rl.rollouts import a_rollout

FAILED = Score(None, failure="died")


def values(*numbers: float | None) -> list[Score]:
    return [Score(number) for number in numbers]


def rewards(**part: str) -> dict[str, RewardComponent]:
    return {name: RewardComponent.model_validate({"use": "a:b", "part": of}) for name, of in part.items()}


def test_one_render_is_itself() -> None:
    score = Score(0.75, details={"read": "BOAR"}, passed=0.0)
    assert mean_score([score]) is score


def test_renders_are_averaged_and_so_are_their_passes() -> None:
    assert mean_score([Score(0.5, passed=0), Score(1.0, passed=1)]) == Score(0.75, passed=0.5)
    assert mean_score([Score(0.5), Score(1.0)]) == Score(0.75)
    assert mean_score([Score(None), Score(0.25, passed=1)]) == Score(0.25, passed=1.0)
    assert mean_score([Score(None), Score(None)]) == Score(None)


def test_a_failed_render_fails_the_sample() -> None:
    assert mean_score([Score(0.5), Score(None, failure="died")]).failure == "died"


def test_a_product_is_taken_picture_by_picture_for_the_decoder() -> None:
    by_picture = {"a": values(0, 1, 1, 1), "b": values(1, 0, 1, 0.5)}  # two sequences, two renders of each
    found = Scoring(rewards(a="both", b="both"), product, ("ar", "decoder"))(by_picture, a_rollout(1, 2))
    assert found.total_B == pytest.approx([0.25, 0.75])  # of the means
    assert found.renders is not None
    assert found.renders.total_BK.tolist() == [[0, 0], [1, 0.5]]
    assert found.renders.total_BK.dtype == np.float32


def test_nothing_is_computed_for_a_decoder_that_is_not_trained() -> None:
    asked: list[int] = []

    def counting(values_KB: np.ndarray, *given: np.ndarray) -> np.ndarray:
        asked.append(values_KB.shape[1])
        return mean(values_KB, *given)

    by_picture = {"a": values(0, 1, 1, 1)}
    assert Scoring(rewards(a="both"), counting)(by_picture, a_rollout(1, 2)).renders is None
    assert asked == [2]
    Scoring(rewards(a="both"), counting, ("ar", "decoder"))(by_picture, a_rollout(1, 2))
    assert asked == [2, 2, 4]


def test_a_failed_render_is_lost_to_the_decoder_there_alone_and_the_whole_sample_to_the_language_model() -> None:
    by_picture = {"a": [Score(0.5), FAILED, Score(0.25), Score(None)]}
    found = Scoring(rewards(a="both"), mean, ("ar", "decoder"))(by_picture, a_rollout(1, 2))
    assert found.valid_B.tolist() == [False, True]
    assert found.total_B.tolist() == [0, 0.25]
    assert found.renders is not None
    assert found.renders.valid_BK.tolist() == [[True, False], [True, False]]  # failed; none applies
    assert found.renders.total_BK.tolist() == [[0.5, 0], [0.25, 0]]


@pytest.mark.parametrize(
    ("trained", "rows", "renders"),
    [
        (("ar",), [1.0], None),
        (("ar", "decoder"), [1.0], [[0.25, 0.75]]),
        (("decoder",), [0.5], [[0.25, 0.75]]),
    ],
)
def test_each_part_learns_from_its_own_rewards(
    trained: tuple[Part, ...], rows: list[float], renders: list[list[float]] | None
) -> None:
    """A reward of the other part may fail as it likes."""
    by_picture = {"words": [Score(1.0), Score(1.0)], "edges": values(0.25, 0.75)}
    scoring = Scoring(rewards(words="ar", edges="decoder"), mean, trained)
    found = scoring(by_picture, a_rollout(1, 1))
    assert found.total_B.tolist() == rows
    assert (found.renders and found.renders.total_BK.tolist()) == renders
    broken = scoring({**by_picture, "edges": [FAILED, FAILED]}, a_rollout(1, 1))
    assert broken.valid_B.tolist() == ["ar" in trained]


def test_gdpo_normalises_all_pictures_of_a_prompt_together() -> None:
    by_picture = {"a": values(0, 2, 4, 6, 7, 7, 7, 9)}
    found = Scoring(rewards(a="both"), gdpo, ("decoder",))(by_picture, a_rollout(2, 2))
    assert found.renders is not None
    first = np.array([0, 2, 4, 6.0])
    assert found.renders.total_BK[:2].ravel() == pytest.approx((first - 3) / (first.std(ddof=1) + 1e-4))
    assert found.renders.total_BK[2:].ravel() == pytest.approx([-0.5, -0.5, -0.5, 1.5], abs=1e-3)


def test_the_first_samples_alone() -> None:
    by_picture = {"a": [Score(0.5), Score(1.0), Score(0.25), FAILED]}
    one = Scoring(rewards(a="both"), mean, ("ar", "decoder"))(by_picture, a_rollout(1, 2)).first(1)
    assert (one.total_B.tolist(), one.valid_B.tolist(), one.score_B.tolist()) == ([0.75], [True], [0.75])
    assert one.by_reward == {"a": [Score(0.75, passed=None)]}
    assert one.renders is not None and one.renders.total_BK.tolist() == [[0.5, 1.0]]
    assert Scoring(rewards(a="both"), mean)(by_picture, a_rollout(1, 2)).first(1).renders is None
