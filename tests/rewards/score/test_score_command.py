from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.score.__main__ import main
from rewards.score.layout import PromptIdLayout
from rewards.score.program import in_batches
from rewards.score.result_file import ResultFile
from rewards.score.score_rows import ScoreRows
from rl.data.prompts import jsonl, prompt_file
from rl.types import Sample, UserError

BRIGHT = "tests.rewards.plugins:bright"
PROMPTS = [
    {"id": "p1", "prompt": "a red circle", "tag": "ocr"},
    {"id": "p2", "prompt": "two cats", "tag": "colors"},
    {"id": 3, "prompt": "a dog", "tag": "ocr"},
]


@pytest.fixture
def at(tmp_path: Path) -> Path:
    """A folder with prompts and five pictures: brightness 0, 0.2 and 0.4 for p1, 0.6 for p2, a broken one for 3."""
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, name in enumerate(("p1-0", "p1-1", "p1-10", "p2")):
        Image.fromarray(np.full((8, 8, 3), 51 * index, np.uint8)).save(folder / f"{name}.png")
    (folder / "3-0.png").write_bytes((folder / "p2.png").read_bytes()[:50])
    (folder / "notes.txt").write_text("not a picture")
    return tmp_path


def score(at: Path, *more: str, reward: tuple[str, ...] = (BRIGHT,)) -> int:
    given = ["--prompts", str(at / "p.jsonl"), str(at / "pictures"), "--out", str(at / "s.jsonl")]
    return main(["--reward", *reward, *given, *more])


def rows(at: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (at / "s.jsonl").read_text().splitlines()]


def error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.removeprefix("error: ").rstrip("\n")


