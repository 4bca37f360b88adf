"""What a run reads beside its configuration, so that a resumed run goes on with the same or says what has changed.

``inputs.json`` in the run folder holds fingerprints: of the prompts as they were read (whatever file or data set they
came from), of every file of the policy, of the source of the user's own components. Fingerprints hold no times and no
paths of the machine, so a run may be moved.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from policy.folder import resolve_folder
from rl.config.schema import Config, components
from rl.data.pictures import Picture
from rl.data.prompt_list import PromptList
from rl.registry import locate, source_file, top_package
from rl.run_folder.records import read_json, write_atomically
from rl.types import Prompt, UserError

INPUTS_FILE = "inputs.json"
_OURS = {"rl", "policy", "rewards", "rollout"}
_WHOLE = 32 << 20  # bytes; larger files are looked at in places
_PLACES, _BLOCK = 16, 1 << 20


class Inputs(TypedDict):
    """Key of the configuration -> fingerprint, or file -> fingerprint."""

    prompts: dict[str, str]
    policy: dict[str, str]
    code: dict[str, str]


def fingerprints(config: Config, prompts: Mapping[str, Sequence[Prompt]]) -> Inputs:
    """``prompts``: what was read for ``data.train`` and ``data.eval``."""
    folder = resolve_folder(config.policy.path)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _is_note(path))
    return {
        "prompts": {key: _prompts(found) for key, found in prompts.items()},
        "policy": {path.relative_to(folder).as_posix(): _file(path) for path in files},
        "code": dict(_code(config)),
    }


def _is_note(path: Path) -> bool:
    """A model card, or what a file manager leaves: no part of the model."""
    return path.suffix == ".md" or path.name.startswith(".")


def record_inputs(folder: Path, found: Inputs) -> None:
    write_atomically(folder / INPUTS_FILE, json.dumps(found, indent=1) + "\n")


def compare_inputs(folder: Path, found: Inputs) -> list[str]:
    """Sentences about code that has changed since the run began; what was not recorded then is recorded now.

    Raises: UserError if the prompts or the policy have changed.
    """
    path = folder / INPUTS_FILE
    if not path.exists():  # begun before inputs were recorded, or told to go on all the same
        record_inputs(folder, found)
        return []
    before: Inputs = read_json(path)
    same = f"put it back as it was, or start a new run in another run.folder (to go on all the same, remove {path})"
    for key, now in found["prompts"].items():
        if (was := before["prompts"].get(key)) != now:
            raise UserError(
                f"{key}: its prompts have changed since this run began (was {_count(was)}, now {_count(now)}): {same}."
            )
    if changed := _changed(before["policy"], found["policy"]):
        raise UserError(f"policy.path: {changed} changed since this run began: {same}.")
    lost = sorted(key for key, now in found["code"].items() if before["code"].get(key) != now)
    return [f"note: the code of {key} has changed since this run began; what it computes may, too" for key in lost]


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if not names:
        return ""
    more = f" and {len(names) - 1} more files have" if len(names) > 1 else " has"
    return names[0] + more


def _count(fingerprint: str | None) -> str:
    if fingerprint is None:
        return "none"
    count, _, digest = fingerprint.partition(":")
    return f"{count} with digest {digest[:8]}"


def _prompts(prompts: Sequence[Prompt]) -> str:
    if isinstance(prompts, PromptList) and prompts.digest:
        return prompts.digest
    digest = hashlib.sha256()
    for prompt in prompts:
        row = [prompt.id, prompt.text, dict(prompt.metadata), [_picture(one) for one in prompt.pictures]]
        digest.update(json.dumps(row, sort_keys=True, default=_plain).encode(errors="surrogatepass") + b"\n")
    return f"{len(prompts)}:{digest.hexdigest()}"


def _picture(picture: Picture) -> object:
    source = picture.source
    if isinstance(source, Path):  # its name and size: reading all the pictures of a large set takes too long
        return [source.name, source.stat().st_size]
    return _plain(source)


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return [value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).hexdigest()]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return type(value).__name__  # whatever a source of one's own puts there; its repr may hold an address


def _code(config: Config) -> Iterator[tuple[str, str]]:
    for path, kind, component in components(config):
        target = locate(kind, component.use)
        if top_package(target) in _OURS:
            continue
        if (file := source_file(target.partition(":")[0])) is not None:
            yield f"{'.'.join(path)} ({file.name})", _file(file)


def _file(path: Path) -> str:
    size, digest = path.stat().st_size, hashlib.sha256()
    with path.open("rb") as file:
        if size <= _WHOLE:
            digest.update(file.read())
        else:
            for place in range(_PLACES):
                file.seek((size - _BLOCK) * place // (_PLACES - 1))
                digest.update(file.read(_BLOCK))
    return f"{size}:{digest.hexdigest()}"
