"""The prompts of a run, looked over before anything heavy is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rl.config.schema import Config
from rl.data.picture_check import require_sound_pictures
from rl.data.prompts import jsonl
from rl.launch import main
from rl.preflight.prompts import check_data, notes_on
from rl.types import UserError

CIRCLE = [{"class": "circle", "count": 1}]


def write(path: Path, *rows: object) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def config(train: str, held_out: str | None = None, **rewards: object) -> Config:
    source = {"use": "jsonl", "options": {"path": train}}
    data = {
        "train": source,
        "prompts_per_step": 2,
        "eval": held_out and {"use": "jsonl", "options": {"path": held_out}},
    }
    return Config.model_validate({"data": data, "rewards": rewards or {"geneval": {"use": "geneval"}}})


def circles(*names: str) -> list[dict[str, object]]:
    return [{"prompt": f"a {name} circle", "include": CIRCLE} for name in names]


def test_a_prompt_too_long_for_the_policy_has_its_line(tmp_path: Path) -> None:
    train = write(tmp_path / "p.jsonl", *circles("red", "blue", "very " * 300))
    with pytest.raises(
        UserError, match=rf"'a very very .*\.\.\.', {train}:3\) has \d+ tokens, and .* has room for 111"
    ):
        check_data(config(train))
    good = write(tmp_path / "good.jsonl", *circles("red", "blue"))
    with pytest.raises(UserError, match=rf"{train}:3\) has \d+ tokens"):
        check_data(config(good, train))


def test_metadata_that_a_later_step_would_stumble_over_have_their_line(tmp_path: Path) -> None:
    bad = [{"prompt": name, "include": [{"class": "circle"}], "text": "X"} for name in "ab"]
    train = write(tmp_path / "p.jsonl", *circles("red", "blue"), *bad)
    with pytest.raises(UserError) as caught:
        check_data(config(train))
    assert re.search(
        rf"\('a', {train}:3\) can't be scored by the reward 'geneval': include\[0\].count is None: it must be of type "
        r"int; 1 more prompts can't be scored either$",
        str(caught.value),
    )
    words = write(
        tmp_path / "q.jsonl", *({"prompt": f"a{i}", "text": text} for i, text in enumerate(["A", ["B"], [3]]))
    )
    with pytest.raises(UserError, match=rf"{words}:3\) can't be scored by the reward 'ocr': text is \[3\], it must be"):
        check_data(config(words, ocr={"use": "ocr"}))


def test_what_a_user_should_know_is_told_once_each(tmp_path: Path) -> None:
    train = write(tmp_path / "p.jsonl", *circles("red", "blue") * 2)
    held_out = write(tmp_path / "q.jsonl", *circles("red", "green"))
    rewards = {"geneval": {"use": "geneval"}, "ocr": {"use": "ocr", "role": "monitor"}}
    assert notes_on(*check_data(config(train, held_out, **rewards))) == [
        "data.train: 2 of 4 prompts repeat an earlier one, and are taken once (repeats: keep takes all)",
        "the reward 'ocr' applies to none of the 2 prompts: it looks for 'text', and they hold 'include' (2 of 2)",
        "data.eval: 1 of 2 prompts are training prompts too",
    ]
    with pytest.raises(UserError, match="^the reward 'ocr' applies to none"):
        check_data(config(train, None, geneval={"use": "geneval"}, ocr={"use": "ocr"}))


def test_the_command_tells_it_beside_the_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write(tmp_path / "p.jsonl", *circles(*"abcd") * 4)
    options = ["data.train.use=jsonl", f"data.train.options.path={train}", "data.prompts_per_step=4", "data.eval=null"]
    assert main(["examples/geneval.yaml", "--dry-run", *options]) == 0
    printed = capsys.readouterr()
    assert "data.train: 12 of 16 prompts repeat an earlier one" in printed.err
    assert re.search(r"# training prompts +4, seen", printed.out)


def test_half_a_picture_is_found_before_the_run(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "b.png"):
        Image.fromarray(noise).save(tmp_path / name)
    Image.fromarray(noise).save(tmp_path / "c.jpg")
    path = write(tmp_path / "p.jsonl", *({"prompt": n, "images": [n, "a.png"]} for n in ("a.png", "b.png", "c.jpg")))
    assert require_sound_pictures(jsonl(path=path)) == ""
    assert require_sound_pictures(jsonl(path=path), most=1) == (
        "1 of 3 pictures of prompts were decoded, of the others only the headers were read"
    )
    for name in ("b.png", "c.jpg"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(
            UserError, match=rf"\('{name}', .*\): its picture '{tmp_path}/{name}' can't be read: .*; repl"
        ):
            require_sound_pictures(jsonl(path=path))
        (tmp_path / name).write_bytes(whole)
