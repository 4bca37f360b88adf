"""Which files of a folder are whose pictures; no reward is loaded."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewards.score.layout import PromptIdLayout, load
from rewards.score.score_rows import summary
from rl.types import Prompt, Sample, UserError


def layout(folder: Path, ids: list[str], files: list[str]) -> PromptIdLayout:
    folder.mkdir(exist_ok=True)
    for name in files:
        (folder / name).write_bytes(b"x")
    return PromptIdLayout(folder, {one: Prompt(one, "a cat") for one in ids})


def complaint(folder: Path, ids: list[str], files: list[str]) -> str:
    with pytest.raises(UserError) as caught:
        layout(folder, ids, files)
    return str(caught.value)


def test_every_ending_counts_in_any_case(tmp_path: Path) -> None:
    files = ["a.PNG", "b.jpg", "c.JPEG", "d.WebP", "e.bmp", "f.tif", "g.TIFF", "h.gif", "i.avif", "a-1.png"]
    found = layout(tmp_path, list("abcdefghi"), files)
    assert [one.name for one in found.pictures] == ["a.PNG", "a-1.png", *files[1:-1]]
    assert found.left_out == []
    Image.fromarray(np.zeros((2, 3, 3), np.uint8)).save(tmp_path / "d.WebP", "WEBP")
    sample = load(found.pictures[4])
    assert isinstance(sample, Sample) and (sample.id, sample.picture.shape) == ("d", (2, 3, 3))


def test_hidden_files_are_no_pictures_unless_a_prompt_is_called_so(tmp_path: Path) -> None:
    found = layout(tmp_path, ["p", ".q"], ["p.png", "._p.png", ".DS_Store", ".q.png", "._.q.png"])
    assert [one.name for one in found.pictures] == ["p.png", ".q.png"]


def test_other_files_called_like_pictures_are_counted(tmp_path: Path) -> None:
    found = layout(tmp_path, ["p", "q"], ["p.png", "p-2.heic", "q.txt", "notes.txt"])
    assert found.left_out == ["p-2.heic", "q.txt"]
    row = {"value": 1.0, "passed": None, "failure": None, "version": "1"}
    said = summary("bright", [row], unpainted=1, kept=0, out=Path("s.jsonl"), left_out=found.left_out)
    assert said.endswith("left out, not being pictures by their ending: 2 ('p-2.heic')")
    assert complaint(tmp_path / "none", ["p"], ["p.heic"]).startswith(
        f"{tmp_path}/none holds no pictures (there is 'p.heic'); they must be called <prompt id>.png or "
    )


def test_accents_in_names_may_be_composed_or_not(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for identity, name in ((composed, apart), (apart, composed)):
        (one,) = layout(tmp_path / f"{len(identity)}", [identity], [f"{name}-3.png"]).pictures
        assert one.prompt.id == identity
    assert complaint(tmp_path, [composed, apart], [f"{composed}.png"]) == (
        r"the ids 'caf\xe9' and 'cafe\u0301' look the same, so that no picture can be named after either; change one"
    )
    assert complaint(tmp_path, [composed], [f"{composed}.png", f"{apart}.png"]) == (
        rf"{tmp_path} holds 'cafe\u0301.png' and 'caf\xe9.png', and only one of them can be the picture 'café'; move "
        "the other away"
    )


def test_one_picture_in_two_files_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, ["p"], ["p.png", "p.jpg"]) == (
        f"{tmp_path} holds 'p.jpg' and 'p.png', and only one of them can be the picture 'p'; move the other away"
    )


def test_a_folder_is_no_picture_and_a_lost_link_is_one_that_fails(tmp_path: Path) -> None:
    (tmp_path / "p.png").mkdir()
    (tmp_path / "p-1.png").symlink_to(tmp_path / "nowhere")
    (one,) = layout(tmp_path, ["p"], []).pictures
    failure = load(one)
    assert not isinstance(failure, Sample)
    assert failure.failure and failure.failure.startswith("can't be read as a picture: [Errno 2] No such file")
