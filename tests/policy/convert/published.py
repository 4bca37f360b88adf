"""Names and shapes of the published 3B model's tensors, by rule: Qwen3-1.7B, SANA 1.5 1.6B, DC-AE f32c32, TA-Tok."""

from __future__ import annotations

from collections.abc import Iterator

VOCABULARY = 217_210
Entry = tuple[str, tuple[int, ...]]


def published_shapes(*, head: bool = True, vocabulary: int = VOCABULARY) -> dict[str, tuple[int, ...]]:
    entries = [*_language_model(vocabulary), *_connector(), *_sana(), *_autoencoder(), *_vision_tower()]
    found = dict(entries)
    assert len(found) == len(entries)
    return {**found, "lm_head.weight": (vocabulary, 2048)} if head else found


def _both(name: str, *weight: int) -> Iterator[Entry]:
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def _norm(name: str, width: int) -> Iterator[Entry]:
    yield from _both(name, width)


def _language_model(vocabulary: int) -> Iterator[Entry]:
    yield "model.embed_tokens.weight", (vocabulary, 2048)
    yield "model.norm.weight", (2048,)
    for layer in range(28):
        at = f"model.layers.{layer}"
        yield f"{at}.input_layernorm.weight", (2048,)
        yield f"{at}.post_attention_layernorm.weight", (2048,)
        yield f"{at}.mlp.gate_proj.weight", (6144, 2048)
        yield f"{at}.mlp.up_proj.weight", (6144, 2048)
        yield f"{at}.mlp.down_proj.weight", (2048, 6144)
        for name, rows in {"q": 2048, "k": 1024, "v": 1024, "o": 2048}.items():
            yield f"{at}.self_attn.{name}_proj.weight", (rows, 2048)
        yield f"{at}.self_attn.q_norm.weight", (128,)
        yield f"{at}.self_attn.k_norm.weight", (128,)


def _connector() -> Iterator[Entry]:
    yield from _both("model.diffusion_connector.0", 2304, 2048)
    yield from _both("model.diffusion_connector.2", 2304, 2304)
    yield "model.diffusion_connector.3.weight", (2304,)


def _sana() -> Iterator[Entry]:
    at, width, inside = "model.sana", 2240, 5600
    yield f"{at}.scale_shift_table", (2, width)
    yield f"{at}.caption_norm.weight", (width,)
    yield from _both(f"{at}.patch_embed.proj", width, 32, 1, 1)
    yield from _both(f"{at}.time_embed.emb.timestep_embedder.linear_1", width, 256)
    yield from _both(f"{at}.time_embed.emb.timestep_embedder.linear_2", width, width)
    yield from _both(f"{at}.time_embed.linear", 6 * width, width)
    yield from _both(f"{at}.caption_projection.linear_1", width, 2304)
    yield from _both(f"{at}.caption_projection.linear_2", width, width)
    yield from _both(f"{at}.proj_out", 32, width)
    for block in range(20):
        inner = f"{at}.transformer_blocks.{block}"
        yield f"{inner}.scale_shift_table", (6, width)
        for attention, biased in {"attn1": False, "attn2": True}.items():
            yield f"{inner}.{attention}.norm_q.weight", (width,)
            yield f"{inner}.{attention}.norm_k.weight", (width,)
            yield from _both(f"{inner}.{attention}.to_out.0", width, width)
            for name in "qkv":
                weight, bias = _both(f"{inner}.{attention}.to_{name}", width, width)
                yield from (weight, bias) if biased else (weight,)
        yield from _both(f"{inner}.ff.conv_inverted", 2 * inside, width, 1, 1)
        yield from _both(f"{inner}.ff.conv_depth", 2 * inside, 1, 3, 3)
        yield f"{inner}.ff.conv_point.weight", (width, inside, 1, 1)


