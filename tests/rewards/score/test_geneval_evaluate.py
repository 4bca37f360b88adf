"""``python -m rewards.geneval evaluate``: the official layout in, official lines and table out, nothing lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.geneval import main
from rewards.library.geneval.contract import Detection
from rewards.score.geneval_layout import GenEvalLayout
from rewards.score.geneval_rows import GenEvalRows, summary
from rewards.score.result_file import ResultFile
from tests.rewards.score.bright import Bright

WITHOUT_MODELS = ["--detector", "tests.rewards.score.bright:Bright", "--colors", "none"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bright, "seen", 0)
    monkeypatch.setattr(Bright, "breaks_at", None)


def prompt(tag: str, count: int, **clause: Any) -> dict[str, Any]:
    exclude = {"exclude": [{"class": "star", "count": count + 1}]} if tag == "counting" else {}
    include = {"include": [{"class": "star", "count": count, **clause}]}
    return {"tag": tag, **include, **exclude, "prompt": f"a photo of {count} {clause.get('color', '')} stars"}


def write(folder: Path, index: int, metadata: dict[str, Any], stars: Sequence[int]) -> Path:
    samples = folder / f"{index:05d}" / "samples"
    samples.mkdir(parents=True)
    (samples.parent / "metadata.jsonl").write_text(json.dumps(metadata))
    for number, count in enumerate(stars):
        Image.fromarray(np.full((4, 8, 3), 50 * count, np.uint8)).save(samples / f"{number:04d}.png")
    return samples


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    write(root, 0, prompt("single_object", 1), [1, 1, 0, 2])  # 3 of 4
    write(root, 1, prompt("counting", 2), [2, 2, 3, 1])  # 2 of 4
    write(root, 2, prompt("counting", 3), [1, 2])  # 0 of 2
    write(root, 10, prompt("colors", 1, color="red"), [1, 1])  # 2 of 2
    write(root, 9, prompt("colors", 1, color="blue"), [1])  # 0 of 1
    (root / "grid.png").write_bytes(b"not ours")
    (root / "00000" / "grid.png").write_bytes(b"not ours")
    return root


TABLE = """\
Summary
=======
Total images: 13
Total prompts: 5
% correct images: 53.85%
% correct prompts: 60.00%

Task breakdown
==============
single_object    = 75.00% (3 / 4)
counting         = 33.33% (2 / 6)
colors           = 66.67% (2 / 3)

