"""``policy.path: owner/name``: fetched once, converted once, found again without asking anybody."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from huggingface_hub import errors

from policy.convert.hub import near_folder, policy_of_hub
from policy.folder import read_policy_config, resolve_folder
from rl.card.front_matter import hub_name
from rl.types import UserError


@dataclass
class Hub:
    """In the place of ``snapshot_download``."""

    folder: Path
    size: int = 0
    error: Exception | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def __call__(self, name: str, *, revision: str | None, ignore_patterns: object, dry_run: bool = False) -> object:
        if self.error is not None:
            raise errors.DryRunError("no") if dry_run else self.error
        if dry_run:
            return [File(self.size, True), File(10**15, False)]
        self.asked.append((name, revision))
        return str(self.folder)


@dataclass
class File:
    file_size: int
    will_download: bool


@pytest.fixture
def hub(made_twin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    found = Hub(made_twin, size=1234)
    monkeypatch.setattr("huggingface_hub.snapshot_download", found)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.chdir(tmp_path)
    policy_of_hub.cache_clear()
    yield found
    policy_of_hub.cache_clear()


def test_it_is_fetched_and_converted_once_and_says_where(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "hf" / "easel-rl" / "somebody--blip3o@v1"
    for _ in range(2):
        assert resolve_folder("somebody/blip3o@v1") == out
        policy_of_hub.cache_clear()  # as another process
    assert hub.asked == [("somebody/blip3o", "v1")]
    read_policy_config(out)
    said = capsys.readouterr().err
    assert said.startswith(f"somebody/blip3o@v1: 0.00 GB from the Hugging Face hub, into {tmp_path}/hf/hub\n")
    assert said.count(f"somebody/blip3o@v1: converting into {out}\n") == 1


def test_a_policy_that_lies_on_the_hub_is_taken_as_it_is(hub: Hub, made_policy: Path) -> None:
    hub.folder = made_policy
    assert resolve_folder("somebody/trained") == made_policy


def test_what_was_not_finished_is_made_again(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "hf" / "easel-rl" / "somebody--blip3o"
    (out.parent / f".tmp-{out.name}").mkdir(parents=True)
    (out.parent / f".tmp-{out.name}" / "policy.json").touch()
    assert resolve_folder("somebody/blip3o") == out
    read_policy_config(out)
    assert not list(out.parent.glob(".tmp-*"))


def test_a_folder_that_is_no_name_keeps_its_message(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    for path in ("nowhere", "runs/gone", "./a/b", "/a/b", "a/b/c", "a/b@", "~/b"):
        with pytest.raises(UserError) as caught:
            resolve_folder(path)
        assert str(caught.value) == (
            f"policy.path: there is no policy folder at '{path}'; give a folder or one of ['shapes']."
        )
    assert hub.asked == []


def test_a_folder_of_nearly_that_name_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "geneval").mkdir(parents=True)
    (tmp_path / "policies" / "twin").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert near_folder(f"{tmp_path}/runs/geneva") == tmp_path / "runs" / "geneval"
    assert near_folder("runs/other") is near_folder("somebody/twin") is None
    with pytest.raises(UserError, match="at 'runs/geneva', did you mean 'runs/geneval'. give a folder or one of"):
        resolve_folder("runs/geneva")
    hub.error = offline()
    with pytest.raises(UserError) as caught:
        resolve_folder("polices/twin")
    assert str(caught.value).startswith(
        "policy.path: 'polices/twin' is no folder here (did you mean 'policies/twin'?), and the Hugging Face hub can't"
    )


def not_found() -> Exception:
    request = httpx.Request("GET", "https://hub/x")
    return errors.RepositoryNotFoundError("no", response=httpx.Response(404, request=request))


def offline() -> Exception:
    error = errors.LocalEntryNotFoundError("not cached")
    error.__cause__ = errors.OfflineModeIsEnabled("offline")
    return error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            offline,
            "policy.path: 'o/n@v1' is no folder here, and the Hugging Face hub can't be asked for it now "
            "(HF_HUB_OFFLINE is set); with a network type `hf download o/n --revision v1`, or give a folder.",
        ),
        (
            lambda: errors.LocalEntryNotFoundError("no connection"),
            "policy.path: 'o/n@v1' is no folder here, and the Hugging Face hub can't be asked for it now (the hub is "
            "not reached); with a network type `hf download o/n --revision v1`, or give a folder.",
        ),
        (
            not_found,
            "policy.path: 'o/n@v1' is no folder here, and the hub has no such repository, or shows it to others only; "
            "correct the name or log in by `hf auth login`, or give a folder.",
        ),
    ],
)
def test_a_hub_that_says_no_is_one_sentence(error: Callable[[], Exception], sentence: str, hub: Hub) -> None:
    hub.error = error()
    with pytest.raises(UserError) as caught:
        resolve_folder("o/n@v1")
    assert str(caught.value) == sentence


def test_a_download_larger_than_the_disk_is_not_begun(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.size = 9_600_000_000
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError) as caught:
        resolve_folder("somebody/blip3o")
    assert str(caught.value) == (
        f"{tmp_path}/hf/hub would take 9.60 GB and the disk of {tmp_path} has 5.00 GB free; free some space, or name a "
        f"folder on another disk."
    )
    assert hub.asked == []


def test_another_model_on_the_hub_is_told(hub: Hub, tmp_path: Path) -> None:
    hub.folder = tmp_path / "another"
    hub.folder.mkdir()
    (hub.folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(
        UserError, match="another is no BLIP3o-NEXT checkpoint: its config.json has no image_start_tag_id"
    ):
        resolve_folder("somebody/llama")


def test_a_card_names_the_base_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_name(Path("somebody/blip3o@v1")) == "somebody/blip3o"
