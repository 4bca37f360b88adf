"""What people see of a text: signs that nobody can paint are left out, and signs that nobody tells apart become one.

The recogniser answers ``'`` for every painted apostrophe and ``-`` for nearly every dash, so a target with ``’`` or
``–`` could never be read exactly. Both sides of a comparison go through ``normalise``:

1. **Invisible signs take no part**: Unicode's default ignorable code points (zero-width space and joiners, byte-order
   mark, soft hyphen, direction marks, variation selectors, tags, fillers), other format characters, control characters
   that are no white space, lone surrogates. No-break and other wide or narrow spaces are white space.
2. **Typographic signs become one** by the table ``_SAME``, measured with PP-OCRv5 mobile on painted signs: what it
   never tells apart, or now reads as one and now as the other.
3. **NFKC**: full-width forms, ligatures, ``…``, fractions, superscripts; then the letters' case, if it is ignored.
4. Two apostrophes are a quotation mark, and other signs that come doubled (``<<``, ``,,``) one sign.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

Case = Literal["ignore", "keep"]

_SAME: Final = {
    "'": "`´‘’‛′‵ʹʻʼʽˈˊˋ＇",
    '"': "“”‟″‴‶‷ʺ〝〞〟＂",
    ",": "‚„⹂",
    "<": "«‹≪〈《⟨",
    ">": "»›≫〉》⟩",
    "-": "‐‑‒–—―−⁃˗─━⸺⸻﹘",
    "·": "‧•∙⋅・･",
    "/": "⁄∕",
    ":": "∶ː",
    "x": "×✕✖⨯",
    "°": "º˚",
    "~": "∼˜〜",
    "^": "ˆ",
    "|": "∣",
    "*": "∗⁎",
    "✓": "✔√",
    "£": "₤",
    " ": "\u2800",  # the empty Braille cell
}
_ONE: Final = str.maketrans({other: sign for sign, others in _SAME.items() for other in others})
_DOUBLED: Final = {"''": '"', ",,": ",", "<<": "<", ">>": ">", "°°": "°"}  # ℃ is read as °℃
# Unicode's Default_Ignorable_Code_Point; the standard library has no such property.
_IGNORABLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Unicode's Prepended_Concatenation_Mark: format characters that are painted.
_PAINTED_FORMATS: Final = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"
)


def normalise(text: str, case: Case) -> str:
    """The text as it is compared; white space stays."""
    seen = "".join(sign for sign in _IGNORABLE.sub("", text) if not _never_painted(sign)).translate(_ONE)
    seen = unicodedata.normalize("NFKC", seen).translate(_ONE)
    if case == "ignore":
        seen = seen.casefold()
    for pair, one in _DOUBLED.items():
        seen = seen.replace(pair, one)
    return seen


def _never_painted(sign: str) -> bool:
    category = unicodedata.category(sign)
    if category == "Cf":
        return sign not in _PAINTED_FORMATS
    return category == "Cs" or (category == "Cc" and not sign.isspace())
