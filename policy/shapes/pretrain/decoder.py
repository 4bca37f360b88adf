"""Decoder stage: flow matching on the language model's own hidden states (BLIP3o-NEXT, arXiv 2510.15857)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.shapes.pretrain.autoencoder import as_pixels
from policy.shapes.pretrain.scenes import dense_cells, random_scene
from policy.shapes.pretrain.stage import is_finished, run_stage
from rl.data.shapes.world import picture

_BATCH = 48
_ROWS, _CHUNK = 30_000, 500  # the frozen models see every training row once, before the first step
_DROP = 0.1  # share of conditions replaced by zeros, for guidance
_DENSE = 0.4  # share of rows with half of the cells inked: many more objects to learn from than captions ask for
_MISMATCHED = 0.15  # share of rows with another caption's scene: paint the tokens, not the words


def train_decoder(policy: Policy, work: Path, steps: int, seed: int) -> None:
    """Trains connector and transformer; the language model and the autoencoder stay frozen."""
    decoder = policy.decoder
    trained = nn.ModuleList([decoder.connector, decoder.transformer]).requires_grad_(True).train()
    policy.ar.requires_grad_(False)
    finished = is_finished("decoder", work, steps)
    hidden_NSD, latents_N = (torch.empty(0), torch.empty(0)) if finished else _rows(policy, seed)

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(_ROWS, (_BATCH,), generator=generator)
        kept = (torch.rand(_BATCH, generator=generator) >= _DROP).float()
        sigma = torch.rand(_BATCH, generator=generator)
        latents = latents_N[rows]
        noise = torch.randn(latents.shape, generator=generator)
        sigma_4d = sigma.view(-1, 1, 1, 1)
        noisy = (1 - sigma_4d) * latents + sigma_4d * noise
        predicted = decoder.velocity(noisy, sigma * 1000.0, hidden_NSD[rows] * kept.view(-1, 1, 1))
        return (predicted - (noise - latents)).square().mean()

    run_stage("decoder", trained, loss_at, work=work, steps=steps, lr=1e-3, ema=0.998)
    trained.eval().requires_grad_(False)


@torch.no_grad()
def _rows(policy: Policy, seed: int) -> tuple[Tensor, Tensor]:
    """(N, S, D) hidden states and (N, C, h, w) scaled latents of N scenes."""
    rng, vae = np.random.default_rng([seed, 4]), policy.decoder.vae
    hidden, latents = [], []
    for _ in range(_ROWS // _CHUNK):
        captions, cells = _scenes(rng)
        tokens_BT = torch.from_numpy(cells) + policy.layout.image_start_id
        ids = [policy.text_ids(caption) for caption in captions]
        hidden.append(image_forward(policy.ar, policy.layout.image, ids, tokens_BT).hidden_BSD)
        encoded = vae.encode(as_pixels(picture(cells)), return_dict=False)[0]
        latents.append(encoded * vae.config.scaling_factor)
    return torch.cat(hidden), torch.cat(latents)


def _scenes(rng: Generator) -> tuple[list[str], np.ndarray]:
    scenes = [random_scene(rng) for _ in range(_CHUNK)]
    cells = np.stack([scene.cells_T for scene in scenes])
    dense, wrong = int(_CHUNK * _DENSE), int(_CHUNK * _MISMATCHED)
    cells[:dense] = dense_cells(rng, dense)
    cells[-wrong:] = np.roll(cells[-wrong:], 1, axis=0)
    return [scene.caption for scene in scenes], cells
