"""Tiny checkpoints with random weights, saved by the libraries' own classes in the format of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rewards.library.geneval.classes import GENEVAL_CLASSES

# How COCO's classes are spelt in checkpoints, where it is not GenEval's way.
COCO_SPELLING = {
    "couch": "sofa", "tv": "tvmonitor", "computer mouse": "mouse", "tv remote": "remote", "motorcycle": "motorbike",
    "computer keyboard": "keyboard", "airplane": "aeroplane", "potted plant": "pottedplant",
    "dining table": "diningtable",
}  # fmt: skip


def _swin(first_stage: int) -> Any:
    from transformers import SwinConfig

    stages = [f"stage{i}" for i in range(first_stage, 5)]
    return SwinConfig(
        image_size=64, embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, out_features=stages
    )


def mask2former(folder: Path) -> Path:
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation
    from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

    torch.manual_seed(0)
    config = Mask2FormerConfig(
        backbone_config=_swin(1), feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, dim_feedforward=16, num_queries=8,
        id2label={i: COCO_SPELLING.get(name, name) for i, name in enumerate(GENEVAL_CLASSES)},
    )  # fmt: skip
    model = Mask2FormerForUniversalSegmentation(config)
    model.class_predictor.weight.data.mul_(60)  # so that some classes are likely, and queries differ
    model.model.transformer_module.queries_features.weight.data.normal_()
    model.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 64, "width": 64}, num_labels=80).save_pretrained(folder)
    return folder


def grounding_dino(folder: Path) -> Path:
    import torch
    from transformers import BertTokenizerFast, GroundingDinoConfig, GroundingDinoForObjectDetection
    from transformers import GroundingDinoProcessor as Processor
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "dog", "car", "hot", "cell", "phone", "##s"]
    config = GroundingDinoConfig(
        backbone_config=_swin(2), d_model=32, num_queries=10, max_text_len=32,
        encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_layers=2, decoder_ffn_dim=32, decoder_attention_heads=2,
        text_config={
            "model_type": "bert", "vocab_size": len(words), "hidden_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 64,
        },
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    Processor(
        GroundingDinoImageProcessorPil(size={"shortest_edge": 128, "longest_edge": 192}), tokenizer
    ).save_pretrained(folder)
    return folder


def owlv2(folder: Path) -> Path:
    import torch
    from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection, Owlv2Processor
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]  # the end is last
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=[], model_max_length=16, pad_token="<|endoftext|>")
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"vocab_size": len(vocab), "bos_token_id": len(vocab) - 2}
    ids |= {"eos_token_id": len(vocab) - 1, "pad_token_id": len(vocab) - 1}
    config = Owlv2Config(
        text_config={**small, **ids, "max_position_embeddings": 16},
        vision_config={**small, "image_size": 64, "patch_size": 16},
        projection_dim=32,
    )
    model = Owlv2ForObjectDetection(config)
    for layer in (model.box_head.dense2, model.class_head.logit_shift, model.class_head.logit_scale):
        layer.weight.data.mul_(0.05)  # boxes near their own cells, scores neither 0 nor 1
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessorPil(size={"height": 64, "width": 64}), tokenizer).save_pretrained(folder)
    return folder


def clip(folder: Path, name: str) -> Path:
    """Registers the architecture ``name`` with open_clip; the weight file, in safetensors."""
    import torch
    from safetensors.torch import save_file

    from rewards.library.models.open_clip_compat import import_open_clip

    open_clip = import_open_clip()
    torch.manual_seed(0)
    vision = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32}
    text = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    settings = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text, "quick_gelu": True}
    (folder / f"{name}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(folder / f"{name}.json")
    weights = folder / "open_clip_model.safetensors"
    model = open_clip.create_model(name)
    for transformer in (model.transformer, model.visual.transformer):  # so that sentences, and pictures, differ
        transformer.resblocks[0].attn.in_proj_weight.data.mul_(3)
        transformer.resblocks[0].attn.out_proj.weight.data.mul_(100)
    save_file(model.state_dict(), weights)
    return weights
