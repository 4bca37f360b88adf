"""The signs that a recogniser may answer at all: those of its own dictionary, and no words in scripts it barely has."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from rewards.library.ocr.signs import Case, normalise

# A dictionary may hold letters of a script as signs for formulas (π); it knows the script if it has this everyday one.
_TELLING: Final = {"GREEK": "ά", "CYRILLIC": "ж", "HANGUL": "가", "DEVANAGARI": "क"}


class Alphabet:
    """Of one dictionary, ``Alphabet(["a", "b"])``: each entry a sign, or several."""

    def __init__(self, dictionary: Sequence[str], case: Case) -> None:
        self._signs = frozenset("".join(normalise(sign, case) for sign in dictionary))
        self._case = case
        raw = set(dictionary)
        self._barely_known = frozenset(script for script, letter in _TELLING.items() if letter not in raw)

    def unreadable(self, target: str) -> list[str]:
        """The signs of a target that are never answered, each once, in order; empty if all may be.

        Two letters in a row of a script that the dictionary barely has are among them: they are taken for their Latin
        doubles (МАМА is read as MAMA).
        """
        wanted = normalise(target, self._case)
        foreign = [script if (script := _script(sign)) in self._barely_known else "" for sign in wanted]
        pairs = [bool(one) and one == following for one, following in pairwise([*foreign, ""])]
        in_a_word = [here or before for before, here in pairwise([False, *pairs])]
        signs = zip(wanted, in_a_word, strict=True)
        return list(dict.fromkeys(s for s, bad in signs if not s.isspace() and (bad or s not in self._signs)))


@lru_cache(4096)
def _script(sign: str) -> str:
    """``GREEK``: the first word of its name in Unicode."""
    return unicodedata.name(sign, "").partition(" ")[0]
