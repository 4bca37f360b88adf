"""The embedded image tokenizer: details are below its codebook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy.base import Policy
from policy.shapes.model import make_policy
from policy.shapes.pretrain.image_tokenizer import fit_tokenizer
from rl.data.shapes.looks import LOOKS, every_look
from rl.data.shapes.scenes import dense_cells, dense_looks
from rl.data.shapes.world import picture


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    policy = make_policy(Path(tmp_path_factory.mktemp("policy")), hidden_size=96, layers=1)
    fit_tokenizer(policy, seed=0)
    return policy


@pytest.mark.parametrize(("noise", "least"), [(0.0, 1.0), (6.0, 0.995)])
def test_every_cell_has_its_own_code_in_all_of_its_looks(policy: Policy, noise: float, least: float) -> None:
    looks = every_look()
    drawn = looks + np.random.default_rng(0).normal(0, noise, looks.shape)
    pictures = drawn.round().clip(0, 255).astype(np.uint8).reshape(-1, 16, 16, 3)
    codes = policy.image_tokenizer.encode(pictures).reshape(looks.shape[:2]) - policy.layout.image_start_id
    agreement = (codes == np.arange(looks.shape[1])).mean(1)
    assert agreement.min() >= least, dict(zip(LOOKS, agreement, strict=True))


def test_cells_that_fade_out_have_codes_of_their_own(policy: Policy) -> None:
    plain = every_look()[0].astype(float)
    faded = (plain[0] + 0.4 * (plain - plain[0])).round().astype(np.uint8)
    codes = policy.image_tokenizer.encode(faded)[:, 0] - policy.layout.image_start_id
    own = (codes >= len(plain)).sum()
    assert own >= 0.25 * len(plain)


def test_pictures_are_read_cell_by_cell_in_raster_order(policy: Policy) -> None:
    rng = np.random.default_rng(0)
    cells = dense_cells(rng, 50)
    tokens = policy.image_tokenizer.encode(picture(cells, dense_looks(rng, 50)))
    assert np.array_equal(tokens - policy.layout.image_start_id, cells)
