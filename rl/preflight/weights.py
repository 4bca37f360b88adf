"""Whether the weight files of a policy are whole and of one model: by headers and file sizes, no number is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from policy.convert.tensor_file import StoredTensor, read_tensor_file
from policy.json_file import JsonObject, read_json
from policy.parts import PARTS
from rl.types import UserError

_FLOATS = ("F64", "F32", "BF16", "F16")
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def require_whole_weights(folder: Path) -> None:
    """Of a complete policy folder. The language model's tensors are compared with its ``config.json`` one by one; those
    of the other parts are compared when they are loaded.

    Raises: UserError naming the first file that is cut off, holds no floats, or belongs to another model.
    """
    for part, files in PARTS.items():
        for file in files:
            if file.endswith(".safetensors"):
                tensors = _read(folder / part, file)
                if part == "ar":
                    _compare(folder / part, tensors)


def _read(part: Path, file: str) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    for path in _files(part, file):
        tensors |= read_tensor_file(path).tensors
    for name, stored in tensors.items():
        if stored.dtype not in _FLOATS and part.name != "image_tokenizer":  # whose files hold more than is read
            raise UserError(
                f"{stored.file}: {name} is stored as {stored.dtype}; weights are one of {', '.join(_FLOATS)}: copy the "
                "file from the model once more."
            )
    return tensors


def _files(part: Path, file: str) -> Iterator[Path]:
    index = part / f"{file}.index.json"
    if (part / file).is_file():
        yield part / file
        return
    for name in sorted(set(read_json(index)["weight_map"].values())):
        if not (part / name).is_file():
            raise UserError(f"{index} names {name}, which is not in {part}; copy it from the model.")
        yield part / name


def _compare(ar: Path, tensors: dict[str, StoredTensor]) -> None:
    config = read_json(ar / "config.json")
    wanted = dict(_shapes(config))
    if config.get("tie_word_embeddings"):
        tensors = {_HEAD: tensors[_EMBEDDING], **tensors} if _EMBEDDING in tensors else tensors
    for name, shape in wanted.items():
        if name not in tensors:
            raise UserError(f"{ar}: {name} is missing in its .safetensors; copy the files from the model once more.")
        if tensors[name].shape != shape:
            raise UserError(
                f"{tensors[name].file}: {name} has shape {list(tensors[name].shape)}, but config.json beside it makes "
                f"it {list(shape)}; use both from the same model."
            )


def _shapes(config: JsonObject) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Of Qwen3."""
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    head = config.get("head_dim") or hidden // heads
    queries, keys = heads * head, config.get("num_key_value_heads", heads) * head
    of_a_layer = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "self_attn.q_norm": (head,),
        "self_attn.k_norm": (head,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    yield _EMBEDDING, (config["vocab_size"], hidden)
    yield "model.norm.weight", (hidden,)
    yield _HEAD, (config["vocab_size"], hidden)
    for layer in range(config["num_hidden_layers"]):
        for name, shape in of_a_layer.items():
            yield f"model.layers.{layer}.{name}.weight", shape
