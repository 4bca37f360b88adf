"""The operations on words to read."""

from __future__ import annotations

from rl.data.shapes.captions import WORDS
from rl.data.shapes.edits.contents import edit_contents
from rl.data.shapes.edits.draft import Draft
from rl.data.shapes.edits.example import holds_one, reads
from rl.data.shapes.edits.operations import Finish, Plan, SceneChange
from rl.data.shapes.edits.things import Thing, cell_box, row_box
from rl.data.shapes.sprites import GRID, LETTERS

_MOST_SHAPES = 2  # beside a word


def word_in(split: str) -> Plan:
    """The word before is one of the same split, so that no picture shows a word of another."""

    def word(draft: Draft, words: tuple[str, ...]) -> Finish:
        new = words[0]
        others = [one.words[0] for one in edit_contents("edit_word", split) if one.words[0] != new]
        old = others[draft.rng.integers(len(others))]
        row, column = write_letters(draft, old)
        first = min(column, GRID - len(new))
        places = tuple(range(row * GRID, (row + 1) * GRID))

        def finish(done: Draft) -> SceneChange:
            del done
            asked = reads(new, row_box(row), cell_box(row * GRID + first))
            things: dict[int, Thing | None] = dict.fromkeys(places)
            things |= {row * GRID + first + i: Thing(f"letter {one}", "black", "") for i, one in enumerate(new)}
            return SceneChange({"word": new}, (asked,), places, things)

        return finish

    return word


def letter(draft: Draft, words: tuple[str, ...]) -> Finish:
    """In letters that are no word, before and after: a word of another split could come out."""
    old, new = words
    while True:
        length = int(draft.rng.integers(3, GRID + 1))
        spelled = [LETTERS[index] for index in draft.rng.integers(len(LETTERS), size=length)]
        at = int(draft.rng.integers(length))
        spelled[at] = old
        text = "".join(spelled)
        if text.count(old) == 1 and not {text, text.replace(old, new)} & set(WORDS):
            break
    row, column = write_letters(draft, text)
    place = row * GRID + column + at

    def finish(done: Draft) -> SceneChange:
        after = Thing(f"letter {new}", "black", "")
        del done
        return SceneChange(
            {"old": old, "new": new}, (holds_one(cell_box(place), after.name),), (place,), {place: after}
        )

    return finish


def write_letters(draft: Draft, text: str) -> tuple[int, int]:
    """Row and column of the first letter; nothing else comes into the row."""
    row = int(draft.rng.integers(GRID))
    column = int(draft.rng.integers(GRID - len(text) + 1))
    draft.put_letters(text, row, column)
    draft.blocked.update(range(row * GRID, (row + 1) * GRID))
    draft.most = len(text) + int(draft.rng.integers(_MOST_SHAPES + 1))
    return row, column