Overall score (avg. over tasks): 0.58333
"""


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_results_and_table_have_the_official_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--batch-size", "3"]) == 0
    assert capsys.readouterr().out == TABLE
    found = rows(folder / "results.jsonl")
    assert len(found) == 13
    assert list(found[0]) == ["filename", "tag", "prompt", "correct", "reason", "metadata", "details"]
    assert [row["filename"][len(str(folder)) :] for row in (found[0], found[10], found[11])] == [
        "/00000/samples/0000.png", "/00009/samples/0000.png", "/00010/samples/0000.png",
    ]  # fmt: skip
    wrong = found[7]
    assert (wrong["tag"], wrong["correct"], wrong["reason"]) == ("counting", False, "expected star>=2, found 1")
    assert json.loads(wrong["metadata"]) == prompt("counting", 2)
    assert json.loads(wrong["details"]) == {"star": [[0.0, 0.0, 1.0, 4.0, 0.95]]}


def test_a_picture_without_a_verdict_is_never_a_wrong_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = folder / "00000" / "samples"
    whole = (samples / "0002.png").read_bytes()
    (samples / "0002.png").write_bytes(whole[:40])
    (samples / "0003.png").write_text("nonsense")
    write(folder, 77, prompt("counting", 1), [])
    assert main(["evaluate", str(folder), *WITHOUT_MODELS]) == 3
    out, err = capsys.readouterr()
    assert "Total images: 11\nTotal prompts: 5\n" in out and "single_object    = 100.00% (2 / 2)\n" in out
    assert "3 without a verdict, left out of every figure (--resume tries again):" in err
    assert f"{folder}/00077: no pictures in samples/" in err
    assert f"{samples}/0002.png: can't be read as a picture: " in err
    assert len(rows(folder / "results.jsonl")) == 11

    (samples / "0002.png").write_bytes(whole)
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 3
    assert Bright.seen == 12  # one more, the repaired one
    assert "single_object    = 66.67% (2 / 3)\n" in capsys.readouterr().out


def test_a_prompt_that_the_detector_cannot_judge_is_a_failure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--option", "color=null"]) == 3
    out, err = capsys.readouterr()
    assert "colors" not in out and "Overall score (avg. over tasks): 0.54167" in out  # (3/4 + 2/6) / 2
    assert "the prompt asks for a red star, but the detector names no colours" in err


def test_a_killed_evaluation_goes_on_where_it_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bright, "breaks_at", 7)
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--batch-size", "2"]) == 130
    assert capsys.readouterr().err.endswith("interrupted; the same command with --resume goes on\n")
    file = folder / "results.jsonl"
    assert len(rows(file)) == 6
    file.write_text(file.read_text() + '{"filename": "half a li')  # cut off by a kill
    monkeypatch.setattr(Bright, "breaks_at", None)
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 0
    assert capsys.readouterr().out == TABLE
    assert Bright.seen == 7 + 7 and len(rows(file)) == 13  # none twice
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 0  # nothing to do, the table again
    assert capsys.readouterr().out == TABLE
    assert Bright.seen == 14


def test_a_detector_that_raises_costs_one_picture(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder / "00000" / "samples" / "0000.png"
    marked = np.array(Image.open(file))
    marked[0, 0, 1] = 77
    Image.fromarray(marked).save(file)
    monkeypatch.setattr(Bright, "broken", [77])
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--batch-size", "5"]) == 3
    out, err = capsys.readouterr()
    assert "Total images: 12\n" in out
    assert (
        f"1 without a verdict, left out of every figure (--resume tries again):\n  {file}: MemoryError: no room ("
        in err
    )
    monkeypatch.setattr(Bright, "broken", [])
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 0
    assert capsys.readouterr().out == TABLE


def test_a_folder_may_be_named_otherwise_when_it_is_resumed(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["evaluate", str(folder), *WITHOUT_MODELS]) == 0
    monkeypatch.chdir(folder)
    assert main(["evaluate", ".", *WITHOUT_MODELS, "--resume"]) == 0
    assert capsys.readouterr().out == TABLE * 2
    assert Bright.seen == 13
    out = ["--out", str(folder / "r.jsonl")]
    assert main(["evaluate", ".", *WITHOUT_MODELS, *out]) == 0
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, *out, "--resume"]) == 0
    assert Bright.seen == 26
    shutil.copytree(folder, folder.parent / "other")
    assert main(["evaluate", str(folder.parent / "other"), *WITHOUT_MODELS, *out, "--resume"]) == 2
    assert "r.jsonl was made with folder " in capsys.readouterr().err


def test_options_and_thresholds_reach_the_detector(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["evaluate", str(folder), *WITHOUT_MODELS, "--option", "color=blue", "--out", str(folder / "b.jsonl")])
        == 0
    )
    assert "colors           = 33.33% (1 / 3)" in capsys.readouterr().out
    strict = [*WITHOUT_MODELS, "--counting-threshold", "0.96", "--out", str(folder / "deep" / "c.jsonl")]
    assert main(["evaluate", str(folder), *strict]) == 0
    assert "counting         = 0.00% (0 / 6)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--option", "color"], "--option 'color' is not of the form key=value, for example --option batch_size=16"),
        (["--option", "colour=red"], "takes no such option, did you mean 'color'?"),
        (["--detector", "yolo"], "there is no 'yolo' among the detectors, did you mean 'yolox'?"),
        (["--batch-size", "0"], "--batch-size is 0: it must be 1 or more"),
        (["--threshold", "2"], "geneval.options.threshold is 2.0: it must be a number from 0 to below 1"),
        (["--color-option", "mask=false"], "geneval.options.colors_options is set but geneval.options.colors is not"),
    ],
)
def test_mistakes_in_the_call(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert not (folder / "results.jsonl").exists()  # a second, corrected call starts afresh


def test_a_detector_that_names_colours_needs_no_classifier(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that doesn't, where no prompt asks for a colour."""
    built: list[str | None] = []

    def load_colors(use: str | None, *given: object) -> None:
        built.append(use)

    monkeypatch.setattr("rewards.library.geneval.colors.load", lambda *given: load_colors)
    monkeypatch.setattr(
        "rewards.library.geneval.colors.build", lambda *given, use, **more: built.append(use) or Named()
    )
    detector = ["--detector", "tests.rewards.score.bright:Bright"]
    assert main(["evaluate", str(folder), *detector]) == 0
    assert built == []
    assert main(["evaluate", str(folder), *detector, "--option", "color=null", "--out", str(folder / "a")]) == 0
    assert built == ["clip"]
    for index in (9, 10):
        shutil.rmtree(folder / f"{index:05d}")
    assert main(["evaluate", str(folder), *detector, "--option", "color=null", "--out", str(folder / "b")]) == 0
    assert built == ["clip"]


