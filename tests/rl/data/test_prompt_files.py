"""Prompt files as editors, spreadsheets and exports write them, and what is no prompt."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rl.data.prompts import jsonl, prompt_file, text
from rl.types import UserError

MARK = b"\xef\xbb\xbf"


def complaint(read: Callable[..., object], path: Path, content: bytes | str) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        read(path=str(path))
    return str(caught.value)


def line_complaint(path: Path, row: object) -> str:
    """Of the second line, without its place."""
    found = complaint(jsonl, path, '{"prompt": "a"}\n' + (row if isinstance(row, str) else json.dumps(row)))
    assert found.startswith(f"{path}:2: ")
    return found.removeprefix(f"{path}:2: ")


def metadata(path: Path, row: Mapping[str, object]) -> Mapping[str, object]:
    path.write_text(json.dumps(row))
    return jsonl(path=str(path))[0].metadata


def test_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    lines, plain = tmp_path / "p.jsonl", tmp_path / "p.txt"
    lines.write_bytes(
        MARK + b'{"prompt": "a"}\r\n' + MARK + b'{"prompt": "b"}\r\n\r\n'
    )  # two files, one after the other
    plain.write_bytes(MARK + "ein rötes Rad\r\n  zwei".encode())
    assert [prompt.text for prompt in jsonl(path=str(lines))] == ["a", "b"]
    assert [(p.text, p.source) for p in text(path=str(plain))] == [
        ("ein rötes Rad", f"{plain}:1"),
        ("zwei", f"{plain}:2"),
    ]
    plain.write_bytes(MARK + b"a\rb")
    assert [prompt.text for prompt in prompt_file(str(plain))] == ["a", "b"]
    assert "is empty" in complaint(text, plain, MARK + b"\n")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff".encode("utf-16-le") if encoding == "utf-16-le" else b""
    path = tmp_path / "p.txt"
    name = "UTF-32" if encoding == "utf-32" else "UTF-16"
    assert complaint(text, path, mark + "a cat".encode(encoding)) == (
        f"the prompt file {str(path)!r} is {name} text; save it as UTF-8"
    )


def test_bytes_that_are_no_text_have_a_line(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    assert complaint(text, path, "a cat\nein r\xf6tes Rad".encode("latin-1")) == (
        f"{path}:2: this line is not UTF-8 text (byte 0xf6); save the file as UTF-8"
    )
    assert complaint(text, path, gzip.compress(b"a cat")).endswith("is compressed (gzip), not text")
    assert complaint(jsonl, tmp_path / "p.parquet", b"PAR1...") == (
        f"the prompt file '{tmp_path}/p.parquet' is a Parquet table, not text; a table is read by use: hf, options: "
        f"{{name: {tmp_path}/p.parquet, column: the one that holds the prompts}}"
    )


def test_files_of_another_kind_name_what_reads_them(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b"}]
    assert complaint(jsonl, tmp_path / "p.csv", "prompt,tag\na,b").endswith(
        f"a table is read by use: hf, options: {{name: {tmp_path}/p.csv, column: the one that holds the prompts}}"
    )
    assert "is no plain text; a table is read by use: hf" in complaint(text, tmp_path / "p.tsv", "prompt\ttag")
    for content in (json.dumps(rows), json.dumps(rows, indent=1)):
        wrong = complaint(jsonl, tmp_path / "p.json", content)
        assert wrong.endswith("; the file is one JSON array: write one object per line")
    assert complaint(jsonl, tmp_path / "p.json", json.dumps(rows[0], indent=1)).endswith("one object per line")
    assert complaint(jsonl, tmp_path / "p.x", "a cat\na dog").endswith(
        ":1: this line is not valid JSON (Expecting value, column 1); plain text, one prompt per line, is read by use: "
        "text"
    )
    assert complaint(jsonl, tmp_path / "p.x", "{'prompt': 'a'}").endswith("; JSON writes texts in double quotes")
    assert complaint(text, tmp_path / "p.txt", '{"prompt": "a"}\n{"prompt": "b"}').endswith("it is read by use: jsonl")


def test_a_key_twice_in_one_object_is_refused_at_any_depth(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    for row, key in (
        ('{"prompt": "a", "tag": "x", "tag": "x"}', "tag"),
        ('{"prompt": "a", "include": [{"class": "cat", "count": 1, "count": 2}]}', "count"),
    ):
        assert (
            line_complaint(path, row) == f"this line holds the key {key!r} twice in one object; remove one of the two"
        )
    assert jsonl(path=_written(path, '{"prompt": "a", "x": {"k": 1}, "y": {"k": 1}}'))[0].metadata["y"] == {"k": 1}


def _written(path: Path, content: str) -> str:
    path.write_text(content)
    return str(path)


def test_what_is_no_text_is_refused_with_the_way_on(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    chat = [{"role": "system", "content": "paint"}, {"role": "user", "content": "a cat"}]
    for row, message in (
        ({"prompt": chat}, '"prompt" is a chat of 2 messages; write its words as one text, such as '
         "\"prompt\": 'a cat'"),
        ({"prompt": ["a cat"]}, "\"prompt\" must be text, got ['a cat']"),
        ({"prompt": 3}, '"prompt" must be text, got 3'),
        ({"prompt": " \n"}, 'this line has no "prompt" (non-empty text)'),
        ({"prompt": None, "tag": "x"}, '"prompt" must be text, got null'),
        ({"caption": "a", "n": 1}, 'this line has no "prompt" (non-empty text) (its keys: caption, n)'),
        ({"prompt": "\u200b\ufeff\u2060 "},
         "\"prompt\" holds nothing that can be seen, only '\\u200b\\ufeff\\u2060 '; write a text"),
        ({"prompt": "\u3164\ufe0f"}, "\"prompt\" holds nothing that can be seen, only '\\u3164\\ufe0f'; write a text"),
        ({"prompt": "a\0b"}, '"prompt" holds a NUL character, which is no text; remove it'),
        ({"prompt": "a", "text": "\ud83d"}, "this line holds \\ud83d, half of a character that was cut in two; write "
         "the whole character, or remove it"),
    ):  # fmt: skip
        assert line_complaint(path, row) == message
    assert (
        jsonl(path=_written(path, '{"prompt": "\\ud83d\\ude00 \\u2764\\ufe0f"}'))[0].text == "\U0001f600 \u2764\ufe0f"
    )


def test_a_nested_metadata_object_is_read_as_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    inside = {"tag": "counting", "include": [{"class": "cat", "count": 2}]}
    assert metadata(path, {"prompt": "two cats", "metadata": inside}) == inside
    assert metadata(path, {"prompt": "two cats", "metadata": {**inside, "prompt": "two cats"}}) == inside
    assert metadata(path, {"prompt": "a", "metadata": "a note", "x": 1}) == {"metadata": "a note", "x": 1}
    flat, nested = {"prompt": "a", **inside}, {"prompt": "a", "metadata": inside, "id": None}
    path.write_text(json.dumps(flat) + "\n" + json.dumps(nested))
    assert len(jsonl(path=str(path))) == 1
    assert line_complaint(path, {"prompt": "a", "tag": "colors", "metadata": inside}) == (
        "'tag' stands in this line and, with another value, in its \"metadata\"; remove one"
    )


@pytest.mark.parametrize(
    ("tag", "task"),
    [("a/b c", "a/b c"), ("[red]", "[red]"), (3, "3"), (True, "true"), (0.5, "0.5"), (["x"], "x"), ([2], "2")]
    + [(nothing, None) for nothing in (None, "", [])],
)
def test_a_tag_is_one_text(tmp_path: Path, tag: object, task: str | None) -> None:
    assert metadata(tmp_path / "p.jsonl", {"prompt": "a", "tag": tag}) == {"tag": task}


def test_a_tag_that_is_no_one_text_is_refused(tmp_path: Path) -> None:
    for tag, what in ((["colors", "easy"], "a list of 2"), ({"a": 1}, "a dict"), ([["x"]], "a list of 1")):
        assert line_complaint(tmp_path / "p.jsonl", {"prompt": "a", "tag": tag}).startswith(f'"tag" is {what} (')
    assert line_complaint(tmp_path / "p.jsonl", {"prompt": "a", "tag": "overall"}) == (
        "\"tag\" is 'overall', which names the mean of all tasks; write another name"
    )


def test_a_tag_may_change_its_kind_from_line_to_line(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps({"prompt": "a", "tag": tag}) for tag in (1, "1", None, "x")))
    assert [prompt.metadata["tag"] for prompt in jsonl(path=str(path))] == ["1", "1", None, "x"]
