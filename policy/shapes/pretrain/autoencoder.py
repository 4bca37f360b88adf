"""Autoencoder stage: AutoencoderDC on dense random pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from policy.base import Policy
from policy.shapes.pretrain.scenes import dense_cells, dense_looks
from policy.shapes.pretrain.stage import run_stage
from rl.data.shapes.world import picture

_BATCH = 24
_LATENT_NOISE = 0.15  # of the latents' own spread: small errors of the diffusion decoder must not show


def train_vae(policy: Policy, work: Path, steps: int, seed: int) -> None:
    """Trains ``policy.decoder.vae`` and sets its scaling factor to 1 / (standard deviation of the latents)."""
    vae = policy.decoder.vae.requires_grad_(True).train()

    def loss_at(step: int) -> Tensor:
        rng = np.random.default_rng([seed, 1, step])
        pixels = as_pixels(picture(dense_cells(rng, _BATCH), dense_looks(rng, _BATCH)))
        latents = vae.encode(pixels, return_dict=False)[0]
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step))
        noisy = latents + noise * latents.detach().std() * _LATENT_NOISE
        error = vae.decode(noisy, return_dict=False)[0] - pixels
        return F.l1_loss(error, torch.zeros_like(error)) + error.square().mean() + 1e-3 * latents.square().mean()

    run_stage("vae", vae, loss_at, work=work, steps=steps, lr=2e-3, ema=0.995)
    vae.eval().requires_grad_(False)
    with torch.no_grad():
        rng = np.random.default_rng([seed, 2])
        sample = picture(dense_cells(rng, 128), dense_looks(rng, 128))
        spread = vae.encode(as_pixels(sample), return_dict=False)[0].std().item()
    vae.register_to_config(scaling_factor=1.0 / spread)


def as_pixels(pictures: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
