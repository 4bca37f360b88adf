"""The part of a TA-Tok that makes codes: checked against its file by the header alone, and read from it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional
from transformers import SiglipVisionModel

from policy.tokenizers.ta_tok_config import TaTokConfig
from rl.types import UserError

_IN_FILE = "vision_tower."  # before the names below; after them come a pooling head and a decoder that nobody reads
_TABLE = "bottleneck.regularizer.embedding.weight"
_LAYER = "encoder.encoder.layers.{}.layer_norm1.weight"
_FLOATS = ("F32", "BF16", "F16")


class TaTokEncoder(nn.Module):
    """Vision tower, projection and codebook (SimVQ: one linear map over a table), with the names of the file.

    TA-Tok: arXiv 2506.18898. The tower computes in the type of its weights, all behind it in float32.
    """

    codebook_KC: Tensor

    def __init__(self, config: TaTokConfig, width: int) -> None:
        """``width`` of a code."""
        super().__init__()
        self.encoder = SiglipVisionModel(config.tower())
        self.encoder.post_layernorm = nn.Identity()  # features are taken before it
        hidden = config.vision["hidden_size"]
        self.encode_task_layer = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        self.bottleneck = nn.ModuleDict(
            {
                "in_linear": nn.Linear(hidden, width),
                "regularizer": nn.ModuleDict(
                    {"embedding": nn.Embedding(config.codes, width), "embedding_proj": nn.Linear(width, width)}
                ),
            }
        )

    def features(self, pixels_B3HW: Tensor) -> Tensor:
        """(B, N, D): the tower's last layer but one, of pixels in -1 to 1."""
        states: Tensor = self.encoder(pixels_B3HW.to(self.encoder.dtype)).last_hidden_state
        return states.float()

    def cosines(self, features_TD: Tensor) -> Tensor:
        """(T, K): of each feature with each code."""
        projected = self.bottleneck["in_linear"](self.encode_task_layer(features_TD))
        return functional.normalize(projected, dim=-1) @ self.codebook_KC.T

    @torch.no_grad()
    def finish(self) -> None:
        """The codebook, computed once from its table, takes the table's place."""
        table = self.bottleneck.get_submodule("regularizer.embedding").weight
        codes_KC = self.bottleneck.get_submodule("regularizer.embedding_proj")(table)
        self.register_buffer("codebook_KC", functional.normalize(codes_KC, dim=-1), persistent=False)
        del self.bottleneck["regularizer"]


def check_weights(file: Path, config: TaTokConfig) -> None:
    """Raises: UserError naming the first tensor that is missing, of another shape or of another type."""
    shapes, types = _header(file)
    expected = _empty(file, shapes, config).state_dict()
    if missing := [name for name in expected if name not in shapes]:
        more = f" (and {len(missing) - 1} more)" if missing[1:] else ""
        raise UserError(f"{file}: {_IN_FILE}{missing[0]} is missing{more}; copy the file from the model once more.")
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise UserError(
                f"{file}: {_IN_FILE}{name} has shape {list(shapes[name])}, but config.json beside it makes it "
                f"{list(tensor.shape)}; use both from the same model."
            )
        if types[name] not in _FLOATS:
            raise UserError(f"{file}: {_IN_FILE}{name} is of type {types[name]}; store it as one of {list(_FLOATS)}.")
    layers = config.vision["num_hidden_layers"]
    if _LAYER.format(layers) in shapes:  # it would work, and read its features from the wrong layer
        raise UserError(
            f"{file}: the tower has more than the {layers} layers of vision.num_hidden_layers in config.json beside "
            "it; use both from the same model."
        )


def read_weights(file: Path, config: TaTokConfig, device: torch.device) -> TaTokEncoder:
    """Ready to encode, on ``device``; of the file only what codes need is read."""
    model = _empty(file, _header(file)[0], config)
    with safe_open(file, framework="pt") as weights:
        model.load_state_dict({name: weights.get_tensor(_IN_FILE + name) for name in model.state_dict()}, assign=True)
    embeddings = model.encoder.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions)[None]  # made on no device, and in no file
    model.encoder.to(model.encoder.dtype)
    model.encode_task_layer.float()
    model.bottleneck.float()
    model.to(device).finish()
    return model.eval().requires_grad_(False)


def _empty(file: Path, shapes: dict[str, tuple[int, ...]], config: TaTokConfig) -> TaTokEncoder:
    """Shapes without memory. The width of a code stands nowhere but in the table itself."""
    if len(shapes.get(_TABLE, ())) != 2:
        raise UserError(f"{file}: {_IN_FILE}{_TABLE} is missing or no table; copy the file from the model once more.")
    with torch.device("meta"):
        return TaTokEncoder(config, shapes[_TABLE][1])


def _header(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """(shape, type) by name, without reading a weight."""
    shapes, types = {}, {}
    try:
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - not a mapping
                if name.startswith(_IN_FILE):
                    part, short = weights.get_slice(name), name.removeprefix(_IN_FILE)
                    shapes[short], types[short] = tuple(part.get_shape()), part.get_dtype()
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read ({error}); copy the file from the model once more.") from None
    return shapes, types
