"""What people see of a text, and which signs a recogniser knows; no model is loaded."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from rewards.library.ocr.alphabet import Alphabet
from rewards.library.ocr.match import compare
from rewards.library.ocr.signs import _SAME, normalise

LATIN = [
    *"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'\",.-·<>/:°~^|*！？é",
    "🇩🇪",
    "π",
    "α",
    "М",
    "А",
]


@pytest.mark.parametrize(
    "target",
    [
        "\u200bOPEN\u200b",
        "O\u200cP\u200dE\u2060N",
        "\ufeffOPEN",
        "OP\u00adEN",
        "\u202aOPEN\u202c",
        "\u2066OPEN\u2069",
        "OPEN\ufe0e",
        "OPEN\U000e0101",
        "\U000e0001\U000e0065OPEN",
        "OP\u034fEN",
        "OPEN\u3164",
        "O\u180ePEN",
        "OPEN\x00\x1b\x7f",
        "OP\u206aEN",
        "\ufff9OPEN\ufffb",
        "OPEN\ud83d",
        "OP\u115fEN\uffa0",
    ],
)
@pytest.mark.parametrize("order", ["lines", "free"])
def test_what_nobody_can_paint_takes_no_part(target: str, order: str) -> None:
    match = compare("OPEN", target, order=order)  # type: ignore[arg-type]
    assert (match.exact, match.strict, match.words) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("space", "\u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u205f\u3000\u2028\u2029\u0085\u2800\t\n")
def test_every_space_is_white_space(space: str) -> None:
    assert normalise(f"wet{space}paint", "keep").split() == ["wet", "paint"]


def test_every_sign_that_unicode_calls_a_format_or_control_is_gone_but_the_painted_ones() -> None:
    signs = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)) in ("Cf", "Cc", "Cs")]
    left = [sign for sign in signs if normalise(sign, "keep").strip()]
    assert left == [*"\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2", "\U000110bd", "\U000110cd"]


@pytest.mark.parametrize(
    ("read", "target"),
    [
        ("ROCK'N'ROLL", "ROCK ’N’ ROLL"),
        ("O'Neill", "Oʼneill"),
        ("'tis", "‘tis"),
        ("5'10\"", "5′ 10″"),
        ('say "hi"', "say “hi”"),
        ("1990-2020", "1990–2020"),
        ("wait-no", "wait—no"),
        ("wait—no", "wait-no"),
        ("-5°C", "−5℃"),
        ("20°C", "20ºC"),
        ("20°℃", "20 ℃"),
        ("the end...", "the end…"),
        (',Hallo"', "„Hallo“"),
        ("《Oui>>", "«Oui»"),
        ("<Ja>", "‹Ja›"),
        ("a·b", "a•b"),
        ("1/2", "½"),
        ("3/4", "3⁄4"),
        ("10:30", "10∶30"),
        ("3×4", "3 x 4"),
        ("~5", "∼5"),
        ("50%!", "５０％！"),
        ("fine", "ﬁne"),
        ('don"t', "don''t"),
        ("`quoted'", "'quoted'"),
    ],
)
def test_typography_that_is_read_as_one_counts_as_equal(read: str, target: str) -> None:
    assert compare(read, target).exact == compare(target, read).exact == 1.0


@pytest.mark.parametrize(
    ("read", "target"), [("10-20", "1020"), ("O'Neill", "ONeill"), ('"hi"', "'hi'"), ("a.b", "a,b"), ("cafe", "café")]
)
def test_what_people_tell_apart_stays_apart(read: str, target: str) -> None:
    assert compare(read, target).exact == 0.0


def test_the_table_leads_to_a_sign_that_stays() -> None:
    for sign, others in _SAME.items():
        for one in (sign, *others):
            assert normalise(f"a{one}b", "keep") == f"a{sign}b", hex(ord(one))
    everything = "".join(_SAME.values())
    assert len(set(everything)) == len(everything) and not set(everything) & set(_SAME)


def test_a_blank_target_has_no_grade() -> None:
    with pytest.raises(ValueError, match="is blank"):
        compare("CAT", "\u200b \ufeff")


@pytest.mark.parametrize(
    ("target", "unknown"),
    [
        ("Café “HI” – 5′!", []),
        ("ÉCOLE", []),  # as é, the letters' case being ignored
        ("π = 3".replace("=", "-"), []),
        ("αα", ["α"]),
        ("МАМА", ["м", "а"]),
        ("М", []),
        ("Жук", ["ж", "у", "к"]),
        ("¿Que?", ["¿"]),
        ("a\u200bb\ufe0f", []),
        ("ab ab 한 ab", ["한"]),
        ("a\uf8ff", ["\uf8ff"]),
    ],
)
def test_what_the_dictionary_does_not_have_is_named(target: str, unknown: list[str]) -> None:
    assert Alphabet(LATIN, "ignore").unreadable(target) == unknown


def test_case_kept_a_capital_that_the_dictionary_lacks_is_unknown() -> None:
    assert Alphabet(LATIN, "keep").unreadable("école ÉCOLE") == ["É"]


def test_a_dictionary_of_the_script_itself_knows_its_words() -> None:
    assert Alphabet([*LATIN, *"жукмаЖУКМА"], "ignore").unreadable("Жук МАМА") == []
