"""Variance components by hand, from a table of others, and found again in data of known components."""

from __future__ import annotations

import numpy as np
import pytest

from rl.evaluation.variance import VarianceSplit, best_renders, crossed, nested, rank_correlation, split_metrics
from rl.types import RenderScores
from tests.rl.algorithm.flow.golden import GOLDEN

TABLE = np.array(GOLDEN["credit"]["rewards_GK"])
# rows 1 and 3 apart, columns 1 apart, nothing left
ADDITIVE = np.array([[0.0, 1.0], [2.0, 3.0]])


def close(split: VarianceSplit | None, tokens: float, noise: float, interaction: float | None) -> bool:
    assert split is not None
    found, wanted = (split.tokens, split.noise, split.interaction or 0.0), (tokens, noise, interaction or 0.0)
    return (split.interaction is None) == (interaction is None) and found == pytest.approx(wanted, abs=1e-12)


def test_a_table_by_hand() -> None:
    # rows' means .5, 2.5: MS_rows = 2 (1 + 1) / 1 = 4; columns' means 1, 2: MS_columns = 2 (.25 + .25) / 1 = 1
    assert close(crossed([ADDITIVE]), tokens=4 / 2, noise=1 / 2, interaction=0.0)
    # within the rows: 4 x .25 over 2 degrees of freedom = .5; between them MS = 4
    assert close(nested([ADDITIVE]), tokens=(4 - 0.5) / 2, noise=0.5, interaction=None)


def test_golden_table_keeps_its_negative_sign() -> None:
    wanted = GOLDEN["credit"]["crossed"]
    assert wanted["var_noise"] < 0
    assert close(crossed([TABLE]), wanted["var_token"], wanted["var_noise"], wanted["var_inter"])
    alone = GOLDEN["credit"]["nested"]
    assert close(nested([TABLE]), alone["var_token"], alone["var_render"], None)


def test_prompts_are_pooled_by_squares_and_degrees_of_freedom_and_their_means_do_not_count() -> None:
    wide = np.array([[0.0, 0.0], [4.0, 4.0], [8.0, 8.0]]) + 100  # MS_rows: squares 2 (16 + 0 + 16) = 64 over 2
    # rows: (4 + 64) / (1 + 2) = 68 / 3; columns: (1 + 0) / 2 = .5, with 2.5 rows on average
    assert close(crossed([ADDITIVE, wide]), tokens=68 / 3 / 2, noise=0.5 / 2.5, interaction=0.0)


def test_a_table_with_one_row_or_one_column_says_nothing() -> None:
    assert crossed([TABLE[:1], TABLE[:, :1]]) is None and nested([TABLE[:1]]) is None
    split = crossed([TABLE[:1], ADDITIVE])
    assert split is not None and split.prompts == 1


@pytest.mark.parametrize("wanted", [(0.5, 0.2, 0.1), (0.01, 1.0, 0.05), (0.3, 0.0, 0.0)])
def test_known_components_are_found_again(wanted: tuple[float, float, float]) -> None:
    generator, prompts, group, renders = np.random.default_rng(3), 600, 6, 5
    tokens, noise, left = (np.sqrt(variance) for variance in wanted)
    tables = [
        generator.normal() * 10
        + tokens * generator.normal(size=(group, 1))
        + noise * generator.normal(size=(1, renders))
        + left * generator.normal(size=(group, renders))
        for _ in range(prompts)
    ]
    split = crossed(tables)
    assert split is not None
    assert (split.tokens, split.noise, split.interaction) == pytest.approx(wanted, abs=0.1 * sum(wanted))
    share = split.decoder_share
    assert share is not None and share.interval is not None
    assert share.interval[0] - 1e-9 <= (wanted[1] + wanted[2]) / sum(wanted) <= share.interval[1] + 1e-9


def test_nested_components_are_found_again() -> None:
    generator = np.random.default_rng(4)
    tables = [0.6 * generator.normal(size=(6, 1)) + 0.8 * generator.normal(size=(6, 5)) for _ in range(400)]
    split = nested(tables)
    assert split is not None and (split.tokens, split.noise) == pytest.approx((0.36, 0.64), abs=0.05)


def test_nothing_varies() -> None:
    split = crossed([np.ones((3, 4)), np.zeros((3, 4))])
    assert split is not None and split.total == 0 and split.decoder_share is None
    assert best_renders(split, 1.0, 1.0, shared_noise=True) is None


@pytest.mark.parametrize(
    ("tokens", "interaction", "sequence_cost", "wanted"),
    [(0.1, 0.4, 4.0, 4), (0.1, 0.4, 0.01, 1), (1.0, 0.0, 100.0, 1), (0.1, -0.2, 4.0, 1), (0.0, 0.4, 4.0, None)],
)
def test_renders_that_pay(tokens: float, interaction: float, sequence_cost: float, wanted: int | None) -> None:
    """sqrt(sequence cost x interaction / (picture cost x tokens)) = sqrt(4 x .4 / .1) = 4."""
    split = VarianceSplit(tokens, 9.0, interaction, 1, None)
    assert best_renders(split, sequence_cost, 1.0, shared_noise=True) == wanted


