"""Datasets that can't be built end in one sentence; what ``datasets`` itself does is replaced at its one call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

datasets = pytest.importorskip("datasets")

from rl.data.hugging_face import hf  # noqa: E402
from rl.types import UserError  # noqa: E402


def raising(error: BaseException, cause: BaseException | None = None) -> Callable[..., Any]:
    def load_dataset(**_: object) -> None:
        raise error from cause

    return load_dataset


@pytest.mark.parametrize(
    ("error", "cause", "reason"),
    [
        (datasets.exceptions.DatasetGenerationError("An error occurred"), ValueError("row 3\nis bad"),
         "An error occurred: row 3 is bad"),
        (ConnectionError("Couldn't reach the Hub"), None, "Couldn't reach the Hub"),
        (RuntimeError("Dataset scripts are no longer supported"), None, "Dataset scripts are no longer supported"),
        (IndexError("list index out of range"), None, "list index out of range"),
        (StopIteration(), None, "it has no rows"),
        (KeyError("x" * 400), None, "'" + "x" * 296 + "..."),
    ],
)  # fmt: skip
def test_whatever_is_raised_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, cause: BaseException | None, reason: str
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", raising(error, cause))
    with pytest.raises(UserError) as caught:
        hf(name="some/set")
    assert str(caught.value) == f"the dataset 'some/set' (split 'train') can't be loaded: {reason}"


def test_a_folder_of_json_lines_names_the_source_that_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.jsonl").write_text("{")
    monkeypatch.setattr(datasets, "load_dataset", raising(ValueError("bad")))
    with pytest.raises(UserError, match=rf"loaded: bad; use: jsonl reads {tmp_path}/train.jsonl line by line$"):
        hf(name=str(tmp_path))


def test_a_revision_and_a_table_are_asked_for_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def load_dataset(**given: object) -> Any:
        asked.append(given)
        rows = [
            {"prompt": "a", "metadata": {"tag": 3, "x": None}, "y": None},
            {"prompt": "b", "metadata": None, "y": 1},
        ]
        return datasets.Dataset.from_list([*rows, rows[0]])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = hf(name="some/set", revision="v2")
    assert [(p.text, p.metadata) for p in found] == [("a", {"tag": "3"}), ("b", {"y": 1})]
    assert found.notes[0].startswith("1 of 3 prompts repeat an earlier one")
    (tmp_path / "p.tsv").write_text("prompt\na")
    hf(name=f"{tmp_path}/p.tsv")
    assert asked == [
        {"path": "some/set", "name": None, "split": "train", "revision": "v2"},
        {
            "path": "csv",
            "data_files": f"{tmp_path}/p.tsv",
            "sep": "\t",
            "name": None,
            "split": "train",
            "revision": None,
        },
    ]