class Named:
    """A colour classifier."""

    def classify(self, pictures: Sequence[np.ndarray], detections: Sequence[Detection]) -> list[str]:
        return ["red"] * len(detections)


class Wrong:
    """Answers something else than lists of detections, or raises while it shows that it is alive."""

    def __init__(self, golden: bool = False) -> None:
        if golden:
            self.golden = lambda: 1 / 0

    def detect(self, pictures: Sequence[np.ndarray]) -> Any:
        return None


def test_a_detector_that_answers_nonsense_is_a_sentence(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--detector", f"{__name__}:Wrong", "--colors", "none"]
    assert main(["evaluate", str(folder), *wrong]) == 3
    assert "RuntimeError: the detector must answer a list of `Detection`s for each picture, in a list (" in (
        capsys.readouterr().err
    )
    assert main(["evaluate", str(folder), *wrong, "--option", "golden=true", "--out", str(folder / "g")]) == 2
    assert capsys.readouterr().err.startswith(
        f"error: --detector {__name__}:Wrong: its golden() raised ZeroDivisionError: division by zero ("
    )


def test_words_of_users_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "[red]x[/red]"
    write(root, 0, prompt("[bold]tag[/]", 1), [1])
    samples = write(root, 1, {**prompt("\x1b[31mred", 1), "prompt": "[/nope]"}, [1])
    (samples / "0001.png").write_bytes(b"")
    assert main(["evaluate", str(root), *WITHOUT_MODELS]) == 3
    out, err = capsys.readouterr()
    assert "[bold]tag[/]     = 100.00% (1 / 1)\n\\x1b[31mred         = " in out
    assert f"  {root}/00001/samples/0001.png: can't be read" in err and "\x1b[31m" not in out + err


def test_results_of_two_settings_are_never_mixed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), *WITHOUT_MODELS]) == 0
    assert main(["evaluate", str(folder), *WITHOUT_MODELS]) == 2
    assert (
        f"{folder}/results.jsonl exists: add --resume to go on with it, or name another file" in capsys.readouterr().err
    )
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume", "--option", "color=blue"]) == 2
    assert (
        "results.jsonl was made with detector_options {}, not {'color': 'blue'}: use the same settings, or name "
        "another file with --out"
    ) in capsys.readouterr().err
    lines = (folder / "results.jsonl").read_text().splitlines()
    (folder / "results.jsonl").write_text("\n".join([lines[0], "{", *lines[1:], ""]))
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 2
    assert "results.jsonl, line 2, is not JSON: remove it" in capsys.readouterr().err
    (folder / "results.jsonl").write_text('{"file": "a.png"}\n')
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 2
    assert "results.jsonl, line 1, is no row of results: remove it" in capsys.readouterr().err
    (folder / "results.jsonl.settings.json").write_text("{")
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 2
    assert "results.jsonl.settings.json can't be read (" in capsys.readouterr().err


def test_a_results_file_of_something_else_or_of_a_running_evaluation_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "results.jsonl"
    assert main(["evaluate", str(folder), *WITHOUT_MODELS]) == 0
    whole = out.read_text()
    with ResultFile(out, GenEvalRows()):
        assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 2
    assert f"--out {out} is being written by another run; wait for it, or name another" in capsys.readouterr().err
    assert out.read_text() == whole
    out.write_text("my notes")
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 2
    assert f"{out}: its last line is no row of scores; choose another --out, or remove" in capsys.readouterr().err
    assert out.read_text() == "my notes"


