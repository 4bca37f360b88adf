"""Pictures of prompts, decoded once before a run: a file whose second half is missing has a sound header."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rl.data.pictures import MOST_PIXELS, PictureError, read_file
from rl.data.prompt_list import name_of
from rl.types import Prompt, UserError

MOST_DECODED = 2000
"""So that a large set does not hold up the start; every header was read when the prompts were loaded."""


def require_sound_pictures(prompts: Sequence[Prompt], most: int = MOST_DECODED) -> str:
    """Raises UserError naming the first prompt whose picture can't be decoded; a sentence if some were left out."""
    owners: dict[Path | bytes, Prompt] = {}
    for prompt in prompts:
        for picture in prompt.pictures:
            if isinstance(picture.source, (Path, bytes)):
                owners.setdefault(picture.source, prompt)
    chosen = list(owners.items())[:most]
    with ThreadPoolExecutor() as threads:
        for (source, prompt), wrong in zip(chosen, threads.map(_problem, [one for one, _ in chosen]), strict=True):
            if wrong:
                name = repr(str(source)) if isinstance(source, Path) else ""
                raise UserError(f"{name_of(prompt)}: its picture {name} can't be read: {wrong}; replace it")
    if len(owners) <= most:
        return ""
    return f"{most:,} of {len(owners):,} pictures of prompts were decoded, of the others only the headers were read"


def _problem(source: Path | bytes) -> str:
    try:
        read_file(source, MOST_PIXELS)
    except PictureError as error:
        return str(error)
    return ""
