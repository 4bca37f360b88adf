"""JSON files and webdataset's tars, shuffled by number; pictures are read when they are looked at."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rl.data.examples.files import jsonl, tar
from rl.data.examples.order import NumberedStream
from rl.types import UserError


def png(shade: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), shade, np.uint8)).save(held, "PNG")
    return held.getvalue()


def a_tar(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def test_samples_of_a_tar_are_read_in_any_order(tmp_path: Path) -> None:
    pictures = {f"part/{key:03d}.png": png(key) for key in range(5)}
    a_tar(tmp_path / "a.tar", pictures | {f"part/{key:03d}.txt": f"picture {key}".encode() for key in range(5)})
    said = json.dumps({"caption": "from json", "score": 2}).encode()
    a_tar(tmp_path / "b.tar", {"x.JPG": png(90), "x.json": said, "odd.txt": b"?"})
    found = tar(path=[str(tmp_path / "a.tar"), str(tmp_path / "b.tar")])
    assert len(found) == 6
    assert [one.prompt.text for one in (found[3], found[0], found[5])] == ["picture 3", "picture 0", "from json"]
    assert found[3].prompt.id == "part/003" and found[3].prompt.source == f"{tmp_path}/a.tar:part/003"
    assert found[3].picture.pixels.shape == (4, 6, 3) and (found[3].picture.pixels == 3).all()
    assert found[5].prompt.metadata == {"score": 2}
    left_out = "1 of 7 samples have no picture or no text and are left out, first"
    assert found.notes == [f"{left_out} {tmp_path}/b.tar:odd"]


def test_a_pattern_is_one_set_and_its_digest_notices_a_change(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "image": f"{name}.png"}) + "\n")
        (tmp_path / f"{name}.png").write_bytes(png(1))
    found = jsonl(path=str(tmp_path / "*.jsonl"))
    before = found.digest()
    assert [found[i].prompt.text for i in range(2)] == ["a", "b"] and found[1].picture.pixels.shape == (4, 6, 3)
    with (tmp_path / "b.jsonl").open("a") as file:
        file.write('{"prompt": "c", "image": "b.png"}\n')
    assert jsonl(path=str(tmp_path / "*.jsonl")).digest() != before


def test_a_json_list_is_read_too(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "x", "image": "x.png"}, {"prompt": "y", "image": "y.png"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert jsonl(path=str(tmp_path / "a.json"))[1].prompt.source == f"{tmp_path}/a.json[1]"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tar", b"no tar at all", "a.tar: this is no tar file that can be read"),
        ("b.jsonl", b'{"prompt": "x"}\n', "b.jsonl:1: no column is its picture"),
        ("c.jsonl", b'{"prompt": \n', "c.jsonl:1: this line is not valid JSON"),
        ("d.json", b'{"prompt": "x"}', "d.json: it must be a list of JSON objects"),
    ],
)
def test_bad_files(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        (tar if name.endswith("tar") else jsonl)(path=str(tmp_path / name))
    with pytest.raises(UserError, match=f"there is no file '{tmp_path}/x{name}', did you mean '{name}'"):
        jsonl(path=str(tmp_path / f"x{name}"))


def test_every_epoch_holds_every_row_once_in_an_order_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"prompt": f"{n}", "image": "x"}) + "\n" for n in range(10)))
    stream = NumberedStream(jsonl(path=str(tmp_path / "a.jsonl")), per_step=4, seed=3)
    steps = [[one.prompt.text for one in stream.at(step)] for step in range(5)]
    drawn = [text for step in steps for text in step]
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == sorted(map(str, range(10))) and drawn[:10] != drawn[10:]
    assert [one.prompt.text for one in stream.at(2)] == steps[2]
