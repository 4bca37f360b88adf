"""The tokenizer of a checkpoint: its files travel as they stand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from policy.layout import TokenLayout
from policy.parts import PARTS
from rl.types import UserError

TOKENIZER_FILES = (
    *PARTS["tokenizer"],
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja"),
)


_MARKS = ("<|vision_start|>", "<|vision_end|>")


def check_tokenizer(folder: Path, layout: TokenLayout, scale: int, *, edits: bool = False) -> None:
    """``edits``: it has the marks of a picture in a prompt, too. Raises: UserError if a file is missing, or the
    picture's tokens have other ids than in ``config.json``."""
    missing = [name for name in PARTS["tokenizer"] if not (folder / name).is_file()]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}; copy it from where the checkpoint comes from.")
    file = folder / "tokenizer.json"
    try:
        ids = {token["content"]: token["id"] for token in json.loads(file.read_text(encoding="utf-8"))["added_tokens"]}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file} holds no added_tokens; restore the file.") from None
    if edits and (lost := [mark for mark in _MARKS if mark not in ids]):
        raise UserError(f"{file}: {lost[0]} is no token, and prompts of edits hold it; use files of one model.")
    last = layout.num_image_tokens - 1
    wanted = {
        "<im_start>": layout.im_start_id,
        "<im_end>": layout.im_end_id,
        f"<S{scale - 1}>": layout.scale_id,
        "<I0>": layout.image_start_id,
        f"<I{last}>": layout.image_start_id + last,
    }
    for token, meant in wanted.items():
        if ids.get(token) != meant:
            raise UserError(
                f"{file}: {token} has the id {ids.get(token)}, and by config.json it is {meant}; use files of one "
                f"model."
            )


def copy_tokenizer(folder: Path, out: Path) -> None:
    out.mkdir()
    for name in TOKENIZER_FILES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
