"""What a trained autoencoder is told about itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from policy.base import load_decoder
from policy.json_file import read_json, write_json
from rl.data.shapes.scenes import dense_cells, dense_looks
from rl.data.shapes.world import picture

_PICTURES = 128


@torch.no_grad()
def set_scale(policy: Path, seed: int) -> None:
    """The ``scaling_factor`` of a policy folder's autoencoder: 1 / (standard deviation of the latents)."""
    vae, rng = load_decoder(policy, torch.float32, "cpu").vae, np.random.default_rng([seed, 2])
    pictures = picture(dense_cells(rng, _PICTURES), dense_looks(rng, _PICTURES))
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    spread = vae.encode(pixels, return_dict=False)[0].std().item()
    file = policy / "vae" / "config.json"
    write_json(file, {**read_json(file), "scaling_factor": 1.0 / spread})
