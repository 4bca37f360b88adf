"""Decoder stage: flow matching on the language model's own hidden states (BLIP3o-NEXT, arXiv 2510.15857)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.shapes.pretrain.autoencoder import as_pixels
from policy.shapes.pretrain.scenes import Scene, dense_cells, random_scene, showing, with_details_of
from policy.shapes.pretrain.stage import is_finished, run_stage
from rl.data.shapes.world import DETAIL_TAGS, Content, looks_of, picture

_BATCH = 48
_ROWS, _CHUNK = 30_000, 500  # the frozen models see every training row once, before the first step
_OBEYED_ROWS = 20_000  # have all that their captions ask for
_DROP = 0.1  # share of conditions replaced by zeros, for guidance
_DENSE = 0.4  # share of rows with half of the cells inked: many more objects to learn from than captions ask for
_MISMATCHED = 0.15  # share of rows with another caption's scene: paint the tokens, not the words
_DETAILED = 0.5  # share of rows that ask for details, beside those that do so anyway
# In the last part of the steps, where a caption asks for details, a share of the pictures has those of another caption.
# Nothing in the hidden states says which, so the noise decides: the decoder has learnt to obey by then, and ends doing
# it part of the time, which is RL's to repair. From such pictures alone it learns grounds, and no shade nor outline.
_NOISY_PART, _DISOBEYED = 0.3, 0.65


def train_decoder(policy: Policy, work: Path, steps: int, seed: int) -> None:
    """Trains connector and transformer; the language model and the autoencoder stay frozen."""
    decoder = policy.decoder
    trained = nn.ModuleList([decoder.connector, decoder.transformer]).requires_grad_(True).train()
    policy.ar.requires_grad_(False)
    finished = is_finished("decoder", work, steps)
    hidden_NSD, latents_N = (torch.empty(0), torch.empty(0)) if finished else _rows(policy, seed)

    def loss_at(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        shown = _shown_at(step, steps)
        rows = shown.start + torch.randint(len(shown), (_BATCH,), generator=generator)
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


def _shown_at(step: int, steps: int) -> range:
    """The rows that are learnt from in a step: obedient ones first, disobedient ones in the last part."""
    return range(_OBEYED_ROWS, _ROWS) if step >= steps * (1 - _NOISY_PART) else range(_OBEYED_ROWS)


@torch.no_grad()
def _rows(policy: Policy, seed: int) -> tuple[Tensor, Tensor]:
    """(N, S, D) hidden states and (N, C, h, w) scaled latents of N scenes."""
    rng, vae = np.random.default_rng([seed, 4]), policy.decoder.vae
    hidden, latents = [], []
    for start in range(0, _ROWS, _CHUNK):
        disobeyed = _DISOBEYED if start >= _OBEYED_ROWS else 0.0
        scenes = [_scene(rng) for _ in range(_CHUNK)]
        cells = _cells(scenes, rng)
        shown = [_painted(scene.content, rng, disobeyed) for scene in scenes]
        looks = np.stack([looks_of(content, row) for content, row in zip(shown, cells, strict=True)])
        tokens_BT = torch.from_numpy(cells) + policy.layout.image_start_id
        ids = [policy.text_ids(scene.caption) for scene in scenes]
        hidden.append(image_forward(policy.ar, policy.layout.image, ids, tokens_BT).hidden_BSD)
        encoded = vae.encode(as_pixels(picture(cells, looks)), return_dict=False)[0]
        latents.append(encoded * vae.config.scaling_factor)
    return torch.cat(hidden), torch.cat(latents)


def _scene(rng: Generator) -> Scene:
    return random_scene(rng, str(rng.choice(DETAIL_TAGS)) if rng.random() < _DETAILED else None)


def _cells(scenes: Sequence[Scene], rng: Generator) -> NDArray[np.int64]:
    """The scenes' own, but for a share that is dense (with much of what the captions ask for in details: in a scene one
    or two of 16 cells tell of a shade, too few to learn it from) and a share that belongs to other captions."""
    cells = np.stack([scene.cells_T for scene in scenes])
    dense, wrong = int(len(cells) * _DENSE), int(len(cells) * _MISMATCHED)
    inked = dense_cells(rng, dense)
    cells[:dense] = [showing(scene.content, row, rng) for scene, row in zip(scenes, inked, strict=False)]
    cells[-wrong:] = np.roll(cells[-wrong:], 1, axis=0)
    return cells


def _painted(asked: Content, rng: Generator, disobeyed: float) -> Content:
    """What the picture shows of the details asked for: them, or with that probability those of another caption of the
    same task."""
    if asked.tag not in DETAIL_TAGS or rng.random() >= disobeyed:
        return asked
    return with_details_of(random_scene(rng, asked.tag).content, asked)
