"""Contents and random numbers in, whole edits out."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from rl.data.shapes.edits import operations
from rl.data.shapes.edits.contents import FINE_EDIT_TAGS, EditContent, edit_contents
from rl.data.shapes.edits.draft import Draft
from rl.data.shapes.edits.example import EditExample
from rl.data.shapes.edits.fine import make_fine
from rl.data.shapes.edits.instructions import instruction
from rl.data.shapes.edits.letters import letter, word_in
from rl.data.shapes.edits.operations import Plan, SceneChange
from rl.data.shapes.edits.things import scene_of
from rl.data.shapes.sprites import CLASSES

_PLANS: dict[str, Plan] = {
    "edit_add": operations.add,
    "edit_add_at": operations.add_at,
    "edit_remove": operations.remove,
    "edit_recolour": operations.recolour,
    "edit_replace": operations.replace,
    "edit_move": operations.move,
    "edit_swap": operations.swap,
    "edit_count": operations.count,
    "edit_letter": letter,
    "edit_keep": operations.keep,
}
_LOCAL = ("edit_add", "edit_remove", "edit_recolour", "edit_replace", "edit_move")
"""Operations of which two go together: what one asks for says nothing about the other."""


def make_edit(content: EditContent, split: str, rng: Generator, choice: int = 0) -> EditExample:
    """One edit of ``content`` in a picture of its own; ``choice``: which words it is asked for in."""
    if content.tag in FINE_EDIT_TAGS:
        return make_fine(content, rng, choice)
    if content.tag == "edit_two":
        pair = _two(split, rng)
        return _made(content.tag, pair, split, rng, choice)
    return _made(content.tag, [content], split, rng, choice)


def _made(tag: str, contents: Sequence[EditContent], split: str, rng: Generator, choice: int) -> EditExample:
    draft = Draft(rng)
    plans = [word_in(split) if one.tag == "edit_word" else _PLANS[one.tag] for one in contents]
    finishes = [plan(draft, one.words) for plan, one in zip(plans, contents, strict=True)]
    draft.fill()
    changes = [_finished(draft, finish) for finish in finishes]
    after = dict(draft.things)
    for change in changes:
        for place, thing in change.things.items():
            after.pop(place, None)
            if thing is not None:
                after[place] = thing
    told = [
        instruction(one.tag, change.words, choice, framed=index == 0)
        for index, (one, change) in enumerate(zip(contents, changes, strict=True))
    ]
    return EditExample(
        tag=tag,
        instruction=" and ".join(told),
        source=scene_of(draft.things),
        target=scene_of(after),
        clauses=tuple(clause for change in changes for clause in change.clauses),
        editable=tuple(sorted({place for change in changes for place in change.editable})),
    )


def _finished(draft: Draft, finish: operations.Finish) -> SceneChange:
    """What it fills is free for nobody else."""
    change = finish(draft)
    draft.blocked.update(change.things)
    return change


def _two(split: str, rng: Generator) -> list[EditContent]:
    """Of two operations, that name different classes."""
    while True:
        tags = [_LOCAL[index] for index in rng.permutation(len(_LOCAL))[:2]]
        choices = [edit_contents(tag, split) for tag in tags]
        first, second = (found[rng.integers(len(found))] for found in choices)
        if not set(first.words) & set(second.words) & set(CLASSES):
            return [first, second]
