"""What can be wrong with a checkpoint, a policy or a place to write: one sentence each, and nothing is left behind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from policy.convert.back import to_checkpoint
from policy.convert.to_policy import to_policy
from policy.folder import read_policy_config
from rl.types import UserError
from tests.policy.convert.twin import make_twin


@dataclass
class Disk:
    free: int


FIRST = "model-00001-of-00003.safetensors"


def edit(file: str, **values: object) -> Callable[[Path], None]:
    """None takes a key out."""

    def apply(folder: Path) -> None:
        content = {**json.loads((folder / file).read_text()), **values}
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return apply


def replace(key: str, make: Callable[[torch.Tensor], Mapping[str, torch.Tensor]]) -> Callable[[Path], None]:
    """Puts what ``make`` returns in the place of a tensor."""

    def apply(folder: Path) -> None:
        for file in folder.glob("*.safetensors"):
            tensors = load_file(file)
            if key in tensors:
                tensors |= make(tensors.pop(key))
                save_file(tensors, file)
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        index["weight_map"] = {name: file.name for file in folder.glob("*.safetensors") for name in load_file(file)}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return apply


def cut(folder: Path) -> None:
    content = (folder / FIRST).read_bytes()
    (folder / FIRST).write_bytes(content[:-10])


def rubbish(folder: Path) -> None:
    (folder / FIRST).write_bytes(b"<html>not found</html>")


def pickled(folder: Path) -> None:
    for file in folder.glob("model*"):
        file.unlink()
    (folder / "pytorch_model.bin").touch()


def no_head(folder: Path) -> None:
    replace("lm_head.weight", lambda _: {})(folder)
    edit("config.json", tie_word_embeddings=False)(folder)


def other_ids(folder: Path) -> None:
    file = folder / "tokenizer.json"
    file.write_text(file.read_text().replace("<im_end>", "<im_stop>"))


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "no config": (
        lambda folder: (folder / "config.json").unlink(),
        "{twin} is no BLIP3o-NEXT checkpoint: it has no config.json; give the folder that has it.",
    ),
    "another model": (
        edit("config.json", image_start_tag_id=None),
        "{twin} is no BLIP3o-NEXT checkpoint: its config.json has no image_start_tag_id; give the folder of one.",
    ),
    "language model alone": (
        lambda folder: [replace(key, lambda _: {})(folder) for key in connector()],
        "{twin} is no BLIP3o-NEXT checkpoint: it holds no model.diffusion_connector.*; give one that does.",
    ),
    "a policy": (
        lambda folder: (folder / "policy.json").touch(),
        "{twin} is a policy folder already; give it as policy.path.",
    ),
    "pickles": (
        pickled,
        "{twin} holds no model.safetensors, and pytorch_model.bin is a pickle, which is not read; save it as "
        "safetensors.",
    ),
    "missing file": (
        lambda folder: (folder / FIRST).unlink(),
        f"{{twin}} lacks 1 of the 3 files that model.safetensors.index.json names, {FIRST} first; download the folder "
        f"again.",
    ),
    "cut file": (
        cut,
        f"{{twin}}/{FIRST} has {{size:,}} bytes and should have {{whole:,}}; download it again.",
    ),
    "no such file": (rubbish, f"{{twin}}/{FIRST} is no whole .safetensors file; download it again."),
    "stale index": (
        lambda folder: shutil.copyfile(folder / FIRST, folder / FIRST.replace("1-of", "2-of")),
        "{twin}: lm_head.weight lies in " + FIRST + " and in model-00002-of-00003.safetensors; remove one of them.",
    ),
    "missing tensor": (
        replace("model.sana.proj_out.bias", lambda _: {}),
        "{twin}: model.sana.proj_out.bias is missing, which {twin}/transformer/config.json asks for; use files of one "
        "model.",
    ),
    "wrong shape": (
        replace(
            "model.sana_vae.decoder.conv_in.bias", lambda old: {"model.sana_vae.decoder.conv_in.bias": old[:7].clone()}
        ),
        "{twin}: model.sana_vae.decoder.conv_in.bias has shape [7], and {twin}/vae/config.json makes it [8]; use "
        "files of one model.",
    ),
    "unknown tensor": (
        replace("model.norm.weight", lambda old: {"model.norm.weight": old, "model.extra.weight": old.clone()}),
        "{twin}: model.extra.weight belongs to no part of BLIP3o-NEXT; give a checkpoint as the published code writes "
        "it.",
    ),
    "unknown tensor of a part": (
        replace("model.norm.weight", lambda old: {"model.norm.weight": old, "model.sana.extra": old.clone()}),
        "{twin}: model.sana.extra is not known to {twin}/transformer/config.json; use files of one model.",
    ),
    "other sizes and no word about them": (
        lambda folder: shutil.rmtree(folder / "image_tokenizer"),
        "{twin}: model.vision_tower.vision_tower.encoder.encoder.layers.10.layer_norm1.bias is missing, which the "
        "published model's image_tokenizer asks for (and 383 more); give the configurations of this model's parts: "
        "--parts FOLDER, with image_tokenizer/config.json in it.",
    ),
    "half a configuration": (
        edit("transformer/config.json", caption_channels=None),
        "{twin}/transformer/config.json lacks caption_channels; copy the whole configuration of the part.",
    ),
    "no model": (
        edit("vae/config.json", encoder_block_types="Cube"),
        "{twin}/vae/config.json: no model can be built from it (Block with block_type='Cube' is not supported.); "
        "correct it.",
    ),
    "vocabulary": (
        edit("config.json", vocab_size=400),
        "{twin}: lm_head.weight has shape [328, 32], and config.json makes it [400, 32] (and 1 more); use files of one "
        "model.",
    ),
    "ids beyond the vocabulary": (
        edit("config.json", image_end_token_id=328),
        "{twin}/config.json: image tokens end at id 329, beyond vocab_size 328; restore the file.",
    ),
    "no positions": (
        edit("config.json", rope_theta=None),
        "{twin}/config.json lacks rope_theta (the base of its positions); restore the file.",
    ),
    "no ids": (
        edit("config.json", image_end_tag_id=None, vocab_size="many"),
        "{twin}/config.json lacks vocab_size (embedding rows), image_end_tag_id (<im_end>); restore the file.",
    ),
    "no head": (
        no_head,
        "{twin}: lm_head.weight is missing, which config.json asks for; use files of one model.",
    ),
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        "{twin} lacks tokenizer.json; copy it from where the checkpoint comes from.",
    ),
    "another tokenizer": (
        other_ids,
        "{twin}/tokenizer.json: <im_end> has the id None, and by config.json it is 260; use files of one model.",
    ),
}


def connector() -> list[str]:
    return [f"model.diffusion_connector.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias", "3.weight")]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_checkpoint_is_one_sentence(case: str, twin: Path, tmp_path: Path) -> None:
    spoil, sentence = BROKEN[case]
    whole = (twin / FIRST).stat().st_size
    spoil(twin)
    with pytest.raises(UserError) as caught:
        to_policy(twin, tmp_path / "policy", tell=lambda _: None)
    assert str(caught.value) == sentence.format(twin=twin, whole=whole, size=whole - 10)
    assert [path.name for path in tmp_path.iterdir()] == ["twin"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_there_is_never_written_over(kind: str, twin: Path, policy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    kept = out if kind == "file" else out / "mine.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("mine")
    for write in (lambda: to_policy(twin, out, tell=print), lambda: to_checkpoint(policy, twin, out, tell=print)):
        with pytest.raises(UserError, match=f"{out} exists and is not empty; name a new folder."):
            write()
    assert kept.read_text() == "mine"


def test_an_empty_folder_may_be_there(twin: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    to_policy(twin, tmp_path / "out", tell=lambda _: None)
    read_policy_config(tmp_path / "out")


def test_a_disk_that_fills_up_leaves_nothing_half(twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("policy.convert.to_policy.write_tensor_file", full)
    with pytest.raises(UserError) as caught:
        to_policy(twin, tmp_path / "out", tell=lambda _: None)
    assert str(caught.value) == f"{tmp_path}/out: the disk is full; free some space, and convert again."
    assert [path.name for path in tmp_path.iterdir()] == ["twin"]


def test_a_disk_too_small_for_the_way_back_is_seen_before_anything_is_written(
    twin: Path, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Disk(free=1000))
    with pytest.raises(UserError) as caught:
        to_checkpoint(policy, twin, tmp_path / "back", tell=lambda _: None)
    size = sum(file.stat().st_size for file in twin.iterdir() if file.is_file())
    told = re.fullmatch(
        rf"{tmp_path}/back would take (0\.\d\d) GB and the disk of {tmp_path} has 0.00 GB free; free some space, or "
        "name a folder on another disk.",
        str(caught.value),
    )
    assert told and abs(float(told[1]) - size / 1e9) < 0.01
    assert sorted(path.name for path in tmp_path.iterdir()) == ["policy", "twin"]


def test_a_checkpoint_in_the_place_of_a_policy_is_told_what_to_do(twin: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_policy_config(twin)
    assert str(caught.value) == (
        f"{twin} is a BLIP3o-NEXT checkpoint, no policy folder yet; convert it: python -m policy.convert blip3o-next "
        f"{twin} OUT"
    )


def remade(tmp_path: Path, **changes: Any) -> Path:
    return make_twin(tmp_path / "other", **changes)


def test_a_policy_of_other_sizes_does_not_go_back(policy: Path, tmp_path: Path) -> None:
    other = remade(tmp_path, stray=True)
    with pytest.raises(UserError) as caught:
        to_checkpoint(policy, other, tmp_path / "back", tell=lambda _: None)
    assert str(caught.value) == (
        f"{policy} and {other} are models of different sizes: lm_head.weight has shape [328, 32] in the one and "
        f"[329, 32] in the other; name the checkpoint that the policy comes from by --like."
    )


def test_a_policy_of_another_checkpoint_does_not_go_back(policy: Path, tmp_path: Path) -> None:
    other = remade(tmp_path, seed=1)
    with pytest.raises(UserError) as caught:
        to_checkpoint(policy, other, tmp_path / "back", tell=lambda _: None)
    told = str(caught.value)
    assert told.startswith(f"{policy}/vae is not that of {other} (model.sana_vae.") and told.endswith(
        " differs); name the checkpoint that the policy comes from by --like."
    )


def test_a_head_of_its_own_does_not_go_into_a_source_without(tmp_path: Path) -> None:
    untied, other = make_twin(tmp_path / "untied", tied=False), remade(tmp_path, head=False)
    to_policy(untied, tmp_path / "policy", tell=lambda _: None)
    with pytest.raises(UserError) as caught:
        to_checkpoint(tmp_path / "policy", other, tmp_path / "back", tell=lambda _: None)
    assert str(caught.value) == (
        f"{tmp_path}/policy/ar has a lm_head.weight of its own and {other} has none; name the right checkpoint by "
        f"--like."
    )


def test_a_policy_without_a_head_does_not_go_into_a_source_with_its_own(policy: Path, tmp_path: Path) -> None:
    other = remade(tmp_path, tied=False)
    with pytest.raises(UserError, match=r"different sizes: lm_head.weight has shape none in the one and \[328, 32\]"):
        to_checkpoint(policy, other, tmp_path / "back", tell=lambda _: None)


def test_what_it_goes_back_to_is_a_checkpoint(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=f"{policy}/ar is no BLIP3o-NEXT checkpoint: its config.json has no image_start"
    ):
        to_checkpoint(policy, policy / "ar", tmp_path / "back", tell=lambda _: None)


def test_what_goes_back_is_a_policy(twin: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        to_checkpoint(tmp_path, twin, tmp_path / "back", tell=lambda _: None)
    assert (
        str(caught.value) == f"{tmp_path} is no policy folder: it has no policy.json; give one (of a run: RUN/policy)."
    )
