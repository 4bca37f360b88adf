"""A TA-Tok (SigLIP2's tower and SimVQ, arXiv 2506.18898) as a hybrid tokenizer: its codes, and features to be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from policy.checksums import CHECKSUMS_FILE, write_checksums
from policy.convert.blip3o_next import EDIT_TEMPLATE
from policy.convert.out_folder import new_folder
from policy.convert.tensor_file import read_tensor_file
from policy.folder import FEATURES, HYBRID, read_policy_config, resolve_folder
from policy.json_file import JsonObject, read_json, write_json
from policy.layout import TokenLayout
from policy.parts import CONFIG_FILE
from policy.pictures.inline import PLACEHOLDER
from policy.tokenizers.hybrid_config import HybridConfig
from policy.tokenizers.ta_tok_config import TaTokConfig
from policy.tokenizers.ta_tok_weights import check_weights
from policy.words import END
from rl.types import UserError

ANSWER_TEMPLATE: Final = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
    "<|vision_start|>{picture}<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
)
"""Qwen3's chat template, the picture in front of the question as in LLaVA's and Tar's data."""
_MARKS = ("<|vision_start|>", PLACEHOLDER, "<|vision_end|>", END)
_TA_TOK = "ta_tok"
_CODE = "vision_tower.bottleneck.in_linear.weight"


def write_reading(policy: str, out: Path) -> None:
    """Writes ``out``; all weights keep their bytes.

    Raises: UserError if its image tokenizer is no TA-Tok, its tokenizer lacks a mark, or it answers questions already.
    """
    folder = resolve_folder(policy)
    layout, _ = read_policy_config(folder)
    whole = read_json(folder / CONFIG_FILE)
    if "answer" in whole.get("task_templates", {}):
        raise UserError(f"{policy}: this policy answers questions already; train it as it is.")
    part = folder / "image_tokenizer"
    hybrid = _hybrid(part, layout, reads=int(read_json(folder / "ar" / "config.json")["hidden_size"]))
    settings = HybridConfig.from_json(hybrid, part / "config.json", layout)
    _check_marks(folder)
    templates = {"edit": EDIT_TEMPLATE, **whole.get("task_templates", {}), "answer": ANSWER_TEMPLATE}
    new = {"prompt_encoder": "inline", "task_templates": templates, "reads": {"answer": FEATURES}}
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    with new_folder(out, size) as unfinished:
        shutil.copytree(folder, unfinished, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CHECKSUMS_FILE))
        write_json(unfinished / "image_tokenizer" / "config.json", settings.to_json())
        write_json(unfinished / CONFIG_FILE, {**whole, **new})
        write_checksums(unfinished)


def _hybrid(part: Path, layout: TokenLayout, reads: int) -> JsonObject:
    where, file = part / "config.json", part / "model.safetensors"
    config = read_json(where)
    if config.get("kind") != _TA_TOK:
        raise UserError(
            f"{where}: kind is {config.get('kind')}, and it is the tower of a {_TA_TOK} that is read; give a policy "
            f"that has one, such as a converted BLIP3o-NEXT checkpoint"
        )
    settings = TaTokConfig.from_json(config, where, layout)
    check_weights(file, settings)
    if settings.scale != 1:
        raise UserError(
            f"{where}: scale is {settings.scale}, so codes are of averaged features, and a {HYBRID} tokenizer puts "
            f"neighbours side by side; give a policy of scale 1"
        )
    width, hidden = read_tensor_file(file).tensors[_CODE].shape
    kept = {"codes": settings.codes, "vision": settings.vision, "batch": settings.batch}
    return {"kind": HYBRID, **kept, "quantiser": "simvq", "hidden": hidden, "width": width, "reads": reads}


def _check_marks(folder: Path) -> None:
    file = folder / "tokenizer" / "tokenizer.json"
    found = {str(token.get("content")) for token in read_json(file).get("added_tokens", [])}
    if lost := [mark for mark in _MARKS if mark not in found]:
        raise UserError(f"{file}: {lost[0]} is no token, and prompts of questions hold it; use a tokenizer of Qwen3.")