def _autoencoder() -> Iterator[Entry]:
    widths, last = (128, 256, 512, 512, 1024, 1024), 5
    encoder, decoder = "model.sana_vae.encoder", "model.sana_vae.decoder"
    yield from _both(f"{encoder}.conv_in", 128, 3, 3, 3)
    yield from _both(f"{encoder}.conv_out", 32, 1024, 3, 3)
    yield from _both(f"{decoder}.conv_in", 1024, 32, 3, 3)
    yield from _norm(f"{decoder}.norm_out", 128)
    yield from _both(f"{decoder}.conv_out", 3, 128, 3, 3)
    for stage, width in enumerate(widths):
        block = _residual if stage < 3 else _attention
        deep = 2 if stage < 3 else 3
        for layer in range(deep):
            yield from block(f"{encoder}.down_blocks.{stage}.{layer}", width)
        if stage < last:
            yield from _both(f"{encoder}.down_blocks.{stage}.{deep}.conv", widths[stage + 1], width, 3, 3)
            yield from _both(f"{decoder}.up_blocks.{stage}.0.conv", width, widths[stage + 1], 3, 3)
        for layer in range(3):
            yield from block(f"{decoder}.up_blocks.{stage}.{layer + (stage < last)}", width)


def _residual(at: str, width: int) -> Iterator[Entry]:
    yield from _both(f"{at}.conv1", width, width, 3, 3)
    yield f"{at}.conv2.weight", (width, width, 3, 3)
    yield from _norm(f"{at}.norm", width)


def _attention(at: str, width: int) -> Iterator[Entry]:
    for name in "qkv":
        yield f"{at}.attn.to_{name}.weight", (width, width)
    yield f"{at}.attn.to_qkv_multiscale.0.proj_in.weight", (3 * width, 1, 5, 5)
    yield f"{at}.attn.to_qkv_multiscale.0.proj_out.weight", (3 * width, 32, 1, 1)
    yield f"{at}.attn.to_out.weight", (width, 2 * width)
    yield from _norm(f"{at}.attn.norm_out", width)
    yield from _both(f"{at}.conv_out.conv_inverted", 8 * width, width, 1, 1)
    yield from _both(f"{at}.conv_out.conv_depth", 8 * width, 1, 3, 3)
    yield f"{at}.conv_out.conv_point.weight", (width, 4 * width, 1, 1)
    yield from _norm(f"{at}.conv_out.norm", width)


def _vision_tower() -> Iterator[Entry]:
    at, width, code = "model.vision_tower.vision_tower", 1152, 1536
    yield from _siglip(f"{at}.encoder", layers=27, inside=4304, positions=729, patch=(3, 14, 14))
    yield from _siglip(f"{at}.decoder.vision_model", layers=3, inside=3072, positions=256, patch=(code,))
    for name in ("encode_task_layer.0", "decode_task_layer.0", "decode_task_layer.2"):
        yield from _both(f"{at}.{name}", width, width)
    yield from _both(f"{at}.bottleneck.in_linear", code, width)
    yield from _both(f"{at}.bottleneck.out_linear", code, code)
    yield from _both(f"{at}.bottleneck.regularizer.embedding_proj", code, code)
    yield f"{at}.bottleneck.regularizer.embedding.weight", (65_536, code)
    yield f"{at}.scale_layer.shift", (1, 3, 1, 1)
    yield f"{at}.scale_layer.scale", (1, 3, 1, 1)


def _siglip(at: str, *, layers: int, inside: int, positions: int, patch: tuple[int, ...]) -> Iterator[Entry]:
    width = 1152
    yield from _both(f"{at}.embeddings.patch_embedding", width, *patch)
    yield f"{at}.embeddings.position_embedding.weight", (positions, width)
    for layer in range(layers):
        inner = f"{at}.encoder.layers.{layer}"
        yield from _norm(f"{inner}.layer_norm1", width)
        yield from _norm(f"{inner}.layer_norm2", width)
        yield from _mlp(f"{inner}.mlp", width, inside)
        for name in ("q", "k", "v", "out"):
            yield from _both(f"{inner}.self_attn.{name}_proj", width, width)
    yield from _norm(f"{at}.post_layernorm", width)
    yield f"{at}.head.probe", (1, 1, width)
    yield f"{at}.head.attention.in_proj_weight", (3 * width, width)
    yield f"{at}.head.attention.in_proj_bias", (3 * width,)
    yield from _both(f"{at}.head.attention.out_proj", width, width)
    yield from _norm(f"{at}.head.layernorm", width)
    yield from _mlp(f"{at}.head.mlp", width, inside)


def _mlp(at: str, width: int, inside: int) -> Iterator[Entry]:
    yield from _both(f"{at}.fc1", inside, width)
    yield from _both(f"{at}.fc2", width, inside)
