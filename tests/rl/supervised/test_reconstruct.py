"""An autoencoder learns pictures that are to come back as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.supervised.autoencoder import AutoencoderNetwork
from rl.algorithm.terms import total_loss
from rl.data.shapes.examples import examples
from rl.supervised.reconstruct import ReconstructionObjective, ReconstructionRows


@pytest.fixture(scope="module")
def policy(tiny_policy: Path) -> Policy:
    return Policy.load(tiny_policy)


def test_the_loss_is_of_pixels_and_a_little_of_latents_however_it_is_cut(policy: Policy) -> None:
    rows = [examples()[index] for index in range(3)]
    pixels_BHW3 = np.stack([row.picture.pixels for row in rows])
    batch = ReconstructionRows(policy.decoder, seed=0)(rows, pixels_BHW3, step=4)
    network, objective = AutoencoderNetwork(policy.decoder.vae, noise=0.0), ReconstructionObjective()
    prepared = objective.prepare(batch)
    with torch.no_grad():
        found = network.outputs(network.module(*network.inputs(batch)))
        parts = [prepared.take(range(2)), prepared.take([2])]
        losses = [
            total_loss(objective(network.outputs(network.module(*network.inputs(part))), part), objective.weights(part))
            for part in parts
        ]
    error = found.pixels - batch.pixels
    expected = error.abs().mean() + error.square().mean() + 1e-3 * found.latents.square().mean()
    torch.testing.assert_close(sum(losses), expected)
    assert batch.pixels.shape == (3, 3, 64, 64) and batch.pixels.min() >= -1 and batch.pixels.max() <= 1


def test_latents_get_noise_of_their_own_spread(policy: Policy) -> None:
    pixels = examples()[0].picture.pixels[None]
    batch = ReconstructionRows(policy.decoder, seed=0)([examples()[0]], pixels, step=0)
    again = ReconstructionRows(policy.decoder, seed=0)([examples()[0]], pixels, step=0)
    assert batch.noise.equal(again.noise) and batch.noise.shape == (1, *policy.decoder.latent_shape)
    quiet, loud = (AutoencoderNetwork(policy.decoder.vae, noise) for noise in (0.0, 0.5))
    with torch.no_grad():
        same, apart = (one.outputs(one.module(*one.inputs(batch))) for one in (quiet, loud))
    assert same.latents.equal(apart.latents) and not same.pixels.equal(apart.pixels)
    assert set(quiet.streams()) == {"vae"}
