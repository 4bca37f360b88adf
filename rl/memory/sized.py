"""Policies of any size with random weights, in the format of the real one: what memory is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaTransformer2DModel
from transformers import Qwen3Config, Qwen3ForCausalLM

from policy.ar.loading import make_connector
from policy.base import Policy
from policy.decoder import Decoder
from policy.layout import TokenLayout
from policy.shapes.model import make_tokenizer
from policy.tokenizers.patch import PatchTokenizer

_FEATURES, _LATENT_CHANNELS, _HEAD = 16, 32, 64


@dataclass(frozen=True)
class Sized:
    """Sizes of a policy: the language model's, and the decoder's in channels and latent positions a side."""

    words: int
    codes: int
    side: int
    """Of the grid of image tokens."""
    hidden: int
    layers: int
    heads: int
    keys: int
    inner: int
    decoder: int
    decoder_layers: int
    latents: int
    vae: tuple[int, ...]

    def layout(self) -> TokenLayout:
        """The image tokens are the last words, as in BLIP3o-NEXT; the specials those of the embedded tokenizer."""
        special = make_tokenizer().convert_tokens_to_ids
        return TokenLayout(
            vocab_size=self.words,
            image_start_id=self.words - self.codes,
            num_image_tokens=self.codes,
            tokens_per_image=self.side**2,
            im_start_id=special("<im_start>"),
            im_end_id=special("<im_end>"),
            scale_id=special("<S0>"),
            grid=(self.side, self.side),
        )


def write_policy(folder: Path, sized: Sized, seed: int = 0) -> Path:
    """A complete policy folder of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        _policy(folder, sized).save(folder)
    return folder


def _policy(folder: Path, sized: Sized) -> Policy:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    connector = make_connector(sized.hidden, sized.decoder)
    decoder = Decoder(connector, _transformer(sized), _vae(sized.vae), scheduler)
    patch = 2 ** (len(sized.vae) - 1) * sized.latents // sized.side
    pixels = patch * patch * 3
    tokenizer = PatchTokenizer(
        patch=patch,
        mean_F=torch.zeros(pixels),
        basis_FC=torch.randn(pixels, _FEATURES),
        codebook_KC=torch.randn(sized.codes, _FEATURES),
        image_start_id=sized.words - sized.codes,
    )
    decoder.eval().requires_grad_(False)
    return Policy(folder, sized.layout(), "{prompt}", make_tokenizer(), _ar(sized), decoder, tokenizer)


def _ar(sized: Sized) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=sized.words,
        hidden_size=sized.hidden,
        intermediate_size=sized.inner,
        num_hidden_layers=sized.layers,
        num_attention_heads=sized.heads,
        num_key_value_heads=sized.keys,
        head_dim=_HEAD,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Qwen3ForCausalLM(config)


def _transformer(sized: Sized) -> SanaTransformer2DModel:
    heads = sized.decoder // 32
    return SanaTransformer2DModel(
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_attention_heads=heads,
        attention_head_dim=32,
        num_layers=sized.decoder_layers,
        num_cross_attention_heads=heads,
        cross_attention_head_dim=32,
        cross_attention_dim=sized.decoder,
        caption_channels=sized.decoder,
        mlp_ratio=2.5,
        sample_size=sized.latents,
    )


def _vae(blocks: tuple[int, ...]) -> AutoencoderDC:
    layers = (0, *[1] * (len(blocks) - 1))
    return AutoencoderDC(
        latent_channels=_LATENT_CHANNELS,
        encoder_block_out_channels=blocks,
        decoder_block_out_channels=blocks,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=((),) * len(blocks),
        decoder_qkv_multiscales=((),) * len(blocks),
    )