def test_mistakes_in_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def complaint() -> str:
        assert main(["evaluate", str(tmp_path / "images"), *WITHOUT_MODELS]) == 2
        return capsys.readouterr().err

    root = tmp_path / "images"
    assert complaint() == f"error: there is no folder {root}\n"
    root.mkdir()
    assert f"{root} has no numbered folders: the layout is {root}/00000/metadata.jsonl and .../samples/" in complaint()
    metadata = write(root, 3, prompt("counting", 1), [1]).parent / "metadata.jsonl"
    metadata.write_text("{}{}")
    assert f"{metadata}: this line is not valid JSON (Extra data" in complaint()
    metadata.write_text(json.dumps({"prompt": "x", "include": [{"class": "star", "count": 1}]}))
    assert f"{metadata} has no 'tag': write the prompt's line of GenEval's evaluation_metadata.jsonl" in complaint()
    metadata.write_text(json.dumps({"tag": "x", "prompt": "x", "include": [{"class": "star", "count": 0}]}))
    assert f"{metadata}: include[0].count is 0: it must be 1 or more" in complaint()
    metadata.unlink()
    assert f"{metadata} is missing" in complaint()


def test_the_summary_needs_a_picture_and_counts_prompts_by_any_picture() -> None:
    with pytest.raises(ValueError, match="no picture was scored"):
        summary([])
    text = summary([{"tag": "a", "metadata": "m", "correct": c} for c in (False, True, False)])
    assert "% correct images: 33.33%\n% correct prompts: 100.00%\n" in text


def test_a_picture_may_have_any_ending_and_must_have_a_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = folder / "00002" / "samples"
    for number, ending in enumerate(("PNG", "Jpeg"), 2):
        Image.fromarray(np.full((8, 8, 3), 150, np.uint8)).save(samples / f"{number:04d}.{ending}")
    (samples / "._0001.png").write_bytes(b"macOS")
    (folder / "00009" / "samples" / "0000.png").rename(folder / "00009" / "samples" / "first.png")
    assert main(["evaluate", str(folder), *WITHOUT_MODELS]) == 3
    out, err = capsys.readouterr()
    assert "counting         = 50.00% (4 / 8)\n" in out
    assert (
        f"{folder}/00009: no pictures in samples/ that are called 0000.png, 0001.png, ... (there is 'first.png')" in err
    )
    (samples / "0002.jpg").write_bytes(b"")
    assert main(["evaluate", str(folder), *WITHOUT_MODELS, "--resume"]) == 2
    assert (
        f"{samples} holds '0002.PNG' and '0002.jpg', and only one of them can be the picture '0002'; move the other "
        "away"
    ) in capsys.readouterr().err


def test_folders_and_pictures_come_in_numeric_order(tmp_path: Path) -> None:
    for index in (100000, 2, 99999):
        samples = write(tmp_path, index, prompt("colors", 1), [1])
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(samples / "10.png")
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(samples / "9.png")
    names = [picture.name for picture in GenEvalLayout(tmp_path).pictures]
    assert [name.partition("/")[0] for name in names] == ["00002"] * 3 + ["99999"] * 3 + ["100000"] * 3
    assert names[:3] == ["00002/samples/0000.png", "00002/samples/9.png", "00002/samples/10.png"]


def test_the_command_with_a_real_detector(tmp_path: Path) -> None:
    """As a user types it: a process of its own, the shapes world's detector, one picture of it."""
    from rl.data.shapes.sprites import BACKGROUND, SIDE

    empty = np.full((SIDE, SIDE, 3), BACKGROUND, np.uint8)
    samples = write(tmp_path / "images", 0, {**prompt("single_object", 1), "tag": "single_object"}, [])
    Image.fromarray(empty).save(samples / "0000.png")
    command = [sys.executable, "-m", "rewards.geneval", "evaluate", str(tmp_path / "images"), "--detector", "shapes"]
    done = subprocess.run([*command, "--colors", "none"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[9]) == (0, "single_object    = 0.00% (0 / 1)"), done.stderr
    again = subprocess.run([*command, "--colors", "none"], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stderr.count("\n"), "Traceback" in again.stderr) == (2, 1, False)
