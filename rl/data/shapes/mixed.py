"""Drawing, editing and answering to learn from together: which of them a row is, and the row, are functions of its
number."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from rl.data.examples.contract import NOT_ASKED, Example
from rl.data.prompts import checked_call
from rl.data.shapes.edits.contents import edit_contents
from rl.data.shapes.edits.example import EditExample
from rl.data.shapes.edits.rows import EditRows
from rl.data.shapes.examples import ShapesExamples, examples
from rl.data.shapes.looks import FIGURES
from rl.data.shapes.questions.contents import question_contents
from rl.data.shapes.questions.rows import QuestionRows
from rl.data.shapes.world import CELLS
from rl.types import UserError

RowsT = TypeVar("RowsT")
_KINDS = ("draw", "edit", "answer")
_KINDS_SEED = 41
_UNTOLD: Mapping[str, float] = {"text": 0.0}
"""Nothing in front of a caption or an instruction tells its words; a question does, where a policy's
template has it behind its picture."""


@dataclass(frozen=True)
class MixedExamples:
    """See :func:`mixed`."""

    shares: Mapping[str, float]
    drawings: ShapesExamples
    edits: EditRows
    questions: QuestionRows
    seed: int
    endless: bool = True
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int, /) -> Example:
        rng = np.random.default_rng([self.seed, _KINDS_SEED, index])
        weights = np.array([self.shares.get(kind, 0.0) for kind in _KINDS])
        match _KINDS[rng.choice(len(_KINDS), p=weights / weights.sum())]:
            case "draw":
                one = self.drawings[index]
                return replace(one, weights={**one.weights, **_UNTOLD})
            case "edit":
                prompt, after = self.edits[index]
                return Example(prompt, after, weights=_UNTOLD, labels=_details(self.edits.example(index)))
            case _:
                prompt, answer = self.questions[index]
                return Example(prompt, prompt.pictures[0], answer=answer)

    def of_run(self, seed: int) -> MixedExamples:
        return replace(
            self,
            seed=self.seed + seed,
            drawings=self.drawings.of_run(seed),
            edits=replace(self.edits, seed=self.edits.seed + seed),
            questions=replace(self.questions, seed=self.questions.seed + seed),
        )

    def digest(self) -> str:
        return f"endless:{hashlib.sha256(repr(self).encode()).hexdigest()}"


def _details(edit: EditExample) -> dict[str, NDArray[np.int64]]:
    """Ground and figure that an edit asks for at each cell; what it does not ask for only its picture tells."""
    if edit.looks is None:
        return {"ground": np.zeros(CELLS, np.int64)}  # plain, before and after
    (ground, figure), (new_ground, new_figure) = (divmod(looks, len(FIGURES)) for looks in edit.looks)
    asked = {"ground": new_ground, "figure": new_figure}
    changed = {"ground": new_ground != ground, "figure": new_figure != figure}
    return {name: np.where(changed[name], asked[name], NOT_ASKED) for name in asked}


def mixed(
    *,
    shares: dict[str, float],
    draw: dict[str, Any] | None = None,
    edit: dict[str, Any] | None = None,
    answer: dict[str, Any] | None = None,
    bad_from: int = 0,
    seed: int = 0,
) -> MixedExamples:
    """``shares``: how often a row is to ``draw``, to ``edit`` or to ``answer``; the other options go to the examples of
    each kind, ``bad_from`` and ``seed`` to all that say nothing else. Raises UserError on an unknown kind, or a share
    that is none."""
    for kind, share in shares.items():
        if kind not in _KINDS:
            raise UserError(f"shapes_mixed: shares: there is no kind {kind!r}; choose among {', '.join(_KINDS)}")
        if share < 0:
            raise UserError(f"shapes_mixed: shares.{kind} is {share:g}; it must be a number from 0")
    if not sum(shares.values()):
        raise UserError("shapes_mixed: shares: all are 0; give one kind a share")
    alike = {"bad_from": bad_from, "seed": seed}
    found = MixedExamples(
        dict(shares),
        _of("draw", examples, {**alike, **(draw or {})}),
        _of("edit", _edits, {**alike, **(edit or {})}),
        _of("answer", _questions, {**alike, **(answer or {})}),
        seed,
    )
    found[0]
    return found


def _of(kind: str, source: Callable[..., RowsT], options: Mapping[str, Any]) -> RowsT:
    try:
        return cast(RowsT, checked_call(cast(Any, source), options))
    except UserError as error:
        raise UserError(f"shapes_mixed: {kind}: {error}") from error


def _edits(
    *,
    split: str = "train",
    shares: dict[str, float] | None = None,
    mislabelled: float = 0.0,
    bad_from: int = 0,
    seed: int = 0,
) -> EditRows:
    for tag in shares or ():
        edit_contents(tag, split)
    more = {} if shares is None else {"shares": shares}
    return EditRows(split=split, mislabelled=mislabelled, bad_from=bad_from, seed=seed, **more)


def _questions(
    *,
    split: str = "train",
    shares: dict[str, float] | None = None,
    mislabelled: float = 0.0,
    bad_from: int = 0,
    seed: int = 0,
) -> QuestionRows:
    for tag in shares or ():
        question_contents(tag, split)
    more = {} if shares is None else {"shares": shares}
    return QuestionRows(split=split, mislabelled=mislabelled, bad_from=bad_from, seed=seed, **more)
