"""Trained weights -> a complete policy folder; adapters -> a folder of peft."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from policy.checksums import CHECKSUMS_FILE, write_checksums
from policy.json_file import write_json
from policy.parts import REFERENCE_PART, weights_of
from policy.tokenizers.names import renamed
from policy.trainable import Adapter, WeightStream
from rl.process.disk import WRITE_ERRORS, true_cause, words
from rl.types import UserError

DECODER_FOLDERS = ("connector", "transformer", REFERENCE_PART)
"""Of a policy: what a trained decoder may change; the last only where it attends to references."""
TOKENIZER_FOLDER = "image_tokenizer"
_OF_THE_BASE = shutil.ignore_patterns(
    "README*", "readme*", CHECKSUMS_FILE, "*.sha256", ".*", "*.png", "model_index.json"
)
_WEIGHTS = shutil.ignore_patterns("*.safetensors", "*.safetensors.index.json")


def export(policy_folder: Path, trained: Mapping[str, WeightStream], out: Path) -> Path:
    """Writes a complete policy folder: ``policy_folder`` with the weights of the ``trained`` parts replaced: ``ar``,
    ``vae``, ``understanding`` (the image tokenizer), and ``decoder``, which is both connector and transformer.

    The tensors have the names and dtypes of the original files (so a tied lm_head is not stored twice). What speaks of
    the original alone (its card, its checksums) stays behind. ``out`` appears by one rename and may replace an earlier
    export.
    Raises: UserError if a tensor is missing or has another shape.
    """
    weights = {
        folder: (_of_tokenizer if folder == TOKENIZER_FOLDER else _of_folder)(policy_folder / folder, found)
        for folder, found in _by_folder(trained, policy_folder).items()
    }
    left = {str(policy_folder): _OF_THE_BASE} | {str(policy_folder / folder): _WEIGHTS for folder in weights}
    with _replacing(out, "policy") as unfinished:
        shutil.copytree(policy_folder, unfinished, ignore=lambda d, names: left[d](d, names) if d in left else [])
        for folder, tensors in weights.items():
            pattern = weights_of(folder).replace(".safetensors", "{suffix}.safetensors")
            save_torch_state_dict(tensors, unfinished / folder, filename_pattern=pattern, metadata={"format": "pt"})
        write_checksums(unfinished)
    return out


def _by_folder(trained: Mapping[str, WeightStream], policy_folder: Path) -> dict[str, Iterator[tuple[str, Tensor]]]:
    """Folder of a policy -> its weights under the names of its files."""
    found = {name: trained[name].tensors() for name in ("ar", "vae") if name in trained}
    if "understanding" in trained:
        found[TOKENIZER_FOLDER] = trained["understanding"].tensors()
    for folder in DECODER_FOLDERS if "decoder" in trained else ():
        if folder != REFERENCE_PART or (policy_folder / folder).is_dir():
            found[folder] = _under(f"{folder}.", trained["decoder"])
    return found


def _under(prefix: str, weights: WeightStream) -> Iterator[tuple[str, Tensor]]:
    return ((name.removeprefix(prefix), value) for name, value in weights.tensors() if name.startswith(prefix))


def _of_folder(part: Path, found: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """In the shapes and dtypes of the original. Raises: UserError naming the first tensor that is none of it."""
    expected = _tensor_specs(part)
    trained: dict[str, Tensor] = {}
    for name, value in found:
        if name in expected:
            shape, dtype = expected.pop(name)
            if tuple(value.shape) != shape:
                raise UserError(f"{part}: {name} has shape {shape}, the trained one {tuple(value.shape)}.")
            trained[name] = value.detach().to(device="cpu", dtype=dtype, copy=True).contiguous()
    if expected:
        raise UserError(f"{part}: the trained weights lack {sorted(expected)[0]}; export the same model.")
    return trained


def export_adapter(base: str, adapter: Adapter, out: Path, part: str = "ar") -> Path:
    """Writes what ``peft.PeftModel.from_pretrained`` puts on the ``part`` of ``base``. ``out`` appears by one
    rename and may replace an earlier export.

    ``base``: the policy as the run's configuration names it. That name is what others can have as well: a name on the
    hub, a path relative to where they start; the folder that it has become here means nothing elsewhere.
    """
    weights = {name: value.to("cpu", copy=True).contiguous() for name, value in adapter.weights.tensors()}
    with _replacing(out, "adapter") as unfinished:
        unfinished.mkdir(parents=True)
        named = {"base_model_name_or_path": f"{base}/{part}" if Path(base).is_dir() else base}
        write_json(unfinished / "adapter_config.json", {**adapter.config, **named})
        save_file(weights, unfinished / "adapter_model.safetensors", metadata={"format": "pt"})
    return out


@contextmanager
def _replacing(out: Path, what: str) -> Iterator[Path]:
    """A place to write to that becomes ``out`` when all is there. Raises: UserError if it cannot be written."""
    unfinished = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
    except WRITE_ERRORS as error:
        cause = true_cause(error, unfinished)
        if cause is None:
            raise
        shutil.rmtree(unfinished, ignore_errors=True)
        raise UserError(f"{out}: cannot write the {what}: {'; '.join(words(cause))}, and resume the run.") from error


def _of_tokenizer(part: Path, found: Iterator[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """What has learnt, and the rest to the last bit, or its codes would be others. A TA-Tok's file has other names, and
    no adapter for reading."""
    whole: dict[str, Tensor] = {}
    for name, value in _stored(part):
        if own := renamed(name) if name.startswith("vision_tower.") else name:
            whole[own] = value
    for name, value in found:
        dtype = whole[name].dtype if name in whole else value.dtype
        whole[name] = value.detach().to(device="cpu", dtype=dtype, copy=True).contiguous()
    return whole


def _tensor_specs(part: Path) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(value.shape), value.dtype) for name, value in _stored(part)}


def _stored(part: Path) -> Iterator[tuple[str, Tensor]]:
    for path in sorted(part.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                yield name, file.get_tensor(name)
