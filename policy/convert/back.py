"""A policy folder -> a checkpoint that BLIP3o-NEXT's own code loads, in the shape of the one that it came from.

Its configuration and tokenizer are copied, never written anew: a ``config.json`` of transformers 5 makes the older
transformers of that code read another rope_theta without a word. Each weight file begins with the very header of the
source's file, so names, types, shapes, order and split are those of the source.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from policy.convert.blip3o_next import recognised
from policy.convert.checkpoint import INDEX, read_tensors, weight_files
from policy.convert.keys import EMBEDDINGS, HEAD, PREFIXES, part_of
from policy.convert.out_folder import new_folder
from policy.convert.part_configs import CONFIGURED
from policy.convert.same import blocks_as, equal
from policy.convert.tensor_file import StoredTensor, TensorFile, read_tensor_file
from policy.convert.tokenizer_files import TOKENIZER_FILES
from policy.parts import CONFIG_FILE, REFERENCE_PART, weights_of
from rl.types import UserError

_TRAINED = ("ar", "connector", "transformer", REFERENCE_PART)
"""Parts that training may change; all others, and what is in no part, are the source's."""
_FROZEN = ("vae",)
"""Looked at all the same: where they differ, the policy comes from another checkpoint."""
_COPIED = ("config.json", "generation_config.json", *TOKENIZER_FILES, *(f"{part}/config.json" for part in CONFIGURED))

Tensors = Mapping[str, StoredTensor]


def to_checkpoint(policy: Path, source: Path, out: Path, *, tell: Callable[[str], None]) -> None:
    """Writes ``out`` with the keys and files of ``source`` and what was trained of ``policy``.

    What training left alone keeps its very bytes. Raises: UserError if the two are not the same model, something is
    missing, ``out`` holds something, or the disk is too small.
    """
    config = recognised(source)
    files = [read_tensor_file(file) for file in weight_files(source)]
    original = read_tensors(source)
    trained = _trained(policy, source, original, tied=bool(config["tie_word_embeddings"]))
    changed = {key for key, tensor in trained.items() if not equal(tensor, original[key])}
    size = sum(tensor.size for tensor in original.values())
    with new_folder(out, size + sum(path.stat().st_size for path in _small_files(source))) as unfinished:
        for file in files:
            _write(file, {key: trained[key] for key in changed}, unfinished)
        for path in _small_files(source):
            target = unfinished / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
    counts = Counter(str(part_of(key)) for key in changed)
    total = Counter(str(part_of(key)) for key in trained)
    told = ", ".join(f"{part} {counts[part]} of {total[part]}" for part in _TRAINED if total[part])
    tell(f"trained tensors: {told}; all others are those of {source}")


def _trained(policy: Path, source: Path, original: Tensors, *, tied: bool) -> Tensors:
    """Key -> its tensor in ``policy``, of every part that may have been trained."""
    if not (policy / CONFIG_FILE).is_file():
        raise UserError(f"{policy} is no policy folder: it has no {CONFIG_FILE}; give one (of a run: RUN/policy).")
    found: dict[str, StoredTensor] = {}
    for part in (*_TRAINED, *_FROZEN):
        if part == REFERENCE_PART and not (policy / part).is_dir():
            continue
        tensors = read_tensors(policy / part, weights_of(part))
        found |= {PREFIXES[part] + name: tensor for name, tensor in tensors.items()}
    if HEAD in found and HEAD not in original:
        _require_tied(found[HEAD], found.get(EMBEDDINGS), policy, source)
        del found[HEAD]
    elif HEAD in original and EMBEDDINGS in found and tied:
        found[HEAD] = found[EMBEDDINGS]  # the same values once more
    _require_same_model(policy, source, found, original)
    for key, tensor in found.items():
        if part_of(key) in _FROZEN and not equal(tensor, original[key]):
            raise UserError(
                f"{policy}/{part_of(key)} is not that of {source} ({key} differs); name the checkpoint that the "
                f"policy comes from by --like."
            )
    return {key: tensor for key, tensor in found.items() if part_of(key) in _TRAINED}


def _require_tied(head: StoredTensor, embeddings: StoredTensor | None, policy: Path, source: Path) -> None:
    if embeddings is None or head.shape != embeddings.shape or not equal(head, embeddings):
        raise UserError(
            f"{policy}/ar has a {HEAD} of its own and {source} has none; name the right checkpoint by --like."
        )


def _require_same_model(policy: Path, source: Path, found: Tensors, original: Tensors) -> None:
    wanted = {key for key in original if part_of(key) in (*_TRAINED, *_FROZEN)}
    for key in sorted(wanted | found.keys()):
        one, other = found.get(key), original.get(key)
        shapes = [list(tensor.shape) if tensor else "none" for tensor in (one, other)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"{policy} and {source} are models of different sizes: {key} has shape {shapes[0]} in the one and "
                f"{shapes[1]} in the other; name the checkpoint that the policy comes from by --like."
            )


def _write(file: TensorFile, changed: Tensors, out: Path) -> None:
    """One file of the source, with the bytes of what has changed replaced."""
    with (out / file.path.name).open("wb") as target:
        target.write(file.header)
        for key, tensor in file.tensors.items():
            target.writelines(blocks_as(changed.get(key, tensor), tensor.dtype))


def _small_files(source: Path) -> Iterator[Path]:
    """What is copied as it stands."""
    for name in (*_COPIED, f"model.safetensors{INDEX}"):
        if (source / name).is_file():
            yield source / name
