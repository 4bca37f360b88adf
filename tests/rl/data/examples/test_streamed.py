"""Streams of the datasets library go on exactly where a checkpoint has left them, whatever they are."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rl.config.section import Component
from rl.data.examples.load import example_stream, load_examples
from rl.data.examples.tables import hf
from rl.types import UserError


def png(shade: int) -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), shade, np.uint8)).save(held, "PNG")
    return held.getvalue()


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import datasets

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"caption": f"row {n}", "image": {"bytes": png(n), "path": None}} for n in range(23)]
    kinds = datasets.Features({"caption": datasets.Value("string"), "image": datasets.Image()})
    file = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(rows, features=kinds).to_parquet(str(file))
    return file


def texts(stream: Any, first: int, last: int) -> list[list[str]]:
    return [[one.prompt.text for one in stream.at(step)] for step in range(first, last)]


def test_a_table_is_listed_or_streamed(parquet: Path) -> None:
    listed = hf(name=str(parquet))
    assert len(listed) == 23 and (listed[5].picture.pixels == 5).all()  # type: ignore[arg-type,index]
    stream = example_stream(hf(name=str(parquet), streaming=True, window=8), per_step=5, seed=0)
    first = stream.at(0)
    assert {one.prompt.text for one in first} < {f"row {n}" for n in range(8)}
    assert [one.prompt.text for one in first] != [f"row {n}" for n in range(5)]
    assert all(one.picture.pixels[0, 0, 0] == int(one.prompt.text.split()[1]) for one in first)


def test_every_row_comes_once_an_epoch(parquet: Path) -> None:
    stream = example_stream(hf(name=str(parquet), streaming=True, window=8), per_step=1, seed=0)
    drawn = [step[0] for step in texts(stream, 0, 46)]
    assert sorted(drawn[:23]) == sorted(drawn[23:]) == sorted(f"row {n}" for n in range(23))
    assert drawn[:23] != drawn[23:]


@pytest.mark.parametrize("kept", [1, 3, 5, 7, 11])
def test_a_resume_goes_on_exactly(parquet: Path, kept: int) -> None:
    def opened() -> Any:
        return example_stream(hf(name=str(parquet), streaming=True, window=8), per_step=5, seed=0)

    whole = texts(opened(), 0, 14)
    begun = opened()
    assert texts(begun, 0, kept) == whole[:kept]
    again = opened()
    again.restore(json.loads(json.dumps(begun.state())))
    assert texts(again, kept, 14) == whole[kept:]


def test_columns_that_do_not_fit_are_told_before_the_run(parquet: Path) -> None:
    chosen = Component(use="hf", options={"name": str(parquet), "columns": {"prompt": "text", "picture": "image"}})
    with pytest.raises(UserError) as caught:
        load_examples(chosen)
    where = f"supervised.examples: {parquet}[train]:0"
    assert str(caught.value) == f"{where}: there is no column 'text' (it has caption, image)"


def test_a_webdataset_streams(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for n in range(3):
            for name, content in ((f"{n}.png", png(n)), (f"{n}.txt", f"row {n}".encode())):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    stream = example_stream(hf(name=str(tmp_path), streaming=True), per_step=3, seed=0)
    assert sorted(texts(stream, 0, 1)[0]) == ["row 0", "row 1", "row 2"]
