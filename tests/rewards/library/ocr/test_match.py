"""The formulas of the ocr reward and the reading order, by hand; no model is loaded."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from rewards.library.ocr.lines import Line, in_reading_order
from rewards.library.ocr.match import compare, matching_distance, words_of


@pytest.mark.parametrize(
    ("found", "target", "strict", "lenient", "exact"),
    [
        ("CAT", "CAT", 1.0, 1.0, 1.0),
        ("", "CAT", 0.0, 0.0, 0.0),
        ("CAR", "CAT", 1 - 1 / 3, 1 - 1 / 3, 0.0),
        ("CATCAT", "CAT", 0.5, 1.0, 0.0),  # repeated text: free in the literature's formula
        ("XCATXXXX", "CAT", 1 - 5 / 8, 1.0, 0.0),
        ("COATSXYZ", "CAT", 1 - 5 / 8, 0.0, 0.0),  # min(5, 3) / 3
        ("HELLO WORLD", "hello world", 1.0, 1.0, 1.0),
        ("HELLOWORLD", "hello\nworld", 1.0, 1.0, 1.0),  # spaces and line breaks do not count
        ("ＳＴＡＲ", "star", 1.0, 1.0, 1.0),  # full width
        ("Ｃａｆé\u3000２０２４", "café 2024", 1.0, 1.0, 1.0),  # full width, and é as one sign or as two
        ("cafe\u0301", "café", 1.0, 1.0, 1.0),
        ("cafe", "café", 0.75, 0.75, 0.0),  # an accent is a letter of its own
        ("STRASSE", "Straße", 1.0, 1.0, 1.0),  # case folding, not lower-casing
        ("50% OFF", "50% OFF!", 1 - 1 / 7, 1 - 1 / 7, 0.0),  # punctuation counts: 6 of 7 signs
        ("CA", "CAT", 1 - 1 / 3, 1 - 1 / 3, 0.0),
    ],
)
def test_every_formula_by_hand(found: str, target: str, strict: float, lenient: float, exact: float) -> None:
    match = compare(found, target)
    assert (match.strict, match.lenient, match.exact) == pytest.approx((strict, lenient, exact))


def test_case_can_be_kept() -> None:
    assert compare("Cat", "CAT", "keep").strict == pytest.approx(1 / 3)
    assert compare("Cat", "CAT", "ignore").exact == 1.0
    assert compare("The cat", "the Cat", "keep").words == 0.0
    assert compare("The cat", "the Cat", "ignore").words == 1.0


@pytest.mark.parametrize(
    ("found", "target", "precision", "recall", "words"),
    [
        ("hot tea", "hot tea", 1.0, 1.0, 1.0),
        ("", "hot tea", 0.0, 0.0, 0.0),
        ("hot", "hot tea", 1.0, 1 / 2, 2 / 3),
        ("hot hot tea now", "hot tea", 2 / 4, 2 / 2, 4 / 6),  # the second `hot` was not asked for
        ("hot", "hot hot hot", 1 / 1, 1 / 3, 2 / 4),  # each repetition counts
        ("tea hot", "hot\ntea", 1.0, 1.0, 1.0),  # no order
        ("hottea", "hot tea", 0.0, 0.0, 0.0),  # a lost space loses both words
        ("hot ten", "hot tea", 1 / 2, 1 / 2, 1 / 2),
    ],
)
def test_words_by_hand(found: str, target: str, precision: float, recall: float, words: float) -> None:
    match = compare(found, target)
    assert (match.precision, match.recall, match.words) == pytest.approx((precision, recall, words))


@pytest.mark.parametrize(
    ("found", "target", "strict", "lenient", "exact"),
    [
        ("WORLD HELLO", "hello world", 1.0, 1.0, 1.0),
        ("sale now big", "big\nsale\nnow", 1.0, 1.0, 1.0),
        ("now sale bag", "big sale now", 1 - 1 / 10, 1 - 1 / 10, 0.0),  # bag -> big: 1 of 10 letters
        ("tea", "hot tea", 1 - 3 / 6, 1 - 3 / 6, 0.0),  # `hot` is left over: 3 of 6
        ("tea hot hot", "hot tea", 1 - 3 / 9, 1.0, 0.0),  # all words read, one too many
        ("", "hot tea", 0.0, 0.0, 0.0),
        ("abc", "x y z", 0.0, 0.0, 0.0),  # 3 + 1 + 1 is more than the 3 letters there are
        ("hottea", "hot tea", 1 - 6 / 6, 0.0, 0.0),  # hottea -> hot costs 3, tea is left over
    ],
)
def test_free_order_by_hand(found: str, target: str, strict: float, lenient: float, exact: float) -> None:
    match = compare(found, target, order="free")
    assert (match.strict, match.lenient, match.exact) == pytest.approx((strict, lenient, exact))


def test_in_order_a_swap_of_lines_costs() -> None:
    match = compare("tea hot", "hot\ntea")  # teahot -> hottea: take `tea` away in front, add it behind
    assert (match.strict, match.lenient, match.exact, match.words) == (0.0, 0.0, 0.0, 1.0)


def distance_by_table(a: str, b: str) -> int:
    """The textbook recursion, to hold the library against."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def test_the_distance_is_the_textbook_one() -> None:
    rng = random.Random(0)
    for _ in range(500):
        a, b = ("".join(rng.choices("abcé", k=rng.randint(1, 9))) for _ in range(2))
        assert compare(a, b).strict == pytest.approx(1 - distance_by_table(a, b) / max(len(a), len(b)))


