"""What would be uploaded, what is, and every way in which it can fail: against a hub that is not there."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from rl.config.load import dump, load
from rl.push import upload as upload_module
from rl.push.__main__ import main
from rl.push.plan import check_name, make_plan
from rl.push.upload import upload
from rl.types import UserError
from tests.rl.synthetic_run import write_run

ROOT = Path(__file__).parents[3]


class FakeHub:
    """Remembers what it was told, or raises."""

    def __init__(self, error: Exception | None = None) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.error = error

    def create_repo(self, repo_id: str, **options: Any) -> str:
        self.told.append((repo_id, options))
        return f"https://hub/{repo_id}"

    def upload_folder(self, **options: Any) -> None:
        if self.error:
            raise self.error
        self.told.append((options["repo_id"], options))


@pytest.fixture
def run(tiny_policy: Path, tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run", steps=3, per_task=2)
    (folder / "config.yaml").write_text(dump(load(ROOT / "examples" / "geneval.yaml")))
    shutil.copytree(tiny_policy, folder / "policy")
    return folder


def test_without_yes_it_only_tells(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upload_module, "HfApi", lambda: pytest.fail("the hub was asked"))
    (run / "policy" / ".cache").mkdir()
    (run / "policy" / ".cache" / "x").write_text("")
    assert main([str(run), "me/geneval"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("---\n") and "# run\n" in shown
    assert "policy -> me/geneval (private, unless it exists already): " in shown
    assert " ar/model.safetensors\n" in shown and "README.md\n" in shown and ".cache" not in shown
    assert "Nothing was uploaded; --yes does it." in shown


def test_what_is_uploaded_is_what_was_told(run: Path) -> None:
    hub, plan = FakeHub(), make_plan(run, "me/geneval")
    assert upload(plan, public=False, hub=hub) == "https://hub/me/geneval"
    (_, created), (_, uploaded) = hub.told
    assert created == {"private": True, "exist_ok": True}
    assert uploaded["folder_path"] == run / "policy"
    assert uploaded["ignore_patterns"] == [".*", "*/.*", "*.tmp"]
    upload(plan, public=True, hub=hub)
    assert hub.told[2][1]["private"] is False


def test_a_card_that_was_edited_stays(run: Path) -> None:
    make_plan(run, "me/geneval")
    card = run / "policy" / "README.md"
    card.write_text("mine")
    assert make_plan(run, "me/geneval").card == "mine"
    assert make_plan(run / "policy", "me/geneval").card == "mine"
    assert make_plan(run, "me/geneval", new_card=True).card.startswith("---\n")
    card.unlink()
    with pytest.raises(UserError, match="has no card to go with it: push its run folder"):
        make_plan(run / "policy", "me/geneval")


def refused(status: int) -> HfHubHTTPError:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return HfHubHTTPError("the hub says no\nin many lines", response=response)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refused(401), r"the hub does not accept your token: hf auth login, or .* \(HTTP 401\)"),
        (refused(403), r"your token may not write there: .* \(HTTP 403\)"),
        (refused(500), r"me/geneval was not uploaded: the hub says no \(HTTP 500\)"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE is set; unset it to upload"),
        (upload_module._HTTP_ERROR("refused"), r"the hub cannot be reached \(refused\)"),
        (PermissionError(13, "Permission denied"), r"was not uploaded: \[Errno 13\] Permission denied"),
    ],
)
def test_a_hub_that_says_no(run: Path, error: Exception, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as found:
        upload(make_plan(run, "me/geneval"), public=False, hub=FakeHub(error))
    assert "\n" not in str(found.value)


def test_nobody_is_logged_in(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(upload_module, "get_token", lambda: None)
    assert main([str(run), "me/geneval", "--yes"]) == 2
    assert capsys.readouterr().err == (
        "error: nobody is logged in to the hub: run hf auth login, or set HF_TOKEN, then try again\n"
    )


@pytest.mark.parametrize("name", ["geneval", "a/b/c", "me/-x", "me/", "../x", "me/a b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match="write owner/name"):
        check_name(name)


def test_what_cannot_be_pushed(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*nix': give the folder of a run"):
        make_plan(tmp_path / "nix", "me/x")
    with pytest.raises(UserError, match=r"neither a run folder \(no config.yaml\) nor a policy \(no policy.json\)"):
        make_plan(tmp_path, "me/x")
    shutil.rmtree(run / "policy" / "vae")
    with pytest.raises(UserError, match=r"the policy folder lacks vae/config.json"):
        make_plan(run, "me/x")
    shutil.rmtree(run / "policy")
    with pytest.raises(
        UserError, match=r"has written no policy yet; let the run end \(python -m rl.launch .* --resume"
    ):
        make_plan(run, "me/x")
