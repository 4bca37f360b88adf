"""The embedded model's understanding branch: a tiny hybrid tokenizer whose codes are those of the cells."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from policy.base import Policy
from policy.folder import FEATURES
from policy.shapes.discriminants import discriminants
from policy.tokenizers.hybrid import HybridEncoder, HybridTokenizer
from policy.tokenizers.hybrid_config import HybridConfig
from policy.tokenizers.quantisers import NearestCode
from rl.data.shapes.looks import every_look
from rl.data.shapes.scenes import dense_cells, dense_looks
from rl.data.shapes.sprites import BACKGROUND, CELL, GRID
from rl.data.shapes.world import picture

_PATCH, _WIDTH, _LAYERS = 8, 96, 2
_CODE = 48  # numbers of a code
FADED = 0.4  # of a cell's ink: further from the palest shade of a cell than the cell itself


def with_reading(policy: Policy, seed: int = 0) -> Policy:
    """The same policy with a branch for reading, random as yet, and questions that are read by it. Its codes mean
    nothing before ``fit_codes``."""
    settings = HybridConfig(
        codes=policy.layout.num_image_tokens,
        vision={
            "image_size": GRID * CELL,
            "patch_size": _PATCH,
            "hidden_size": _WIDTH,
            "intermediate_size": 2 * _WIDTH,
            "num_hidden_layers": _LAYERS + 1,  # the last one is not used
            "num_attention_heads": _WIDTH // 32,
        },
        hidden=2 * _WIDTH,
        reads=policy.ar.config.hidden_size,
        quantiser="vq",
        width=_CODE,
        merge=CELL // _PATCH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = HybridEncoder(settings)
    tokenizer = HybridTokenizer(settings, encoder.eval().requires_grad_(False), policy.layout.image_start_id)
    return replace(policy, image_tokenizer=tokenizer, reads={**policy.reads, "answer": FEATURES})


@torch.no_grad()
def fit_codes(policy: Policy, seed: int = 0, *, pictures: int = 1536) -> None:
    """Gives the branch of a policy of this world, once its encoder has learnt, the codes of the cells, in place.

    The last layer of the adapter becomes Fisher's linear discriminants: directions that tell cells apart and in which
    one cell, in all of its looks and beside all neighbours, is alike. A code is the mean of its cell there. The
    remaining ones are cells faded into the background, so that an unfinished picture gets codes of its own.
    """
    branch = policy.understanding.encoder
    faded = faded_cells(policy.layout.num_image_tokens, np.random.default_rng(seed))  # as the patches' tokenizer's
    hidden, cells = _hidden(policy.understanding, _shown(np.random.default_rng([seed, 7]), faded, pictures))
    count = len(every_look()[0])
    groups = [hidden[cells == code] for code in range(policy.layout.num_image_tokens)]
    basis_FC, centre_F = discriminants(groups[:count], _CODE)
    last, quantiser = branch.discrete[2], branch.quantiser
    if not isinstance(last, nn.Linear) or not isinstance(quantiser, NearestCode):
        raise TypeError(f"codes are fitted to the nearest of a table, not by a {type(quantiser).__name__}")
    last.weight.copy_(basis_FC.T)
    last.bias.copy_(-basis_FC.T @ centre_F)
    quantiser.table.weight.copy_(torch.stack([last(group.mean(0)) for group in groups]))


def faded_cells(codes: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which cells have a code for their faded selves: as many as there are codes left."""
    cells = len(every_look()[0])
    return rng.permutation(np.arange(1, cells))[: codes - cells]


def _shown(
    rng: np.random.Generator, faded: NDArray[np.int64], pictures: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Pictures and the code of each of their cells; in each fourth picture inked cells that can fade have."""
    place_of = {int(cell): place for place, cell in enumerate(faded)}
    count = len(every_look()[0])
    for index in range(pictures):
        cells, looks = dense_cells(rng, 1)[0], dense_looks(rng, 1)[0]
        pixels, codes = picture(cells, looks).astype(np.float32), cells.copy()
        if index % 4 == 0:
            for place, cell in enumerate(cells):
                if int(cell) in place_of:
                    row, column = (CELL * one for one in divmod(place, GRID))
                    part = pixels[row : row + CELL, column : column + CELL]
                    part[:] = np.array(BACKGROUND) + FADED * (part - np.array(BACKGROUND))
                    codes[place] = count + place_of[int(cell)]
        yield pixels.round().astype(np.uint8), codes


def _hidden(
    tokenizer: HybridTokenizer, shown: Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]
) -> tuple[Tensor, Tensor]:
    """(N, F) inside the adapter to codes, and (N,) codes."""
    pictures, codes = zip(*shown, strict=True)
    branch = tokenizer.encoder
    inside = [
        branch.discrete[:2](branch.features(tokenizer.pixels(np.stack(pictures[at : at + 64]))))
        for at in range(0, len(pictures), 64)
    ]
    return torch.cat(inside).flatten(0, 1), torch.from_numpy(np.concatenate(codes))
