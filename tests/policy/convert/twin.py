"""A BLIP3o-NEXT checkpoint with random weights and small sizes, in the form that the published code writes.

``python -m tests.policy.convert.twin FOLDER`` makes one. The parts' configurations, which a published checkpoint does
without, lie beside it in ``transformer/``, ``vae/`` and ``image_tokenizer/``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, SanaTransformer2DModel
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor, nn
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    Siglip2VisionConfig,
    Siglip2VisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

CODES, CODE, HIDDEN, CAPTION = 64, 24, 32, 24
TEXT = 256 + 3  # bytes and Qwen's <|endoftext|> <|im_start|> <|im_end|>
START = TEXT + 5  # of the image tokens, after <im_start> <im_end> <S0> <S1> <S2>
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION = {
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 48,
    "image_size": 56,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": 4,
    "num_channels": 3,
    "num_hidden_layers": 3,
    "patch_size": 14,
}
RECONSTRUCTION = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_attention_heads": 12,
    "num_channels": CODE,
    "num_hidden_layers": 1,
    "num_patches": 16,
    "patch_size": 1,
}
LANGUAGE_MODEL = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": TEXT - 3,
    "eos_token_id": TEXT - 1,
    "head_dim": 32,  # the least that vLLM has kernels for on a CPU
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "max_position_embeddings": 1024,
    "max_window_layers": 2,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "use_sliding_window": False,
}
PICTURE_TOKENS = {
    "image_start_tag_id": TEXT,
    "image_end_tag_id": TEXT + 1,
    "scale_start_token_id": TEXT + 2,
    "scale_end_token_id": TEXT + 4,
    "num_scale_tokens": 3,
    "image_start_token_id": START,
    "image_end_token_id": START + CODES - 1,
    "num_image_tokens": CODES,
    "num_new_tokens": CODES,
    "mm_vision_tower": None,
    "mm_hidden_size": 48,
    "diffusion_name_or_path": "DIFFUSION",
}


EDITING = {
    "use_und_image_vae": True,
    "use_und_image_vae_as_noise": True,
    "only_use_und_image_vae_as_noise": False,
    "use_tar_siglip_features": False,
}


def make_twin(
    folder: Path,
    *,
    head: bool = True,
    tied: bool = True,
    stray: bool = False,
    editing: bool = False,
    dtype: torch.dtype = torch.bfloat16,
    model_type: str = "qwen3",
    files: int = 3,
    inside: int = 64,
    seed: int = 0,
) -> Path:
    """``head``: lm_head.weight is stored. ``stray``: one more embedding row, of a token ``<image>``. ``inside``: width
    of the language model's feed-forward layers."""
    folder.mkdir(parents=True)
    rows = START + CODES + stray + 2 * editing
    language_model = {**LANGUAGE_MODEL, "intermediate_size": inside}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        parts, tensors = _parts(), _language_model(rows, tied, language_model)
        tensors |= parts.pop("tensors")
        tensors |= _editing() if editing else {}
    if not head:
        del tensors["lm_head.weight"]
    _write_weights(folder, {name: tensor.to(dtype, copy=True) for name, tensor in sorted(tensors.items())}, files)
    _write_tokenizer(folder, stray=stray, editing=editing)
    own = {"architectures": ["blip3oQwenForCausalLM"], "model_type": model_type, "vocab_size": rows}
    own |= {"tie_word_embeddings": tied, "torch_dtype": str(dtype).removeprefix("torch."), "use_cache": True}
    own |= EDITING if editing else {}
    _write(folder / "config.json", {**own, **language_model, **PICTURE_TOKENS, "transformers_version": "4.51.3"})
    sampling = {"do_sample": True, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "transformers_version": "4.51.3"}
    _write(folder / "generation_config.json", sampling)
    for part, config in parts.items():
        (folder / part).mkdir()
        _write(folder / part / "config.json", config)
    return folder


