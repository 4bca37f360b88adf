"""Sizes of a policy that decide about memory, read from the configurations and headers of its parts."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from policy.ar.size import ArSize
from policy.convert.tensor_file import read_tensor_file
from policy.folder import read_policy_config
from policy.json_file import JsonObject, read_json
from rl.preflight.memory.image_tokenizer import ImageTokenizerSize

_DC_AE = ((128, 256, 512, 512, 1024, 1024), (2, 2, 2, 2, 2, 2))  # diffusers' own defaults


@dataclass(frozen=True)
class DecoderSize:
    """Of connector, transformer and autoencoder."""

    parameters: int
    width: int
    """Channels of the transformer."""
    expansion: float
    """Of its feed-forward: ``mlp_ratio``."""
    latents: int
    """Positions of one picture in the transformer."""
    latent_numbers: int
    """Of one picture: positions x channels."""
    layers: int
    """Blocks of the transformer."""
    connector: int
    transformer: int
    """Parameters of these two."""
    widest: int
    """Numbers of the autoencoder's largest feature map of one picture."""
    pixels: int

    @classmethod
    def read(cls, folder: Path) -> DecoderSize:
        transformer, vae = (read_json(folder / part / "config.json") for part in ("transformer", "vae"))
        side = int(transformer.get("sample_size", 32))
        blocks, layers = (
            vae.get("decoder_block_out_channels", _DC_AE[0]),
            vae.get("decoder_layers_per_block", _DC_AE[1]),
        )
        height = side * 2 ** (len(blocks) - 1)
        maps = [
            width * (height >> level) ** 2
            for level, (width, depth) in enumerate(zip(blocks, layers, strict=True))
            if depth
        ]
        return cls(
            parameters=sum(stored_numbers(folder / part) for part in ("connector", "transformer", "vae")),
            width=_width(transformer),
            expansion=float(transformer.get("mlp_ratio", 2.5)),
            latents=(side // int(transformer.get("patch_size", 1))) ** 2,
            latent_numbers=side**2 * int(vae.get("latent_channels", 32)),
            layers=int(transformer.get("num_layers", 20)),
            connector=stored_numbers(folder / "connector"),
            transformer=stored_numbers(folder / "transformer"),
            widest=max(maps, default=0),
            pixels=height**2,
        )


@dataclass(frozen=True)
class PolicySize:
    """A policy folder as the memory sees it."""

    ar: ArSize
    decoder: DecoderSize
    tokens: int
    """Of a picture."""
    codes: int
    """Image tokens in the vocabulary."""
    image_tokenizer: ImageTokenizerSize

    @classmethod
    def read(cls, folder: Path) -> PolicySize:
        """Raises: UserError if the folder is no complete policy."""
        layout, _ = read_policy_config(folder)
        decoder, tokens = DecoderSize.read(folder), layout.tokens_per_image
        reading = ImageTokenizerSize.read(folder / "image_tokenizer", tokens, decoder.pixels)
        return cls(ArSize.read(folder / "ar"), decoder, tokens, layout.num_image_tokens, reading)


def stored_numbers(part: Path) -> int:
    """Elements of all tensors in the safetensors files of a part; their headers alone are read."""
    return sum(
        prod(tensor.shape) for file in part.glob("*.safetensors") for tensor in read_tensor_file(file).tensors.values()
    )


def _width(transformer: JsonObject) -> int:
    return int(transformer.get("num_attention_heads", 70)) * int(transformer.get("attention_head_dim", 32))
