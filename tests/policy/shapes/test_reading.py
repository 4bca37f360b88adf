"""The embedded model's understanding branch: an encoder whose codes are fitted to the cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policy.base import Policy
from policy.shapes.discriminants import discriminants
from policy.shapes.reading import FADED, faded_cells, fit_codes
from rl.data.shapes.looks import every_look
from rl.data.shapes.scenes import dense_cells, dense_looks
from rl.data.shapes.sprites import BACKGROUND
from rl.data.shapes.world import picture
from tests.policy.reading import reading_policy


def test_codes_are_fitted_to_cells_in_all_looks_and_to_faded_ones(tmp_path: Path) -> None:
    """Even to an encoder that has not learnt."""
    policy, rng = Policy.load(reading_policy(tmp_path)), np.random.default_rng(1)
    cells, looks, start = dense_cells(rng, 64), dense_looks(rng, 64), policy.layout.image_start_id
    shown = picture(cells, looks)
    assert (policy.image_tokenizer.encode(shown) - start == cells).mean() < 0.1
    features = policy.understanding.features(shown)
    fit_codes(policy, pictures=320)
    assert (policy.image_tokenizer.encode(shown) - start == cells).mean() > 0.93
    assert policy.understanding.features(shown).equal(features)  # what is read stays
    faded = faded_cells(policy.layout.num_image_tokens, np.random.default_rng(0))
    assert len(faded) == policy.layout.num_image_tokens - len(every_look()[0]) and 0 not in faded
    blank = np.array(BACKGROUND, np.float32)
    pale = (blank + FADED * (picture(np.tile(faded[:16], (1, 1))).astype(np.float32) - blank)).round().astype(np.uint8)
    codes = policy.image_tokenizer.encode(pale)[0] - start
    assert (codes == np.arange(16) + len(every_look()[0])).mean() > 0.7


def test_discriminants_ignore_what_differs_within_a_group() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(40, 5, generator=generator) * torch.tensor([0.01, 0.01, 5.0, 0.01, 0.01])
    groups = [part + torch.tensor([place, -place, 0.0, 0.0, 0.0]) for place, part in enumerate(noise.split(10))]
    basis_FC, centre_F = discriminants(groups, 1)
    direction = basis_FC[:, 0] * basis_FC[0, 0].sign()
    torch.testing.assert_close(direction[:2], torch.tensor([0.7071, -0.7071]), atol=2e-2, rtol=0)
    assert abs(float(direction[2])) < 1e-2
    torch.testing.assert_close(centre_F[:2], torch.tensor([1.5, -1.5]), atol=2e-2, rtol=0)
