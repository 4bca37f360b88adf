"""A row of anybody's data set -> an example: which column is what, and conversations with ``<image>`` marks.

Three forms are read. Columns: the prompt under ``prompt``, ``caption``, ``text``, ``txt``, ``instruction``, ...; its
picture under ``image``, ``jpg``, ``output_image``, ``target``, ...; what an edit starts from under ``input_image``,
``input_images``, ``reference``, ... (or ``image``, where another column is the picture). LLaVA's and Tar's
conversations: ``image`` with ``conversations: [{from: human, value}, {from: gpt, value}]``. Messages: ``images`` with
``messages: [{role, content}]``. In the latter two ``<image>`` stands where a picture is meant: in the answer it is the
one to be learnt. ``columns`` says otherwise: ``{prompt: caption_long, picture: edited, pictures: [before]}``.

A question about a picture is answered in words: ``question`` and ``answer`` beside the picture's column, or a
conversation with ``<image>`` in the question alone; ``columns: {prompt: asked, picture: photo, answer: said}``. Further
questions and answers of that conversation are learnt in the same row. Without any picture it is text alone; of columns
that has to be said: ``columns: {prompt: asked, answer: said}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rl.data.examples.contract import Example
from rl.data.pictures import Picture
from rl.data.tasks import TASK
from rl.registry import did_you_mean
from rl.types import Prompt, UserError

MARK = "<image>"
_PROMPT = ("prompt", "caption", "text", "txt", "instruction", "input_prompt", "edit_prompt", "edit")
_TARGET = ("output_image", "target", "target_image", "edited_image", "edited_img", "output_images")
_PICTURE = ("image", "jpg", "jpeg", "png", "webp", "picture", "img")
_BEFORE = ("input_image", "input_images", "reference", "references", "source_image", "src_img", "cond_image")
_QUESTION, _ANSWER = "question", "answer"
_IDS = ("id", "key", "__key__")
_ASKS, _ANSWERS = ("human", "user"), ("gpt", "assistant")
_KNOWN = ("prompt", "picture", "pictures", "answer")
_SHOWN = 12

Opened = Callable[[Any], Picture]
"""A cell of a row -> the picture that it names or holds."""


def to_example(row: Mapping[str, Any], where: str, opened: Opened, columns: Mapping[str, Any] | None = None) -> Example:
    """Raises: UserError naming ``where`` if the row holds no prompt with a picture, or what can't be learnt here."""
    if columns:
        return _of_columns(row, where, opened, columns)
    for key in ("conversations", "messages"):
        if isinstance(row.get(key), list):
            return _of_turns(row, key, where, opened)
    if row.get(_QUESTION) is not None and row.get(_ANSWER) is not None and (picture := _first(row, _PICTURE)):
        return _of_columns(row, where, opened, {"prompt": _QUESTION, "picture": picture, "answer": _ANSWER})
    found = {
        "prompt": _first(row, _PROMPT),
        "picture": _first(row, _TARGET) or _first(row, _PICTURE),
        "pictures": _first(row, _BEFORE) or (_first(row, _PICTURE) if _first(row, _TARGET) else None),
    }
    for name in ("prompt", "picture"):
        if found[name] is None:
            raise UserError(f"{where}: no column is its {name} ({_has(row)}); columns: {{{name}: ...}} names it")
    return _of_columns(row, where, opened, {name: column for name, column in found.items() if column})


def check_columns(columns: Mapping[str, Any]) -> None:
    """Raises: UserError on a part that an example does not have."""
    for name in columns:
        if name not in _KNOWN:
            raise UserError(
                f"columns: there is no {name!r} of an example{did_you_mean(name, _KNOWN)} (it has {', '.join(_KNOWN)})"
            )
    for name in ("prompt", "picture"):
        if name not in columns and not (name == "picture" and "answer" in columns):
            raise UserError(f"columns: it names the {', '.join(columns)} of an example and no {name}; add {name}: ...")


def _of_columns(row: Mapping[str, Any], where: str, opened: Opened, columns: Mapping[str, Any]) -> Example:
    before = columns.get("pictures", [])
    before = [before] if isinstance(before, str) else before
    used = [*(columns[name] for name in ("prompt", "picture", "answer") if name in columns), *before]
    for column in used:
        if column not in row:
            raise UserError(f"{where}: there is no column {column!r}{did_you_mean(column, row)} ({_has(row)})")
    text = row[columns["prompt"]]
    text = text[0] if isinstance(text, list) and len(text) == 1 else text
    if "picture" not in columns:
        return _question(row, where, text, None, [row[columns["answer"]]], used)
    [cell] = _one(_cells(row[columns["picture"]]), where, f"{columns['picture']!r}")
    if "answer" in columns:
        return _question(row, where, text, opened(cell), [row[columns["answer"]]], used)
    references = [opened(cell) for column in before for cell in _cells(row[column])]
    return Example(_prompt(row, where, text, references, used), opened(cell))


