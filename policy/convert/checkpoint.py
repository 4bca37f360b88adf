"""The tensors of a folder, in one file or in several with an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from policy.convert.tensor_file import StoredTensor, read_tensor_file
from policy.json_file import read_json
from rl.types import UserError

INDEX = ".index.json"


def weight_files(folder: Path, name: str = "model.safetensors") -> list[Path]:
    """The files that hold the tensors, in order. Raises: UserError if there are none, or one of them is missing."""
    index = folder / f"{name}{INDEX}"
    if not index.is_file():
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}{_pickles(folder)}.")
        return [folder / name]
    names = sorted(set(_weight_map(index).values()))
    missing = [one for one in names if not (folder / one).is_file()]
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(names)} files that {index.name} names, {missing[0]} first; "
            f"download the folder again."
        )
    return [folder / one for one in names]


def read_tensors(folder: Path, name: str = "model.safetensors") -> dict[str, StoredTensor]:
    """All tensors by name. Raises: UserError as ``weight_files``, and if files and index disagree."""
    found: dict[str, StoredTensor] = {}
    for file in weight_files(folder, name):
        for key, tensor in read_tensor_file(file).tensors.items():
            if key in found:
                raise UserError(
                    f"{folder}: {key} lies in {found[key].file.name} and in {file.name}; remove one of them."
                )
            found[key] = tensor
    index = folder / f"{name}{INDEX}"
    if index.is_file():
        wrong = [key for key, file in _weight_map(index).items() if key not in found or found[key].file.name != file]
        if wrong:
            raise UserError(f"{index}: {wrong[0]} does not lie where it says; download the folder again.")
    return found


def _weight_map(index: Path) -> Mapping[str, str]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(isinstance(file, str) for file in listed.values()):
        raise UserError(f"{index}: weight_map is no table of tensors and files; restore the file.")
    return listed


def _pickles(folder: Path) -> str:
    found = sorted(path.name for path in folder.glob("*.bin"))
    return f", and {found[0]} is a pickle, which is not read; save it as safetensors" if found else ""