def test_where_noise_is_not_shared_all_of_it_stands_against_the_tokens() -> None:
    for shared_noise in (True, False):  # a nested design cannot tell what is shared
        assert best_renders(VarianceSplit(0.1, 0.4, None, 1, None), 4.0, 1.0, shared_noise=shared_noise) == 4
    split = VarianceSplit(0.1, 1.2, 0.4, 1, None)
    assert best_renders(split, 4.0, 1.0, shared_noise=True) == 4  # sqrt(4 x .4 / .1)
    assert best_renders(split, 4.0, 1.0, shared_noise=False) == 8  # sqrt(4 x 1.6 / .1)


def test_rank_correlation_inside_groups() -> None:
    exact = [np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]]), np.array([[7.0, 7.0], [7.0, 7.0], [7.0, 7.0]])]
    assert rank_correlation(exact, exact) == 1.0
    assert rank_correlation([np.exp(table) for table in exact], exact) == 1.0  # the order alone counts
    assert rank_correlation([-table for table in exact], exact) == pytest.approx(-1.0)
    # one of two columns turned round: (2 - 2) / 4
    assert rank_correlation([exact[0] * [1, -1], exact[1]], exact) == pytest.approx(0.0)
    # ranks -1 0 1 against ties -.5 -.5 1: product 1.5, squares 2 and 1.5
    tied = rank_correlation([np.array([[1.0], [1.0], [2.0]])], [np.array([[1.0], [2.0], [3.0]])])
    assert tied == pytest.approx(1.5 / np.sqrt(2 * 1.5))
    assert rank_correlation(exact[1:], exact[1:]) is None
    assert rank_correlation([np.ones((3, 2))], exact[:1]) == 0.0


def render_scores(table_PGK: np.ndarray, valid_PGK: np.ndarray | None = None) -> RenderScores:
    valid_PGK = np.ones(table_PGK.shape, bool) if valid_PGK is None else valid_PGK
    renders = table_PGK.shape[-1]
    return RenderScores(table_PGK.reshape(-1, renders).astype(np.float32), valid_PGK.reshape(-1, renders))


def test_the_split_of_one_step_is_that_of_its_tables() -> None:
    tables = np.stack([ADDITIVE, 2 * ADDITIVE])
    found = split_metrics(render_scores(tables), 2, shared_noise=True)
    split = crossed(list(tables))
    assert split is not None and split.decoder_share is not None
    assert found == {
        "var/unlike_renders": 1.0,
        "var/tokens": split.tokens,
        "var/noise": split.noise,
        "var/interaction": split.interaction,
        "var/decoder_share": split.decoder_share.mean,
    }
    alone = split_metrics(render_scores(tables), 2, shared_noise=False)
    assert (alone["var/tokens"], alone["var/noise"]) == pytest.approx((1.75 * 2.5, 0.5 * 2.5))
    assert "var/interaction" not in alone


def test_a_sequence_with_a_failed_render_is_in_no_table_and_still_compared() -> None:
    table = np.array([[[0.0, 1.0, 7.0], [2.0, 3.0, 7.0], [5.0, 5.0, 9.0]]])
    valid = np.ones(table.shape, bool)
    valid[0, 2, 2] = False
    found = split_metrics(render_scores(table, valid), 3, shared_noise=True)
    without = split_metrics(render_scores(table[:, :2]), 2, shared_noise=True)
    assert found.pop("var/unlike_renders") == pytest.approx(2 / 3)  # the failed picture is no difference
    assert without.pop("var/unlike_renders") == 1
    assert found == without


def test_groups_of_one_tell_the_noise_and_its_share_of_all() -> None:
    table = np.array([[[0.0, 1.0, 2.0]], [[4.0, 4.0, 7.0]], [[3.0, 3.0, 9.0]]])
    valid = np.ones(table.shape, bool)
    valid[2, 0, 2] = False  # two renders of it are left
    found = split_metrics(render_scores(table, valid), 1, shared_noise=True)
    assert found["var/noise"] == pytest.approx((2 + 6 + 0) / (2 + 2 + 1))
    # of the two whole rows: mean squares 8 / 4 = 2 inside them, 3 (2^2 + 2^2) = 24 between
    assert found["var/decoder_share_of_all"] == pytest.approx(2 / (2 + (24 - 2) / 3))
    assert "var/decoder_share" not in found and "var/tokens" not in found


def test_what_cannot_be_split_is_not_logged() -> None:
    assert split_metrics(render_scores(np.zeros((2, 4, 1))), 4, shared_noise=True) == {}  # one render
    assert split_metrics(render_scores(np.full((1, 1, 2), 0.5)), 1, shared_noise=True) == {
        "var/unlike_renders": 0.0,
        "var/noise": 0.0,
    }
    level = split_metrics(render_scores(np.full((2, 2, 2), 0.5)), 2, shared_noise=True)
    assert level == {"var/unlike_renders": 0.0, "var/tokens": 0.0, "var/noise": 0.0, "var/interaction": 0.0}
