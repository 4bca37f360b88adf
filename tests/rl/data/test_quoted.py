"""The quoted text of a prompt, in everybody's quotation marks."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.data.prompts import jsonl, text
from rl.data.quoted import quoted_texts
from rl.types import UserError


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ('a sign that says "OPEN LATE", at night', ["OPEN LATE"]),
        ('"Don\'t walk" on a sign', ["Don't walk"]),
        ("a poster, \u201cSpring \u2019Sale\u2019 2024\u201d", ["Spring \u2019Sale\u2019 2024"]),
        ("ein Schild: \u201eGE\u00d6FFNET\u201c", ["GE\u00d6FFNET"]),
        ("une affiche \u00ab BONJOUR \u00bb", ["BONJOUR"]),
        ("\u770b\u677f\u300c\u55b6\u696d\u4e2d\u300d", ["\u55b6\u696d\u4e2d"]),
        ("a cup with 'TEA' on it", ["TEA"]),
        ("a cup with \u2018TEA\u2019.", ["TEA"]),
        ("the dog's bowl and the cats' beds", []),
        ("rock 'n' roll", ["n"]),
        ('an empty sign ""', []),
        ('"ONE" and "TWO"', ["ONE", "TWO"]),
        ("no text at all", []),
    ],
)
def test_quoted_texts(prompt: str, found: list[str]) -> None:
    assert quoted_texts(prompt) == found


def test_a_mark_without_its_partner_is_no_answer() -> None:
    for prompt in ('a 7" tablet with "HI" on it', "a sign \u201cOPEN", 'half "quoted'):
        with pytest.raises(ValueError, match="without its partner"):
            quoted_texts(prompt)


def read(path: Path, *lines: str, **options: object) -> list[object]:
    path.write_text("\n".join(lines))
    return [prompt.metadata.get("text") for prompt in text(path=str(path), **options)]  # type: ignore[arg-type]


def test_a_set_in_which_every_prompt_has_one_gives_it_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    assert read(path, 'a sign "OPEN"', 'a door "EXIT"') == ["OPEN", "EXIT"]
    found = text(path=str(path))
    assert found.notes == ('each prompt has one quoted text, which becomes its "text" (quoted: null leaves it out)',)
    assert [p.id for p in found] == [p.id for p in text(path=str(path), quoted=None)]
    assert read(path, 'a sign "OPEN"', quoted=None) == [None]
    assert read(path, 'a sign "OPEN"', "a door") == [None, None]
    own = '{"prompt": "a sign \\"OPEN\\"", "text": "SHUT"}'
    (tmp_path / "p.jsonl").write_text(own)
    assert jsonl(path=str(tmp_path / "p.jsonl"))[0].metadata == {"text": "SHUT"}


def test_asked_for_by_key_it_must_be_exactly_one(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text('a sign "OPEN"\na door\n"A" or "B"\na 7" pipe\n')
    with pytest.raises(UserError) as caught:
        text(path=str(path), quoted="words")
    found = str(caught.value)
    assert found.startswith(f"{path}: quoted: words takes exactly one quoted text, and prompt 'p")
    assert found.endswith(
        f"('a door', {path}:2) and 2 more have not that: the first has no quoted text; mend the lines, or give them a "
        '"words" of their own'
    )
    path.write_text('"A" or "B"')
    with pytest.raises(UserError, match=r"has not that: the first has 2 quoted texts \('A', 'B'\); mend"):
        text(path=str(path), quoted="text")
    with pytest.raises(UserError, match="quoted is ''; it must be the key that the quoted text goes to, or null"):
        text(path=str(path), quoted="")
    lines = tmp_path / "p.jsonl"
    lines.write_text('{"prompt": "a \\"B\\"", "id": 1}\n{"prompt": "c", "id": 2, "goal": "D"}')
    assert [p.metadata for p in jsonl(path=str(lines), quoted="goal")] == [{"goal": "B"}, {"goal": "D"}]
