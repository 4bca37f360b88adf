"""What the hub or the machine says when weights can't be had reaches the user as one sentence."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import errors

from rewards.library.models import weights
from rewards.library.models.weights import find_file
from rewards.load import load_reward
from rl.types import UserError

NAME = "owner/name:head.pth"


def answered(kind: type[errors.HfHubHTTPError], status: int) -> Exception:
    return kind("no", response=httpx.Response(status, request=httpx.Request("GET", "https://hub/x")))


def offline() -> Exception:
    error = errors.LocalEntryNotFoundError("not cached")
    error.__cause__ = errors.OfflineModeIsEnabled("offline")
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            answered(errors.GatedRepoError, 403),
            "its licence must be accepted on its page of the hub first; do so",
        ),
        (answered(errors.RepositoryNotFoundError, 404), "the hub has no such repository, or shows it to others only; "),
        (
            answered(errors.RevisionNotFoundError, 404),
            "the hub has no revision 'v9' of it; correct the revision",
        ),
        (answered(errors.RemoteEntryNotFoundError, 404), "its repository holds no such file; correct the name, or set"),
        (answered(errors.HfHubHTTPError, 503), "the hub answered HTTP 503; try again later, or set"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/c"),
            "it can't be stored (No space left on device: /c)",
        ),
        (
            offline(),
            "with a network type `hf download owner/name head.pth --revision v9`, or set r",
        ),
        (
            errors.LocalEntryNotFoundError("?"),
            "with a network type `hf download owner/name head.pth --revision v9`",
        ),
    ],
)
def test_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, error: Exception, said: str) -> None:
    asked: list[Any] = []

    def refuse(*given: object, revision: str) -> str:
        asked.append((*given, revision))
        raise OSError("wrapped") from error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(UserError) as caught:
        find_file(NAME, at="r.options", revision="v9")
    assert asked == [("owner/name", "head.pth", "v9")]
    text = str(caught.value)
    assert text.startswith(f"r.options.checkpoint: {NAME!r} is not on this machine")
    assert said in text and "\n" not in text


def test_a_path_has_no_revision(tmp_path: Path) -> None:
    (tmp_path / "head.pth").write_bytes(b"")
    with pytest.raises(UserError, match=r"r.options.revision is 'v1', and .*head.pth is on this machine: drop the rev"):
        weights.find_file(str(tmp_path / "head.pth"), at="r.options", revision="v1")
    with pytest.raises(UserError, match=r"revision is 1: it must be a branch, a tag or a commit of the hub, in quotes"):
        weights.find_file(NAME, at="r.options", revision=1)  # type: ignore[arg-type]


def test_open_clip_by_its_own_names_has_no_revision() -> None:
    with pytest.raises(UserError, match=r"rewards.r.options.revision is 'v1', and open_clip takes none for 'hf-hub:"):
        load_reward("r", "clip_score", {"checkpoint": "hf-hub:a/b", "revision": "v1"})


@pytest.fixture
def _nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")


def _forbid(*_: object, **__: object) -> None:
    raise AssertionError("the hub's client tries for half a minute")


@pytest.mark.usefixtures("_nobody_answers")
@pytest.mark.parametrize(("use", "name"), [("pickscore", "yuvalkirstain/PickScore_v1"), ("hpsv2", None)])
def test_a_hub_that_cannot_be_reached_is_known_at_once(
    monkeypatch: pytest.MonkeyPatch, use: str, name: str | None
) -> None:
    monkeypatch.setattr("transformers.PretrainedConfig.get_config_dict", _forbid)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", _forbid)
    with pytest.raises(UserError) as caught:
        load_reward("r", use, {})
    assert str(caught.value).startswith(f"rewards.r.options.checkpoint: {name!r} is" if name else "rewards.r.options.")
    assert "can't be downloaded now (http://127.0.0.1:1: Connection refused); with a network type `hf download " in str(
        caught.value
    )


@pytest.mark.usefixtures("_nobody_answers")
def test_what_is_on_this_machine_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    repo = tmp_path / "models--owner--name"
    (repo / "snapshots" / "abc").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "v9").write_text("abc")
    (repo / "snapshots" / "abc" / "head.pth").write_bytes(b"")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: "found")
    assert find_file(NAME, at="r.options", revision="v9") == Path("found")
    with pytest.raises(UserError, match="Connection refused"):
        find_file(NAME, at="r.options")  # another revision is not here
