"""Tiny random-weight checkpoints in the formats that the model rewards load, and pictures to score with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl.types import Prompt, Sample

SIDE = 32  # pixels of the tiny models' input
PROMPTS = ("a red cat", "two blue dogs on a hill", "a cat")


def pictures(count: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Smooth coloured pictures of several sizes and shapes."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        height, width = [(64, 64), (47, 90), (101, 33)][i % 3]
        coarse = rng.integers(0, 256, (5, 5, 3)).repeat(height // 5 + 1, axis=0).repeat(width // 5 + 1, axis=1)
        picture = coarse[:height, :width].astype(np.uint8)
        picture.flags.writeable = False  # as the pool hands them over
        made.append(picture)
    return made


def samples(count: int = 3, prompts: Sequence[str] = PROMPTS) -> list[Sample]:
    return [
        Sample(f"s{i}", "g", Prompt(f"p{i}", prompts[i % len(prompts)]), picture)
        for i, picture in enumerate(pictures(count))
    ]


def hf_clip(folder: Path, *, seed: int = 0) -> Path:
    """A transformers CLIP: model, tokenizer and picture settings, embedding width 16."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = clip_tokenizer()
    text = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 40, "vocab_size": len(tokenizer), "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": SIDE, "patch_size": 8,
    }  # fmt: skip
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16, logit_scale_init_value=3.0)
    torch.manual_seed(seed)
    model = CLIPModel(config).eval()
    shake(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        folder
    )
    return folder


def clip_tokenizer() -> Any:
    """CLIP's tokenizer with single bytes for a vocabulary."""
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=[])


OPEN_CLIP: dict[str, Any] = {
    "embed_dim": 16,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": SIDE},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def open_clip_architecture(folder: Path, name: str = "tiny-ViT") -> Any:
    """Registers the architecture ``name`` with open_clip and returns a random model of it."""
    from rewards.library.models.open_clip_compat import import_open_clip

    open_clip = import_open_clip()
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(OPEN_CLIP))
    open_clip.add_model_config(folder)
    torch.manual_seed(1)
    model = open_clip.create_model(name).eval()
    shake(model)
    return model


def shake(model: torch.nn.Module) -> None:
    """Random biases and larger weights: a fresh model's are 0 or so small that all pictures look alike."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "logit_scale" not in name:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def bert_tokenizer(folder: Path) -> int:
    """A BERT tokenizer of single letters and a few words; its vocabulary size."""
    from transformers import BertTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "cat",
        "dog",
        *letters,
        *("##" + letter for letter in letters),
    ]
    BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(folder)
    return len(tokens)
