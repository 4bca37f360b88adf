"""Weights on the Hugging Face hub: whether they are on this machine, and the commands that fetch them.

A single file on the hub is written ``owner/name:file``. Imports nothing heavy. Which weights a reward reads, it
declares itself (``rewards.requires``); here are only the names that several files share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

CLIP_B: Final = "openai/clip-vit-base-patch32"  # MIT, 0.6 GB
CLIP_L: Final = "openai/clip-vit-large-patch14"  # MIT, 1.7 GB
CLIP_H: Final = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # MIT, only its tokenizer and picture settings are used
BERT: Final = "google-bert/bert-base-uncased"  # Apache-2.0, only its tokenizer is used

# What of a repository is wanted, where it also holds the same weights for other frameworks.
_NO_TENSORFLOW, _NO_WEIGHTS = '--exclude "*.h5" --exclude "*.msgpack"', '--include "*.json" --include "*.txt"'
_PATTERNS = {CLIP_B: _NO_TENSORFLOW, CLIP_L: _NO_TENSORFLOW, CLIP_H: _NO_WEIGHTS, BERT: _NO_WEIGHTS}
# Files of which one shows that a repository has been downloaded.
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER = ("tokenizer.json", "vocab.txt")


def download_command(name: str) -> str:
    """The command that puts ``owner/name`` or ``owner/name:file`` where the rewards find it."""
    repo, _, file = name.partition(":")
    return f"hf download {repo} {file or _PATTERNS.get(repo, '')}".rstrip()


def absent(weights: Sequence[str], tokenizers: Sequence[str] = ()) -> list[str]:
    """What of these names the local cache of the hub lacks. Asks no network."""
    wanted = [(name, _WEIGHTS) for name in weights] + [(name, _TOKENIZER) for name in tokenizers]
    return [name for name, files in wanted if not _cached(name, files)]


def _cached(name: str, files: tuple[str, ...]) -> bool:
    from huggingface_hub import try_to_load_from_cache  # 0.2 s, only for those who ask

    repo, _, file = name.partition(":")
    found = (try_to_load_from_cache(repo, wanted) for wanted in ((file,) if file else files))
    return any(isinstance(path, str) and Path(path).exists() for path in found)
