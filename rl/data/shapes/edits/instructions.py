"""How an edit is asked for: paraphrases per operation."""

from __future__ import annotations

COUNT_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4}
DIRECTIONS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Steps in (rows, columns)."""

PHRASES: dict[str, tuple[str, ...]] = {
    "edit_add": ("add a {color} {name}", "put a {color} {name} into the picture"),
    "edit_add_at": ("add a {color} {name} {relation} the {anchor}", "put a {color} {name} {relation} the {anchor}"),
    "edit_remove": ("remove the {described}", "delete the {described}"),
    "edit_recolour": (
        "make the {described} {color}",
        "turn the {described} {color}",
        "change the color of the {described} to {color}",
    ),
    "edit_replace": ("replace the {name} with a {described}", "change the {name} into a {described}"),
    "edit_move": ("move the {name} {direction}", "move the {name} one cell {direction}"),
    "edit_swap": ("swap the {name} and the {other}", "swap the {other} and the {name}"),
    "edit_count": ("make it {count} {counted}", "change the number of {plural} to {count}"),
    "edit_word": ('change the word to "{word}"', 'make the sign say "{word}"'),
    "edit_letter": ("change the letter {old} to {new}", "replace the letter {old} with {new}"),
    "fine_shade": ("make the {described} {shade}", "turn the {described} {shade}"),
    "fine_outline": ("make the {described} outlined", "turn the {described} outlined"),
    "fine_ground": ("make the ground {ground}", "turn the ground {ground}", "change the ground to {ground}"),
    "edit_keep": ("leave the picture as it is", "change nothing in the picture"),
}
_FRAMES = ("{}", "please {}")


def instruction(tag: str, words: dict[str, str], choice: int, *, framed: bool = True) -> str:
    """``instruction("edit_move", {"name": "circle", "direction": "up"}, 0)`` is "move the circle up"; other choices
    are other words for it."""
    phrases = PHRASES[tag]
    frame = _FRAMES[choice // len(phrases) % len(_FRAMES)] if framed else _FRAMES[0]
    return frame.format(phrases[choice % len(phrases)].format(**words))
