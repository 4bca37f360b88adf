"""A BLIP3o-NEXT checkpoint -> a policy folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from policy.conditions import AR_HIDDEN
from policy.convert.blip3o_next import EDIT_TEMPLATE, TEMPLATE, Blip3oNext
from policy.convert.checks import check_shapes
from policy.convert.keys import EMBEDDINGS, HEAD
from policy.convert.out_folder import new_folder
from policy.convert.part_configs import scheduler_config
from policy.convert.same import equal
from policy.convert.tensor_file import StoredTensor, write_tensor_file
from policy.convert.tokenizer_files import check_tokenizer, copy_tokenizer
from policy.json_file import JsonObject, write_json
from policy.layout import TokenLayout
from policy.parts import CONFIG_FILE, REFERENCE_PART, weights_of

_PAPERS = ("README.md", "LICENSE", "LICENSE.md", "LICENSE.txt")
"""The checkpoint's card and licence, under which a policy that is trained from it stands."""
_SLACK = 32 << 20  # bytes of configurations and the tokenizer, its files included


def to_policy(folder: Path, out: Path, part_configs: Path | None = None, *, tell: Callable[[str], None]) -> None:
    """Writes ``out``, a complete policy folder; every tensor keeps its bytes.

    ``part_configs``: a folder with the configurations of parts of other sizes than the published ones (``folder``
    itself by default). Raises: UserError if it is no such checkpoint, something of it is missing or contradicts
    something else, ``out`` holds something, or the disk is too small.
    """
    source = Blip3oNext.read(folder, part_configs or folder)
    layout = source.layout()
    check_tokenizer(folder, layout, source.scale, edits=source.edits)
    check_shapes(source)
    parts = {**source.parts, "ar": _language_model(source)}
    with new_folder(out, sum(map(_size, parts.values())) + _SLACK) as unfinished:
        for part, tensors in parts.items():
            (unfinished / part).mkdir()
            tell(f"{part}: {len(tensors)} tensors, {_size(tensors) / 1e6:,.1f} MB")
            write_tensor_file(unfinished / part / weights_of(part), tensors)
        _write_configs(source, layout, unfinished)
        copy_tokenizer(folder, unfinished / "tokenizer")
        for name in _PAPERS:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, unfinished / name)
        for note in _notes(source):
            tell(f"note: {note}")


def _language_model(source: Blip3oNext) -> Mapping[str, StoredTensor]:
    """Its tensors; a head that is tied to the embeddings is none of its own."""
    return {name: tensor for name, tensor in source.parts["ar"].items() if not (source.tied and name == HEAD)}


def _notes(source: Blip3oNext) -> Iterator[str]:
    tensors = source.parts["ar"]
    if source.tied and HEAD in tensors and not equal(tensors[HEAD], tensors[EMBEDDINGS]):
        yield f"config.json ties {HEAD} to {EMBEDDINGS}, so its other values in the checkpoint count nothing"
    if source.unread:
        yield (
            f"{len(source.unread)} tensors of picture editing ({source.unread[0]}, ...) stay out of the policy: the "
            f"published code saves them and calls none; --back writes them as they are"
        )


def _write_configs(source: Blip3oNext, layout: TokenLayout, out: Path) -> None:
    hidden_size = source.config["hidden_size"]
    caption_channels = source.configs["transformer"].content["caption_channels"]
    connector = {"hidden_size": hidden_size, "caption_channels": caption_channels}
    configs: dict[str, JsonObject] = {part: config.content for part, config in source.configs.items()}
    if REFERENCE_PART in source.parts:
        latents = source.configs["vae"].content["latent_channels"]
        configs[REFERENCE_PART] = {"latent_channels": latents, "caption_channels": caption_channels}
    for part, content in {**configs, "ar": source.language_model_config, "connector": connector}.items():
        write_json(out / part / "config.json", content)
    (out / "scheduler").mkdir()
    write_json(out / "scheduler" / "scheduler_config.json", scheduler_config())
    policy: dict[str, object] = {"layout": asdict(layout), "prompt_template": TEMPLATE, "condition": AR_HIDDEN}
    if source.edits:
        policy |= {"prompt_encoder": "inline", "task_templates": {"edit": EDIT_TEMPLATE}}
    if source.reference:
        policy["reference"] = list(source.reference)
    write_json(out / CONFIG_FILE, policy)


def _size(tensors: Mapping[str, StoredTensor]) -> int:
    return sum(tensor.size for tensor in tensors.values())
