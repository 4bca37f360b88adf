"""The weights that rewards download from the Hugging Face hub: names, licences and the commands that fetch them.

One table for the rewards' defaults, their error messages and ``python -m rl.doctor``. Imports nothing heavy.
A single file on the hub is written ``owner/name:file``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

CLIP_B: Final = "openai/clip-vit-base-patch32"  # MIT, 0.6 GB
CLIP_L: Final = "openai/clip-vit-large-patch14"  # MIT, 1.7 GB
CLIP_H: Final = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"  # MIT, only its tokenizer and picture settings are used
AESTHETIC_HEAD: Final = "trl-lib/ddpo-aesthetic-predictor:aesthetic-model.pth"  # Apache-2.0, LAION's file by its mirror
PICKSCORE: Final = "yuvalkirstain/PickScore_v1"  # MIT, 3.9 GB
HPSV2: Final = "xswu/HPSv2:HPS_v2.1_compressed.pt"  # Apache-2.0, 2 GB
IMAGE_REWARD: Final = "THUDM/ImageReward:ImageReward.pt"  # Apache-2.0, 1.8 GB
BERT: Final = "google-bert/bert-base-uncased"  # Apache-2.0, only its tokenizer is used
MASK2FORMER: Final = "facebook/mask2former-swin-small-coco-instance"  # licence "other", 0.3 GB
GROUNDING_DINO: Final = "IDEA-Research/grounding-dino-tiny"  # Apache-2.0, 0.7 GB
OWLV2: Final = "google/owlv2-base-patch16-ensemble"  # Apache-2.0, 0.6 GB
DINOV2: Final = "facebook/dinov2-base"  # Apache-2.0, 0.3 GB

# What of a repository is wanted, where it also holds the same weights for other frameworks.
_NO_TENSORFLOW, _NO_WEIGHTS = '--exclude "*.h5" --exclude "*.msgpack"', '--include "*.json" --include "*.txt"'
_PATTERNS = {CLIP_B: _NO_TENSORFLOW, CLIP_L: _NO_TENSORFLOW, CLIP_H: _NO_WEIGHTS, BERT: _NO_WEIGHTS}
_SAFE = ("model.safetensors",)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_TOKENIZER = ("tokenizer.json", "vocab.txt")

# What each reward loads with its default options: (name on the hub, files of which one must be there).
NEEDED: Final[dict[str, tuple[tuple[str, tuple[str, ...]], ...]]] = {
    "geneval (mask2former)": ((MASK2FORMER, _SAFE),),
    "geneval (grounding_dino)": ((GROUNDING_DINO, _SAFE),),
    "geneval (owlv2)": ((OWLV2, _SAFE),),
    "geneval (clip colours)": ((CLIP_L, _WEIGHTS),),
    "aesthetic": ((CLIP_L, _WEIGHTS), (AESTHETIC_HEAD, ())),
    "clip_score": ((CLIP_B, _WEIGHTS),),
    "pickscore": ((PICKSCORE, _WEIGHTS), (CLIP_H, _TOKENIZER)),
    "hpsv2": ((HPSV2, ()),),
    "image_reward": ((IMAGE_REWARD, ()), (BERT, _TOKENIZER)),
    "similarity (clip)": ((CLIP_L, _WEIGHTS),),
    "similarity (dino)": ((DINOV2, _WEIGHTS),),
}


def download_command(name: str) -> str:
    """The command that puts ``owner/name`` or ``owner/name:file`` where the rewards find it."""
    repo, _, file = name.partition(":")
    return f"hf download {repo} {file or _PATTERNS.get(repo, '')}".rstrip()


def absent(reward: str) -> list[str]:
    """What ``NEEDED[reward]`` names and the local cache of the hub lacks. Asks no network."""
    return [name for name, files in NEEDED[reward] if not _cached(name, files)]


def _cached(name: str, files: tuple[str, ...]) -> bool:
    from huggingface_hub import try_to_load_from_cache  # 0.2 s, only for those who ask

    repo, _, file = name.partition(":")
    found = (try_to_load_from_cache(repo, wanted) for wanted in ((file,) if file else files))
    return any(isinstance(path, str) and Path(path).exists() for path in found)
