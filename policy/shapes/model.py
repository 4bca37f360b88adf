"""The embedded model's classes and sizes: BLIP3o-NEXT's own, only small."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaTransformer2DModel
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from policy.ar.loading import make_connector
from policy.base import Policy
from policy.decoder import Decoder
from policy.layout import TokenLayout
from policy.tokenizers.patch import PatchTokenizer
from rl.data.shapes.captions import TEMPLATES
from rl.data.shapes.looks import FIGURES, GROUNDS
from rl.data.shapes.sprites import CELL, CLASSES, COLORS, GRID, LETTERS
from rl.data.shapes.world import COUNTS, RELATIONS

NUM_IMAGE_TOKENS = 128
CAPTION_CHANNELS = 192
LATENT_CHANNELS = 32
_FEATURES = 48
_SPECIALS = ("<pad>", "<unk>", "<im_start>", "<im_end>", "<S0>")


def text_words() -> list[str]:
    """Every word the captions can hold; capital letters stand alone so that words to read are spelled."""
    texts = [text for group in TEMPLATES.values() for text in group]
    words = {word for text in texts for word in re.findall(r"[a-z]+", re.sub(r"\{\w*\}", " ", text))}
    words |= set(CLASSES) | set(COLORS) | set(COUNTS) | {word for phrase in RELATIONS for word in phrase.split()}
    words |= {word for name in (*GROUNDS[1:], *FIGURES) for word in name.split()}
    words |= {name + "es" if name.endswith("ss") else name + "s" for name in CLASSES}
    return [*sorted(words), '"', *LETTERS]


def make_tokenizer() -> PreTrainedTokenizerFast:
    names = [*_SPECIALS[:2], *text_words(), *_SPECIALS[2:]]
    names += [f"<I{code}>" for code in range(NUM_IMAGE_TOKENS)]
    core = Tokenizer(WordLevel({name: index for index, name in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = Split(Regex(r'[A-Z]|[a-z]+|[0-9]+|"|[^\sA-Za-z0-9"]+'), "removed", invert=True)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", pad_token="<pad>")
    return tokenizer


def make_layout(tokenizer: PreTrainedTokenizerFast) -> TokenLayout:
    return TokenLayout(
        vocab_size=len(tokenizer),
        image_start_id=tokenizer.convert_tokens_to_ids("<I0>"),
        num_image_tokens=NUM_IMAGE_TOKENS,
        tokens_per_image=GRID * GRID,
        im_start_id=tokenizer.convert_tokens_to_ids("<im_start>"),
        im_end_id=tokenizer.convert_tokens_to_ids("<im_end>"),
        scale_id=tokenizer.convert_tokens_to_ids("<S0>"),
        grid=(GRID, GRID),
    )


def make_ar(vocab_size: int, *, hidden_size: int = 192, layers: int = 4, tied: bool = False) -> Qwen3ForCausalLM:
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden_size // 32,
        num_key_value_heads=hidden_size // 96 or 1,
        head_dim=32,
        max_position_embeddings=128,
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
    return Qwen3ForCausalLM(config)


def make_vae() -> AutoencoderDC:
    """DC-AE, f16c32: 64 px <-> 32 channels x 4 x 4, one latent position a cell."""
    blocks, layers = (24, 24, 48, 96, 96), (0, 1, 1, 1, 1)
    return AutoencoderDC(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=blocks,
        decoder_block_out_channels=blocks,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=((),) * 5,
        decoder_qkv_multiscales=((),) * 5,
    )


def make_transformer() -> SanaTransformer2DModel:
    """SANA with sine positions: at 4 x 4 latents the convolutions alone do not tell a position from another."""
    return SanaTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=6,
        attention_head_dim=32,
        num_layers=4,
        num_cross_attention_heads=6,
        cross_attention_head_dim=32,
        cross_attention_dim=192,
        caption_channels=CAPTION_CHANNELS,
        mlp_ratio=2.0,
        sample_size=GRID,
        interpolation_scale=1.0,
    )


def make_policy(folder: Path, *, hidden_size: int = 192, layers: int = 4, tied: bool = False) -> Policy:
    """A policy with random weights, in memory; ``folder`` only names it."""
    tokenizer = make_tokenizer()
    layout = make_layout(tokenizer)
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    decoder = Decoder(make_connector(hidden_size, CAPTION_CHANNELS), make_transformer(), make_vae(), scheduler)
    pixels = CELL * CELL * 3
    image_tokenizer = PatchTokenizer(
        patch=CELL,
        mean_F=torch.zeros(pixels),
        basis_FC=torch.linalg.qr(torch.randn(pixels, _FEATURES))[0],
        codebook_KC=torch.randn(NUM_IMAGE_TOKENS, _FEATURES),
        image_start_id=layout.image_start_id,
    )
    ar = make_ar(layout.vocab_size, hidden_size=hidden_size, layers=layers, tied=tied).eval()
    decoder.eval().requires_grad_(False)
    return Policy(folder, layout, "{prompt}", tokenizer, ar, decoder, image_tokenizer)


def make_random(folder: Path, seed: int = 0, *, hidden_size: int = 96, layers: int = 2, tied: bool = False) -> Path:
    """Writes a complete policy folder with random weights, in the format of the real one; for tests."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        make_policy(folder, hidden_size=hidden_size, layers=layers, tied=tied).save(folder)
    return folder
