"""Benchmarks of picture editing: instructions with the pictures that are to be changed.

``use: gedit_bench``: GEdit-Bench (arXiv 2504.17761), from the hub or a folder with its tables: ``key``, ``task_type``,
``instruction``, ``instruction_language`` (en or cn), ``input_image_raw``. Judged there by a vision-language model that
sees both pictures, as ``vlm_judge`` with ``source: true`` does; the benchmark's own numbers come from its own judge.

``use: imgedit_bench``: the basic part of ImgEdit-Bench (arXiv 2505.20275), ``basic_edit.json`` with the folder of its
pictures: ``{"1082": {"id": "animal/000342021.jpg", "prompt": "...", "edit_type": "extract"}, ...}``.

``tag`` is the kind of edit. Licences: those of the benchmarks' authors; nothing of them is part of this project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from rl.data.hugging_face import hf
from rl.data.lines import read_text
from rl.data.pictures import Picture
from rl.data.prompt_list import PromptList, gathered
from rl.data.prompts import checked_picture
from rl.data.row import to_prompt
from rl.registry import did_you_mean
from rl.types import Prompt, UserError


def gedit_bench(
    *,
    name: str = "stepfun-ai/GEdit-Bench",
    split: str = "train",
    language: Literal["en", "cn"] = "en",
    revision: str | None = None,
    limit: int | None = None,
) -> PromptList:
    """606 instructions in each of two languages. Raises UserError if it can't be loaded or has other columns."""
    return hf(
        name=name,
        split=split,
        revision=revision,
        column="instruction",
        columns={"id": "key", "tag": "task_type", "image": "input_image_raw"},
        only={"instruction_language": language},
        limit=limit,
        quoted=None,
    )


def imgedit_bench(*, path: str, folder: str) -> PromptList:
    """``path``: of ``basic_edit.json``; ``folder``: where its pictures lie.

    Raises UserError if the file is none of that form, naming the entry, or a picture can't be read.
    """
    try:
        entries = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no JSON ({error}); give the benchmark's basic_edit.json") from error
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"{path} holds no object of numbered edits; give the benchmark's basic_edit.json")
    return gathered(_prompts(entries, path, Path(folder)), path)


def _prompts(entries: Mapping[str, Any], path: str, folder: Path) -> Iterator[Prompt]:
    for key, entry in entries.items():
        where = f"{path}: {key!r}"
        lacks = [name for name in ("id", "prompt", "edit_type") if not isinstance(entry, dict) or name not in entry]
        if lacks:
            raise UserError(f'{where} lacks "{lacks[0]}"; an entry has "id" (its picture), "prompt" and "edit_type"')
        file = folder / str(entry["id"])
        if not file.is_file():
            near = did_you_mean(file.name, [one.name for one in file.parent.glob("*")])
            raise UserError(
                f"{where}: there is no picture {str(file)!r}{near or '; options.folder holds the pictures'}"
            )
        rest = {name: value for name, value in entry.items() if name not in ("id", "edit_type")}
        row = {**rest, "id": key, "tag": entry["edit_type"]}
        yield to_prompt(row, where, {"image": [checked_picture(Picture(file), where)]})