def test_a_folder_is_scored_and_summed_up(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(at) == 3  # one of five is above 5 %
    assert [row["file"] for row in rows(at)] == ["p1-0.png", "p1-1.png", "p1-10.png", "p2.png", "3-0.png"]
    assert [row["prompt"] for row in rows(at)] == ["p1", "p1", "p1", "p2", "3"]
    assert [row["value"] for row in rows(at)] == [0.0, pytest.approx(0.2), pytest.approx(0.4), pytest.approx(0.6), None]
    assert [row["failure"] is None for row in rows(at)] == [True] * 4 + [False]
    assert (rows(at)[0]["reward"], rows(at)[0]["options"], rows(at)[0]["passed"]) == (BRIGHT, {}, None)
    said = capsys.readouterr().out
    reason = rows(at)[4]["failure"]
    assert reason.startswith("can't be read as a picture: ")
    assert said == (
        f"bright: 5 pictures, 0 of them scored before, in {at / 's.jsonl'}\n"
        f"mean 0.3000 over 4\n"
        f"failed: 1 (no value, not counted as 0)\n"
        f"  1 x {reason}\n"
    )
    assert score(at, "--max-failed-fraction", "0.2") == 0
    assert "5 of them scored before" in capsys.readouterr().out


def test_not_applicable_is_neither_a_value_nor_a_failure(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at / "pictures" / "3-0.png").unlink()
    only = (f"tag={BRIGHT[:-6]}only_tag", "--option", "tag=ocr")
    assert score(at, reward=only) == 0
    assert [(row["value"], row["failure"]) for row in rows(at)] == [(1.0, None)] * 3 + [(None, None)]
    assert capsys.readouterr().out.endswith("mean 1.0000 over 3\nnot applicable: 1\nprompts without a picture: 1\n")


def test_names_and_reasons_are_shown_as_they_are(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at / "says.py").write_text("def bad(samples):\n    raise ValueError('[/b] is \\x1b[31mred')\n")
    sys.path.insert(0, str(at))
    try:
        assert score(at, reward=("[red]x[/red]=says:bad",)) == 3
    finally:
        sys.path.remove(str(at))
    out, err = capsys.readouterr()
    assert out.startswith("[red]x[/red]: 5 pictures, ") and "ValueError: [/b] is \\x1b[31mred (says.py:2)" in out
    assert "[red]x[/red] " in err and "\x1b[31m" not in out + err


def test_goes_on_where_it_was_cut_off_and_scores_nothing_twice(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pids = (f"{BRIGHT[:-6]}pid",)
    score(at, reward=pids)
    first = rows(at)
    lines = (at / "s.jsonl").read_text().splitlines(keepends=True)
    (at / "s.jsonl").write_text("".join(lines[:2]) + lines[2][:40])  # killed in the middle of the third row
    score(at, reward=pids)
    second = rows(at)
    assert second[:2] == first[:2]
    assert [row["file"] for row in second] == [row["file"] for row in first]
    assert second[2]["value"] == second[3]["value"] != first[2]["value"]  # another worker process
    assert "5 pictures, 2 of them scored before" in capsys.readouterr().out


def test_an_interrupted_run_keeps_its_rows(at: Path) -> None:
    command = [sys.executable, "-m", "rewards.score", "--prompts", str(at / "p.jsonl"), str(at / "pictures")]
    command += ["--out", str(at / "s.jsonl"), "--batch-size", "1"]
    slow = ["--reward", "tests.rewards.plugins:sleep", "--option", "seconds=0.8"]
    process = subprocess.Popen(
        [*command, *slow],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
    )
    deadline = time.monotonic() + 20
    while not (at / "s.jsonl").exists() or not rows(at):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.endswith(f"interrupted; the same command goes on from {at / 's.jsonl'}\n")
    assert "Traceback" not in errors
    assert said == ""
    written = [row["file"] for row in rows(at)]
    assert written[:3] == ["p1-0.png", "p1-1.png", "p1-10.png"]  # one prompt's, one batch
    assert len(written) < len(list((at / "pictures").iterdir()))


def test_failures_can_be_tried_again(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score(at) == 3
    Image.fromarray(np.full((8, 8, 3), 255, np.uint8)).save(at / "pictures" / "3-0.png")
    capsys.readouterr()
    assert score(at) == 2
    assert error(capsys) == (
        f"{at / 'pictures' / '3-0.png'} or its prompt has changed since it was scored in {at / 's.jsonl'}; choose "
        f"another --out, or remove that file"
    )
    assert score(at, "--retry-failed") == 0
    assert [row["value"] for row in rows(at)][4] == 1.0
    assert "4 of them scored before" in capsys.readouterr().out


def test_scores_of_something_else_are_not_added_to(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = at / "s.jsonl"
    score(at)
    kept = out.read_bytes()
    capsys.readouterr()
    assert score(at, "--option", "scale=0.5") == 2
    assert error(capsys) == (
        f"{out} holds scores of the reward '{BRIGHT}' with options {{}}, not of '{BRIGHT}' with {{\"scale\": 0.5}}; "
        f"choose another --out, or remove it"
    )
    assert score(at, reward=("ocr",)) == 2
    assert error(capsys).startswith(f"{out} holds scores of the reward '{BRIGHT}' with options {{}}, not of 'ocr'")
    (at / "p.jsonl").write_text((at / "p.jsonl").read_text().replace("two cats", "three cats"))
    assert score(at) == 2
    assert error(capsys).startswith(f"{at / 'pictures' / 'p2.png'} or its prompt has changed since")
    assert out.read_bytes() == kept
    out.write_bytes(kept[:10] + b"\n" + kept)
    assert score(at) == 2
    assert error(capsys) == f"{out}:1: this line is no row of scores; choose another --out, or remove the file"
    assert score(at, "--out", str(at)) == 2
    assert error(capsys).startswith(f"--out {at} can't be used: ")


def test_a_prompt_may_move_to_another_line_but_not_change_its_picture(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Image.new("RGB", (2, 2), (1, 2, 3))
    before.save(at / "before.png")
    lines = [json.dumps(row | {"image": "before.png"} if row.get("id") == "p2" else row) for row in PROMPTS]
    (at / "p.jsonl").write_text("\n".join(lines))
    score(at)
    kept = (at / "s.jsonl").read_bytes()
    (at / "p.jsonl").write_text("\n\n".join(lines))
    capsys.readouterr()
    assert score(at) == 3 and "5 of them scored before" in capsys.readouterr().out
    before.save(at / "again.bmp")  # the same pixels
    (at / "p.jsonl").write_text("\n".join(lines).replace("before.png", "again.bmp"))
    assert score(at) == 3 and (at / "s.jsonl").read_bytes() == kept
    Image.new("RGB", (2, 2)).save(at / "other.png")
    (at / "p.jsonl").write_text("\n".join(lines).replace("before.png", "other.png"))
    capsys.readouterr()
    assert score(at) == 2
    assert error(capsys).startswith(f"{at / 'pictures' / 'p2.png'} or its prompt has changed since")


def test_a_file_without_a_newline_is_not_emptied(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = at / "s.jsonl"
    for foreign in ("my notes", '{"model": 1}'):
        out.write_text(foreign)
        assert score(at) == 2
        assert error(capsys) == f"{out}: its last line is no row of scores; choose another --out, or remove the file"
        assert out.read_text() == foreign


def test_two_runs_never_write_one_file(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for retry_failed in (False, True):
        score(at, "--max-failed-fraction", "1")  # the second one writes the file anew
        capsys.readouterr()
        with ResultFile(at / "s.jsonl", ScoreRows(BRIGHT, {})) as results:
            if retry_failed:
                results.remove({"3-0.png"})
            command = [sys.executable, "-m", "rewards.score", "--reward", BRIGHT, "--prompts", str(at / "p.jsonl")]
            done = subprocess.run(
                [*command, str(at / "pictures"), "--out", str(at / "s.jsonl")],
                capture_output=True,
                text=True,
                check=False,
            )
            wanted = f"error: --out {at / 's.jsonl'} is being written by another run; wait for it, or name another\n"
            assert (done.returncode, done.stderr) == (2, wanted)


def test_a_full_disk_is_said_and_the_rows_are_kept(
    at: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rewards.score.result_file.os.fsync", full)
    assert score(at, "--batch-size", "3") == 2
    assert (
        error(capsys)
        .splitlines()[-1]
        .endswith("can't be written: [Errno 28] No space left on device; make room, then the same command goes on")
    )
    monkeypatch.undo()
    assert score(at, "--max-failed-fraction", "1") == 0
    assert len(rows(at)) == 5


def test_rows_say_by_which_version_of_the_reward_they_were_scored(
    at: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(at)
    (at / "scored_here.py").write_text("def half(samples):\n    return [0.5 for _ in samples]\n")
    score(at, reward=("scored_here:half",))
    lines = (at / "s.jsonl").read_text().splitlines(keepends=True)
    (at / "s.jsonl").write_text("".join(lines[:2]))
    (at / "scored_here.py").write_text("def half(samples):\n    return [0.75 for _ in samples]\n")
    assert "versions" not in capsys.readouterr().out
    score(at, reward=("scored_here:half",))
    assert len({row["version"] for row in rows(at)}) == 2
    assert (
        "by 2 versions of the reward's code (2 and 3 pictures): for one, score into another file\n"
        in capsys.readouterr().out
    )


def test_wrong_folders_and_rewards_are_said(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures = at / "pictures"
    assert score(at, "--reward", "ocr") == 2
    assert error(capsys) == "--reward is given 2 times; score with one reward at a time, each with its --out"
    assert score(at, "--option", "scal=2") == 2
    assert error(capsys).startswith("rewards.bright.options.scal: ")
    (pictures / "p9-1.png").write_bytes(b"")
    assert score(at) == 2
    assert error(capsys) == (
        f"{pictures / 'p9-1.png'} belongs to no prompt: neither 'p9-1' nor 'p9' is the id of one, did you mean 'p1'?; "
        f"move the file away, or add the prompt"
    )
    (pictures / "p9-1.png").unlink()
    with (at / "p.jsonl").open("a") as file:
        file.write('{"id": "p1-1", "prompt": "x"}\n')
    assert score(at) == 2
    assert error(capsys) == (
        f"{pictures / 'p1-1.png'} could be the picture of prompt 'p1-1' or picture 1 of prompt 'p1'; change one of the "
        f"two ids"
    )
    for path in pictures.glob("*.png"):
        path.unlink()
    assert score(at) == 2
    assert error(capsys) == (
        f"{pictures} holds no pictures; they must be called <prompt id>.png or <prompt id>-<n>.png, or end in one of "
        ".jpg .jpeg .webp .bmp .gif .tif .tiff .avif"
    )
    with pytest.raises(UserError, match="there is no folder nowhere"):
        PromptIdLayout(Path("nowhere"), {})


def test_a_bad_prompt_file_is_named_with_its_line(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at / "p.jsonl").write_text('{"id": "p1"}\n')
    assert score(at) == 2
    assert error(capsys) == f'{at / "p.jsonl"}:1: this line has no "prompt" (non-empty text) (its keys: id)'


def test_batches_keep_a_prompts_pictures_together(at: Path) -> None:
    prompts = {prompt.id: prompt for prompt in jsonl(path=str(at / "p.jsonl"))}
    found = PromptIdLayout(at / "pictures", prompts).pictures
    sizes = {size: [len(batch) for batch in in_batches(found, size, whole_groups=True)] for size in (1, 2, 4, 5)}
    assert sizes == {1: [3, 1, 1], 2: [3, 2], 4: [4, 1], 5: [5]}


def test_a_reward_that_no_prompt_is_for_is_found_before_it_is_loaded(
    at: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert score(at, reward=("geneval", "--option", "detector=nowhere:Missing")) == 2
    assert error(capsys) == (
        "the reward 'geneval' applies to none of the 3 prompts: it looks for 'include', and they hold 'tag' (3 of 3); "
        "add it to the prompts or choose a reward that fits"
    )
    assert not (at / "s.jsonl").exists()


def clauses(samples: Sequence[Sample]) -> list[float | None]:
    return [len(found) if (found := sample.prompt.metadata.get("include")) else None for sample in samples]


def test_metadata_in_an_object_of_its_own_is_seen(at: Path) -> None:
    rows_of = [{"id": name, "prompt": "a", "metadata": {"include": [1, 2]}} for name in ("p1", "p2", 3)]
    (at / "p.jsonl").write_text("\n".join(map(json.dumps, rows_of)))
    (at / "pictures" / "3-0.png").unlink()
    assert score(at, reward=(f"{__name__}:clauses",)) == 0
    assert [row["value"] for row in rows(at)] == [2.0] * 4


def nothing(samples: Sequence[Sample]) -> list[None]:
    return [None] * len(samples)


def test_a_folder_of_which_nothing_is_scored_is_no_success(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at / "pictures" / "3-0.png").unlink()
    assert score(at, reward=(f"{__name__}:nothing",)) == 2
    assert error(capsys).endswith(
        "error: nothing was scored: nothing is not applicable to any of the 4 pictures; what their prompts hold beside "
        "the text: 'tag' (3 of 3)"
    )


def letters(samples: Sequence[Sample]) -> list[float]:
    return [len(sample.prompt.metadata["text"]) for sample in samples]


def test_plain_text_gives_its_quoted_texts(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = at / "p.txt", at / "signs"
    file.write_bytes(b'\xef\xbb\xbfa sign "OPEN"\na door "A"\n')
    folder.mkdir()
    for prompt in prompt_file(str(file)):
        Image.new("RGB", (8, 8)).save(folder / f"{prompt.id}.png")
    given = ["--prompts", str(file), str(folder), "--out", str(at / "s.jsonl")]
    assert main(["--reward", f"{__name__}:letters", *given]) == 0
    assert [row["value"] for row in rows(at)] == [4.0, 1.0]
    assert f'{file}: each prompt has one quoted text, which becomes its "text"' in capsys.readouterr().err