def test_the_matching_of_words_is_the_best_of_all() -> None:
    rng = random.Random(1)
    for _ in range(300):
        found, target = (
            ["".join(rng.choices("ab", k=rng.randint(1, 4))) for _ in range(rng.randint(0, 4))] for _ in "12"
        )
        size = max(len(found), len(target))
        padded = found + [""] * (size - len(found)), target + [""] * (size - len(target))
        best = min(
            sum(distance_by_table(a, b) for a, b in zip(padded[0], order, strict=True))
            for order in permutations(padded[1])
        )
        assert matching_distance(found, target) == matching_distance(target, found) == best


def test_words_of() -> None:
    assert words_of(" Ｈｏｔ\u00a0Tea\n\tNOW ", "ignore") == ["hot", "tea", "now"]
    assert words_of("Hot", "keep") == ["Hot"]


def piece(text: str, *box: float, confidence: float = 0.9) -> Line:
    return Line(text, confidence, box)  # type: ignore[arg-type]


def texts(*pieces: Line) -> list[str]:
    return [line.text for line in in_reading_order(pieces)]


def test_boxes_become_lines_from_the_top_and_from_the_left() -> None:
    right, left = piece("world", 60, 12, 100, 30), piece("hello", 10, 10, 50, 30)
    below = piece("again", 0, 40, 30, 60)
    assert texts(below, right, left) == ["hello world", "again"]


def test_a_joined_line_has_the_weakest_confidence_and_the_hull() -> None:
    (line,) = in_reading_order([piece("b", 60, 12, 100, 33, confidence=0.6), piece("a", 10, 10, 50, 30)])
    assert line == Line("a b", 0.6, (10, 10, 100, 33))
    assert in_reading_order([]) == []


@pytest.mark.parametrize(("top", "lines"), [(20, ["a b"]), (21, ["a", "b"])])
def test_half_the_lower_box_must_overlap(top: float, lines: list[str]) -> None:
    # a spans 10..30; b is 20 high and overlaps it by 10 (half) or 9 pixels
    assert texts(piece("b", 60, top, 80, top + 20), piece("a", 10, 10, 50, 30)) == lines


def test_a_small_word_beside_a_large_one_is_in_its_line_but_two_stacked_ones_are_two_lines() -> None:
    large = piece("SALE", 0, 0, 100, 60)
    small, under = piece("today", 110, 5, 150, 20), piece("only", 110, 40, 150, 55)
    assert texts(large, small) == ["SALE today"]
    assert texts(under, large, small) == ["SALE today", "only"]


def test_a_staircase_is_not_one_line() -> None:
    steps = [piece(str(i), 30 * i, 12 * i, 30 * i + 25, 12 * i + 20) for i in range(4)]
    # each step lies 12 of 20 pixels lower: 8 of 20 overlap, so no two belong together
    assert texts(*reversed(steps)) == ["0", "1", "2", "3"]
