"""GEdit-Bench and ImgEdit-Bench in the forms in which they are published."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rl.config.schema import Component
from rl.data.presets.editing import gedit_bench, imgedit_bench
from rl.data.prompts import load_prompts
from rl.data.tasks import task_of
from rl.types import UserError

datasets = pytest.importorskip("datasets")


def _png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def gedit(tmp_path: Path) -> Path:
    rows = [
        {
            "key": f"k{number}",
            "task_type": "color_alter",
            "instruction": f"make it {number}",
            "instruction_language": language,
            "input_image": {"bytes": _png(1), "path": None},
            "input_image_raw": {"bytes": _png(10 * number), "path": None},
            "Intersection_exist": True,
        }
        for number, language in enumerate(("en", "cn", "en"), start=1)
    ]
    features = {name: datasets.Value("string") for name in ("key", "task_type", "instruction", "instruction_language")}
    features |= {
        "input_image": datasets.Image(),
        "input_image_raw": datasets.Image(),
        "Intersection_exist": datasets.Value("bool"),
    }
    (tmp_path / "gedit").mkdir()
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    table.to_parquet(str(tmp_path / "gedit" / "train.parquet"))
    return tmp_path / "gedit"


def test_gedit_bench(gedit: Path) -> None:
    options = {"name": str(gedit)}
    found = load_prompts(Component(use="gedit_bench", options=options), "data.eval")
    assert [(one.id, one.text, one.metadata["tag"]) for one in found] == [
        ("k1", "make it 1", "color_alter"),
        ("k3", "make it 3", "color_alter"),
    ]
    assert [one.pictures[0].pixels[0, 0, 0] for one in found] == [10, 30]
    assert all("input_image" not in one.metadata and task_of(one) == "edit" for one in found)
    assert [one.id for one in gedit_bench(name=str(gedit), language="cn")] == ["k2"]
    assert len(gedit_bench(name=str(gedit), limit=1)) == 1


def test_a_set_with_other_columns_is_told(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"instruction": "a", "keys": "k"}]).to_parquet(str(tmp_path / "train.parquet"))
    with pytest.raises(UserError, match="has no column 'key', did you mean 'keys'.*options.columns names it"):
        gedit_bench(name=str(tmp_path))


def test_imgedit_bench(tmp_path: Path) -> None:
    (tmp_path / "animal").mkdir()
    (tmp_path / "animal" / "1.png").write_bytes(_png(7))
    file = tmp_path / "basic_edit.json"
    file.write_text(json.dumps({"9": {"id": "animal/1.png", "prompt": "make it red", "edit_type": "adjust"}}))
    (one,) = imgedit_bench(path=str(file), folder=str(tmp_path))
    assert (one.id, one.text, one.metadata, one.source) == ("9", "make it red", {"tag": "adjust"}, f"{file}: '9'")
    assert one.pictures[0].pixels.shape == (4, 6, 3)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "holds no object of numbered edits"),
        ("{", "is no JSON"),
        ('{"9": {"id": "a.png", "edit_type": "x"}}', "'9' lacks \"prompt\""),
        ('{"9": {"id": "a.png", "prompt": "b", "edit_type": "x"}}', "'9': there is no picture"),
        ('{"9": {"id": "b.png", "prompt": "b", "edit_type": "x"}}', "b.png' can't be read"),
    ],
)
def test_what_is_no_such_benchmark_is_told(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_text("none")
    (tmp_path / "basic_edit.json").write_text(content)
    with pytest.raises(UserError) as caught:
        imgedit_bench(path=str(tmp_path / "basic_edit.json"), folder=str(tmp_path))
    assert words in str(caught.value)
