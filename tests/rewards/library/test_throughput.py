"""Speed of the rewards whose weights are large: the published architectures with random weights, on this machine.

``pytest -m slow -s tests/rewards/library/test_throughput.py`` prints pictures per second, plain and pooled.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewards import bench
from rl.config.schema import RewardComponent
from rl.types import Prompt, Sample
from tests.rewards.library.geneval import geneval_checkpoints
from tests.rewards.library.test_image_reward import REAL, layout
from tests.rewards.library.tiny_models import bert_tokenizer, clip_tokenizer

WEIGHTS = Path(os.environ.get("EASEL_TEST_WEIGHTS", ""))
SIZE = 512  # pixels of the pictures that are scored
# Width, layers, heads and feed-forward width of the text and vision towers, patch, width of the embedding.
CLIPS = {
    "B/32": ((512, 12, 8, 2048), (768, 12, 12, 3072), 32, 512),
    "L/14": ((768, 12, 12, 3072), (1024, 24, 16, 4096), 14, 768),
    "H/14": ((1024, 24, 16, 4096), (1280, 32, 16, 5120), 14, 1024),
}


def clip(folder: Path, name: str) -> str:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    text, vision, patch, width = CLIPS[name]
    tokenizer = clip_tokenizer()
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**dict(zip(keys, text, strict=True)), **ends},
        vision_config={**dict(zip(keys, vision, strict=True)), "patch_size": patch, "image_size": 224},
        projection_dim=width,
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    return str(folder)


def aesthetic(folder: Path) -> dict[str, Any]:
    widths = (768, 1024, 128, 64, 16, 1)
    head = {
        f"layers.{n}.weight": torch.randn(o, i) for n, i, o in zip((0, 2, 4, 6, 7), widths, widths[1:], strict=False)
    }
    torch.save(head | {f"{n[:-6]}bias": torch.zeros(len(w)) for n, w in head.items()}, folder / "head.pth")
    return {"checkpoint": str(folder / "head.pth"), "clip": clip(folder / "clip", "L/14")}


def hpsv2(folder: Path) -> dict[str, Any]:
    from rewards.library.models.open_clip_compat import import_open_clip

    torch.save({"state_dict": import_open_clip().create_model("ViT-H-14").state_dict()}, folder / "hps.pt")
    return {"checkpoint": str(folder / "hps.pt")}


def image_reward(folder: Path) -> dict[str, Any]:
    vocabulary = bert_tokenizer(folder / "tokenizer")
    state = {name: 0.02 * torch.randn(shape) for name, shape in layout(vocabulary, REAL).items()}
    torch.save(state, folder / "ImageReward.pt")
    return {"checkpoint": str(folder / "ImageReward.pt"), "tokenizer": str(folder / "tokenizer")}


def dino(folder: Path) -> dict[str, Any]:
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config()).save_pretrained(folder)
    BitImageProcessorPil(size={"shortest_edge": 256}, crop_size={"height": 224, "width": 224}).save_pretrained(folder)
    return {"measure": "dino", "checkpoint": str(folder)}


def pickscore(folder: Path) -> dict[str, Any]:
    checkpoint = clip(folder, "H/14")
    return {"checkpoint": checkpoint, "processor": checkpoint}


def mask2former(folder: Path) -> dict[str, Any]:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    geneval_checkpoints.mask2former(folder)  # for its processor and class names; its model is written over
    names = Mask2FormerConfig.from_pretrained(folder).id2label
    Mask2FormerForUniversalSegmentation(Mask2FormerConfig(id2label=names)).save_pretrained(folder)  # Swin-S
    return {"detector": "mask2former", "detector_options": {"checkpoint": str(folder)}, "colors": "pixels"}


def grounding_dino(folder: Path) -> dict[str, Any]:
    from transformers import AutoProcessor, GroundingDinoConfig, GroundingDinoForObjectDetection

    geneval_checkpoints.grounding_dino(folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = type(processor.image_processor)()
    processor.save_pretrained(folder)
    GroundingDinoForObjectDetection(GroundingDinoConfig()).save_pretrained(folder)  # Swin-T
    return {"detector": "grounding_dino", "detector_options": {"checkpoint": str(folder)}, "colors": "pixels"}


def owlv2(folder: Path) -> dict[str, Any]:
    from transformers import AutoProcessor, Owlv2Config, Owlv2ForObjectDetection

    geneval_checkpoints.owlv2(folder)
    processor = AutoProcessor.from_pretrained(folder)
    processor.image_processor = type(processor.image_processor)()
    processor.save_pretrained(folder)
    tiny = Owlv2Config.from_pretrained(folder).text_config
    ids = {key: getattr(tiny, key) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = Owlv2Config(text_config=ids, vision_config={"image_size": 960})  # B/16
    Owlv2ForObjectDetection(config).save_pretrained(folder)
    return {"detector": "owlv2", "detector_options": {"checkpoint": str(folder)}, "colors": "pixels"}


CASES = {
    "clip_score": (16, "clip_score", lambda folder: {"checkpoint": clip(folder, "B/32")}),
    "aesthetic": (8, "aesthetic", aesthetic),
    "pickscore": (4, "pickscore", pickscore),
    "hpsv2": (4, "hpsv2", hpsv2),
    "image_reward": (8, "image_reward", image_reward),
    "similarity, dino": (8, "similarity", dino),
    "similarity, ssim": (32, "similarity", lambda _: {"measure": "ssim"}),
    "geneval, mask2former": (4, "geneval", mask2former),
    "geneval, grounding_dino": (4, "geneval", grounding_dino),
    "geneval, owlv2": (4, "geneval", owlv2),
    "geneval, yolox": (32, "geneval", lambda _: detector("yolox", file=WEIGHTS / "yolox_nano" / "yolox_nano.onnx")),
    "geneval, picodet": (32, "geneval", lambda _: detector("picodet", folder=WEIGHTS / "picodet")),
}


def detector(use: str, **option: Path) -> dict[str, Any]:
    for path in option.values():
        if "EASEL_TEST_WEIGHTS" not in os.environ or not path.exists():
            pytest.skip("EASEL_TEST_WEIGHTS has no weights of this detector")
    options = {name: str(path) for name, path in option.items()}
    return {"detector": use, "detector_options": options, "colors": "pixels"}


def asked(count: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    include = [{"class": "cat", "count": 1, "color": "black"}]
    pictures = [rng.integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8) for _ in range(count)]
    prompts = [
        Prompt(f"p{i}", "a photo of a black cat", {"include": include, "reference": p}) for i, p in enumerate(pictures)
    ]
    return [Sample(f"s{i}", prompts[i].id, prompts[i], picture) for i, picture in enumerate(pictures)]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_pictures_per_second(name: str, tmp_path: Path) -> None:
    count, use, make = CASES[name]
    torch.manual_seed(0)
    reward = RewardComponent(use=use, options=make(tmp_path), batch_size=8, probe=False)  # random weights know no cat
    quick = count >= 16
    found = bench.rate(use, reward, asked(count), repeats=3 if quick else 1)
    print(f"\n| {name} | {found.alone:.2f} | {found.pool[1]:.2f} | {found.pool[2]:.2f} |")
    assert found.pool[1] > (0.85 if quick else 0.6) * found.alone  # the slow ones are few pictures, measured once