def _of_turns(row: Mapping[str, Any], key: str, where: str, opened: Opened) -> Example:
    cells = [cell for name in ("image", "images") for cell in _cells(row.get(name))]
    asked, answered = _asked_and_answered(row, key, where)
    given, wanted = asked[0].count(MARK), sum(text.count(MARK) for text in answered)
    if wanted > 1:
        raise UserError(f"{where}: its answer is {wanted} pictures, and a policy writes one; leave such rows out")
    if wanted and len(answered) > 1:
        raise UserError(
            f"{where}: a picture is the answer in a conversation of {len(answered)} questions, and a policy draws for "
            f"one; leave such rows out"
        )
    if any(MARK in text for text in asked[1:]):
        raise UserError(
            f"{where}: a picture is shown behind the first question, and a policy reads it in that; leave such rows out"
        )
    if len(cells) != given + wanted:
        raise UserError(f"{where}: {key!r} has {given + wanted} marks {MARK}, and the row {len(cells)} pictures")
    used, text = (key, "image", "images"), _plain(asked[0])
    if wanted:
        *before, picture = cells
        return Example(_prompt(row, where, text, [opened(cell) for cell in before], used), opened(picture))
    if len(cells) > 1:
        raise UserError(
            f"{where}: its answer is words, and its question holds {len(cells)} pictures; a policy answers about one; "
            f"leave such rows out"
        )
    shown = opened(cells[0]) if cells else None
    return _question(row, where, text, shown, answered, used, further=[_plain(one) for one in asked[1:]])


def _asked_and_answered(row: Mapping[str, Any], key: str, where: str) -> tuple[list[str], list[str]]:
    """Questions, and the answer to each."""
    turns = [(role, text) for role, text in (_turn(turn, where) for turn in row[key]) if role in (*_ASKS, *_ANSWERS)]
    asked, answered = ([text for role, text in turns if role in roles] for roles in (_ASKS, _ANSWERS))
    in_turn = all((role in _ANSWERS) == bool(place % 2) for place, (role, _) in enumerate(turns))
    if not asked or len(asked) != len(answered) or not in_turn:
        raise UserError(
            f"{where}: {key!r} has {len(asked)} questions and {len(answered)} answers; behind each question must stand "
            f"its answer"
        )
    return asked, answered


def _plain(text: str) -> str:
    return " ".join(text.replace(MARK, " ").split())


def _turn(turn: object, where: str) -> tuple[str, str]:
    """(role, text) in either spelling; parts of pictures become marks."""
    if not isinstance(turn, Mapping):
        raise UserError(f"{where}: a turn of its conversation is {turn!r}, and must be a mapping of role and content")
    role, content = turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))
    if isinstance(content, list):
        content = " ".join(MARK if one.get("type") == "image" else str(one.get("text", "")) for one in content)
    return str(role), str(content or "")


def _prompt(
    row: Mapping[str, Any], where: str, text: object, pictures: Sequence[Picture], used: Sequence[str]
) -> Prompt:
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{where}: its prompt must be text, got {text!r}")
    named = [row[key] for key in _IDS if isinstance(row.get(key), (str, int))]
    metadata = {key: value for key, value in row.items() if key not in (*used, *_IDS) and _is_plain(value)}
    return Prompt(str(named[0]) if named else where, text.strip(), metadata, tuple(pictures), where)


def _question(
    row: Mapping[str, Any],
    where: str,
    text: object,
    picture: Picture | None,
    answers: Sequence[object],
    used: Sequence[str],
    *,
    further: Sequence[str] = (),
) -> Example:
    """``further``: what is asked behind the first answer, which the others answer."""
    said = [_answer(one, where) for one in answers]
    prompt = _prompt(row, where, text, [picture] if picture else [], used)
    task = {TASK: "answer"} if picture else {}  # elsewhere a question is about a picture
    prompt = replace(prompt, metadata={**prompt.metadata, **task, _ANSWER: said[0]})
    if "" in further:
        raise UserError(f"{where}: its prompt must be text, got ''")
    return Example(prompt, picture, answer=said[0], further=tuple(zip(further, said[1:], strict=True)))


def _answer(given: object, where: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise UserError(f"{where}: its answer must be text, got {given!r}")
    return given.strip()


def _one(cells: list[Any], where: str, column: str) -> list[Any]:
    if len(cells) != 1:
        raise UserError(f"{where}: {column} holds {len(cells)} pictures, and an example has one to learn")
    return cells


def _cells(value: object) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, (list, tuple)) else [value]


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if row.get(name) is not None), None)


def _is_plain(value: object) -> bool:
    return isinstance(value, (str, int, float, bool))


def _has(row: Mapping[str, Any]) -> str:
    names = list(map(str, row))
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"it has {', '.join(names[:_SHOWN])}{more}"
