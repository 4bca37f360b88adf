"""One encoder, two adapters: codes that the language model writes, features that it reads (Manzano, arXiv 2509.16197).

``f = encoder(x)`` are the features of the tower's last layer but one, ``u`` those of k x k neighbours side by side.
Discrete: ``q = quantise(W2 tanh(W1 u))``. Continuous: ``c = V2 gelu(V1 u)``, as wide as the language model.
TA-Tok (arXiv 2506.18898) is the first half of this, with k = 1 and SimVQ: its file makes the same codes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import SiglipVisionModel

from policy.folder import HYBRID
from policy.json_file import JsonObject
from policy.layout import TokenLayout
from policy.tokenizers.hybrid_config import HybridConfig
from policy.tokenizers.names import renamed
from policy.tokenizers.quantisers import Fsq, NearestCode, Quantised, SimVq
from rl.types import UserError

_TOWER = "encoder.embeddings.patch_embedding.weight"


class Seen(NamedTuple):
    """Both views of B pictures."""

    written: Quantised  # codes (B, T), vectors (B, T, C)
    read_BTD: Tensor


class HybridEncoder(nn.Module):
    """(B, 3, S, S) pixels in -1 to 1 -> both views of each of T tokens, in raster order.

    As in TA-Tok the tower computes in the type of its weights and all behind it in float32: bfloat16 makes other codes.
    """

    def __init__(self, config: HybridConfig) -> None:
        super().__init__()
        self.merge, self.reads = config.merge, config.reads
        self.side, self.token_side = config.side, int(config.vision["patch_size"]) * config.merge
        self.encoder = SiglipVisionModel(config.tower())
        self.encoder.post_layernorm = nn.Identity()  # features are taken before it
        self.quantiser = _quantiser(config)
        self.discrete = nn.Sequential(
            nn.Linear(config.merged, config.hidden), nn.Tanh(), nn.Linear(config.hidden, self.quantiser.width)
        )
        self.continuous = nn.Sequential(
            nn.Linear(config.merged, config.reads), nn.GELU("tanh"), nn.Linear(config.reads, config.reads)
        )

    @property
    def never_learnt(self) -> tuple[str, ...]:
        """Weights that stay as they are drawn: of SimVQ, the table behind the codebook."""
        return ("quantiser.table.weight",) if isinstance(self.quantiser, SimVq) else ()

    def features(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, T, k * k * C)."""
        states: Tensor = self.encoder(pixels_B3HW.to(self.encoder.dtype)).last_hidden_state
        return merged(states.float(), self.merge)

    def pixels_of_tokens(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, T, 3 * s * s): those of the square that each token stands for."""
        edge = self.side * self.token_side  # patches do not always fill the picture
        tokens = pixels_B3HW[..., :edge, :edge].unflatten(2, (self.side, -1)).unflatten(4, (self.side, -1))
        return tokens.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def write(self, features_BTU: Tensor) -> Quantised:
        vectors = self.discrete(features_BTU.to(_type_of(self.discrete)))
        quantised: Quantised = self.quantiser(vectors)
        return quantised

    def read(self, features_BTU: Tensor) -> Tensor:
        """(B, T, D): in place of the embeddings of image tokens."""
        read: Tensor = self.continuous(features_BTU.to(_type_of(self.continuous)))
        return read

    def forward(self, pixels_B3HW: Tensor) -> Seen:
        features_BTU = self.features(pixels_B3HW)
        return Seen(self.write(features_BTU), self.read(features_BTU))


class HybridTokenizer:
    """An image tokenizer that also gives features of the pictures that it reads."""

    kind = HYBRID

    def __init__(self, settings: HybridConfig, encoder: HybridEncoder, image_start_id: int) -> None:
        self.settings, self.encoder, self.image_start_id = settings, encoder, image_start_id

    @torch.no_grad()
    def encode(self, pictures_BHW3: NDArray[np.uint8], /) -> NDArray[np.int64]:
        """(B, H, W, 3) uint8 -> (B, T) vocabulary ids in raster order."""
        parts = [self.encoder.write(self.encoder.features(part)).codes for part in self._parts(pictures_BHW3)]
        return torch.cat(parts).cpu().numpy() + self.image_start_id

    @torch.no_grad()
    def features(self, pictures_BHW3: NDArray[np.uint8], /) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, T, D) what the language model reads."""
        parts = [self.encoder.read(self.encoder.features(part)) for part in self._parts(pictures_BHW3)]
        return torch.cat(parts)

    def pixels(self, pictures_BHW3: NDArray[np.uint8]) -> Tensor:
        """(B, 3, S, S) in -1 to 1. Squeezed, not cropped, by Pillow's bicubic filter, as TA-Tok does."""
        side = (self.settings.vision["image_size"],) * 2
        resized = [np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BICUBIC)) for one in pictures_BHW3]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2) / 127.5 - 1.0

    def _parts(self, pictures_BHW3: NDArray[np.uint8]) -> Iterator[Tensor]:
        device = next(self.encoder.parameters()).device
        for start in range(0, len(pictures_BHW3), self.settings.batch):
            yield self.pixels(pictures_BHW3[start : start + self.settings.batch]).to(device)

    def to(self, device: torch.device | str) -> Self:
        self.encoder.to(device)
        return self

    def config(self) -> dict[str, object]:
        return self.settings.to_json()

    def save(self, file: Path) -> None:
        save_file({name: tensor.contiguous() for name, tensor in self.encoder.state_dict().items()}, file)

    @classmethod
    def load(cls, file: Path, config: JsonObject, layout: TokenLayout) -> Self:
        """From a file of ``save``, or of a TA-Tok, which has no adapter for reading: that one is then to be learnt, and
        begins at random numbers of a fixed seed. Raises: UserError naming a setting or a tensor that does not fit."""
        settings = HybridConfig.from_json(config, file.with_name("config.json"), layout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            encoder = HybridEncoder(settings)
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{file}: cannot be read ({error}); copy the file from the model once more.") from None
        ta_tok = any(name.startswith("vision_tower.") for name in weights)
        found = dict(_renamed(weights)) if ta_tok else weights
        _check(file, encoder, found, ("continuous.",) if ta_tok else ())
        encoder.load_state_dict({name: found[name] for name in encoder.state_dict() if name in found}, strict=False)
        encoder.encoder.to(found[_TOWER].dtype)
        return cls(settings, encoder.eval().requires_grad_(False), layout.image_start_id)


def merged(states_BND: Tensor, merge: int) -> Tensor:
    """(B, N, C) in raster order of a square -> (B, N / k^2, k * k * C): neighbours side by side, row by row."""
    if merge == 1:
        return states_BND
    batch, count, width = states_BND.shape
    side = round(count**0.5) // merge
    blocks = states_BND.view(batch, side, merge, side, merge, width).permute(0, 1, 3, 2, 4, 5)
    return blocks.reshape(batch, side * side, merge * merge * width)


def _type_of(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype


def _quantiser(config: HybridConfig) -> Fsq | NearestCode | SimVq:
    match config.quantiser:
        case "fsq":
            return Fsq(config.levels)
        case "vq":
            return NearestCode(config.codes, config.width)
        case "simvq":
            return SimVq(config.codes, config.width)


def _renamed(weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Of a TA-Tok's file what is needed here."""
    for name, tensor in weights.items():
        if own := renamed(name):
            yield own, tensor


def _check(file: Path, encoder: HybridEncoder, found: dict[str, Tensor], new: tuple[str, ...]) -> None:
    """``new``: beginnings of names that the file need not hold."""
    own = encoder.state_dict()
    if (over := f"encoder.encoder.layers.{len(encoder.encoder.encoder.layers) + 1}.layer_norm1.weight") in found:
        raise UserError(  # it would work, and read its features from the wrong layer
            f"{file}: {over} is of a layer beyond vision.num_hidden_layers in config.json beside it; use both from the "
            f"same model."
        )
    for name, tensor in own.items():
        if name.startswith(new):
            continue
        if name not in found:
            raise UserError(f"{file}: {name} is missing; copy the file from the model once more.")
        if found[name].shape != tensor.shape:
            raise UserError(
                f"{file}: {name} has shape {list(found[name].shape)}, but config.json beside it makes it "
                f"{list(tensor.shape)}; use both from the same model."
            )