def _parts() -> dict[str, Any]:
    """Configurations by part, and ``tensors`` under the names of the checkpoint."""
    sana = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=CAPTION,
        mlp_ratio=2.0,
        sample_size=4,
        patch_size=1,
        interpolation_scale=None,
        qk_norm="rms_norm_across_heads",
    )
    vae = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_out_channels=(8,) * 5,
        decoder_block_out_channels=(8,) * 5,
        encoder_block_types=("ResBlock",) * 4 + ("EfficientViTBlock",),
        decoder_block_types=("ResBlock",) * 4 + ("EfficientViTBlock",),
        encoder_layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        encoder_qkv_multiscales=((), (), (), (), (5,)),
        decoder_qkv_multiscales=((), (), (), (), (5,)),
        downsample_block_type="Conv",
        upsample_block_type="interpolate",
        scaling_factor=0.41407,
    )
    linear = nn.Sequential(nn.Linear(HIDDEN, CAPTION), nn.GELU(), nn.Linear(CAPTION, CAPTION), nn.RMSNorm(CAPTION))
    modules = {
        "model.diffusion_connector.": linear,
        "model.sana.": sana,
        "model.sana_vae.": vae,
        "model.vision_tower.vision_tower.": _vision_tower(),
    }
    tokenizer = {"kind": "ta_tok", "codes": CODES, "picture": 56, "scale": 1, "vision": VISION}
    return {
        "transformer": dict(sana.config),
        "vae": dict(vae.config),
        "image_tokenizer": tokenizer,
        "tensors": {
            prefix + name: tensor for prefix, module in modules.items() for name, tensor in module.state_dict().items()
        },
    }


def _vision_tower() -> nn.Module:
    tower, bottleneck, regularizer, decoder, scale = (nn.Module() for _ in range(5))
    tower.encoder = SiglipVisionModel(SiglipVisionConfig(**VISION))
    tower.encode_task_layer = nn.Sequential(nn.Linear(48, 48), nn.Tanh())
    tower.decode_task_layer = nn.Sequential(nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 48))
    decoder.vision_model = Siglip2VisionModel(Siglip2VisionConfig(**RECONSTRUCTION))
    regularizer.embedding, regularizer.embedding_proj = nn.Embedding(CODES, CODE), nn.Linear(CODE, CODE)
    bottleneck.in_linear, bottleneck.out_linear = nn.Linear(48, CODE), nn.Linear(CODE, CODE)
    scale.register_buffer("shift", torch.zeros(1, 3, 1, 1))
    scale.register_buffer("scale", torch.ones(1, 3, 1, 1))
    bottleneck.regularizer, tower.bottleneck, tower.decoder, tower.scale_layer = regularizer, bottleneck, decoder, scale
    return tower


def _language_model(rows: int, tied: bool, sizes: Mapping[str, Any]) -> dict[str, Tensor]:
    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=rows, tie_word_embeddings=tied, **sizes))
    return dict(model.state_dict())


def _editing() -> dict[str, Tensor]:
    name = "model.und_image_vae_connector."
    shapes = {"0.weight": (CAPTION, 4), "2.weight": (CAPTION, CAPTION)}
    shapes |= dict.fromkeys(("0.bias", "2.bias", "3.weight"), (CAPTION,))
    return {
        **{name + part: torch.randn(shape) for part, shape in shapes.items()},
        "model.und_image_vae_as_noise_connector.0.weight": torch.randn(4, 8, 1, 1),
    }


def _write_weights(folder: Path, tensors: Mapping[str, Tensor], files: int) -> None:
    if files == 1:
        save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map: dict[str, str] = {}
    for number in range(files):
        name = f"model-{number + 1:05d}-of-{files:05d}.safetensors"
        held = {key: tensor for index, (key, tensor) in enumerate(tensors.items()) if index % files == number}
        save_file(held, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, name)
    size = sum(tensor.nbytes for tensor in tensors.values())
    _write(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def _write_tokenizer(folder: Path, *, stray: bool, editing: bool) -> None:
    """Bytes as text tokens, then those of Qwen3 and of the picture in the published order."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<im_start>", "<im_end>"]
    plain = [*(f"<S{scale}>" for scale in range(3)), *(f"<I{code}>" for code in range(CODES)), *["<image>"] * stray]
    core.add_special_tokens(specials)
    core.add_tokens([AddedToken(token, normalized=True) for token in plain])
    if editing:
        core.add_special_tokens(["<|vision_start|>", "<|vision_end|>"])
    core.save(str(folder / "tokenizer.json"))
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    _write(folder / "added_tokens.json", {token["content"]: token["id"] for token in added})
    config = {
        "added_tokens_decoder": {str(token.pop("id")): token for token in added},
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "eos_token": "<|im_end|>",
        "model_max_length": 2048,
        "pad_token": "<|endoftext|>",
        "padding_side": "right",
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    _write(folder / "tokenizer_config.json", config)
    _write(folder / "special_tokens_map.json", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    _write(folder / "vocab.json", core.get_vocab(with_added_tokens=False))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def _write(file: Path, content: Mapping[str, object]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    make_twin(Path(sys.argv[1]))
