"""pydantic's complaints in the words of someone who edits YAML."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from math import log10
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from rl.config.paths import PATH_ERROR
from rl.config.schema import Component, Config
from rl.registry import did_you_mean

_WANTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping (key: value)",
    "tuple_type": "must be a list",
    "finite_number": "must be a finite number",
    "string_too_short": "must not be empty",
    "too_long": "has too many values",
}
_NUMBERS = ("int_type", "float_type", "int_from_float")
_PLAIN_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
_LONG = 10**20  # longer numbers are counted, not shown
_BOUNDS = {
    "greater_than": ("must be greater than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


def explain(error: ErrorDetails) -> str:
    """One pydantic error -> one sentence with what was expected, what was found, and the likely meaning."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"])
    if kind == "missing":
        is_value = isinstance(error["loc"][-1], int)
        return f"has too few values, got {shown(value)}" if is_value else "is missing"
    if kind == "model_type":
        model = context.get("class_name", "")
        wanted = "a name or {use: name, options: {...}}" if "Component" in model else "a mapping (key: value)"
        return f"must be {wanted}, got {shown(value)}"
    if kind == "literal_error":
        return not_among(get_args(_type_at(error["loc"])), value)
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        return f"{words} {_number(context[name])}, got {shown(value)}"
    if kind == PATH_ERROR:
        return error["msg"]
    if kind == "value_error":
        return str(context["error"])
    return f"{_WANTED.get(kind, error['msg'])}, got {shown(value)}{_likely_number(kind, value)}"


def dotted(loc: Sequence[str | int]) -> str:
    """``("train", "betas", 1) -> "train.betas[1]"``."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def not_among(choices: Sequence[object], value: object) -> str:
    """The choices, what was found, and the one that is nearest to it."""
    near = did_you_mean(value, list(map(str, choices))) if isinstance(value, str) else ""
    return f"must be {' or '.join(map(repr, choices))}, got {shown(value)}{near}"


def _unknown_key(loc: Sequence[str | int]) -> str:
    key, parent = str(loc[-1]), _type_at(loc[:-1])
    known = list(parent.model_fields) if isinstance(parent, type) and issubclass(parent, BaseModel) else []
    near = did_you_mean(key, known)
    if not near:
        elsewhere = [f"{name}.{key}" for name, section in _sections().items() if key in section.model_fields]
        near = f", did you mean {elsewhere[0]!r}?" if elsewhere else ""
    if not near and isinstance(parent, type) and issubclass(parent, Component):
        near = f"; what the component itself takes goes under options: {dotted([*loc[:-1], 'options', key])}"
    return f"unknown key{near}" + ("" if near else f" (known: {', '.join(known)})")


def _sections() -> Mapping[str, type[BaseModel]]:
    fields = {name: _bare(field.annotation) for name, field in Config.model_fields.items()}
    return {
        name: kind
        for name, kind in fields.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel) and not issubclass(kind, Component)
    }


def _type_at(loc: Sequence[str | int]) -> object:
    """The annotation at a place of the schema, without ``| None``."""
    kind: object = Config
    for part in loc:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = _bare(kind.model_fields[str(part)].annotation)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        else:
            return None
    return kind


def _bare(annotation: object) -> object:
    if get_origin(annotation) in (Union, types.UnionType):
        return _bare(next(kind for kind in get_args(annotation) if kind is not type(None)))
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _likely_number(kind: str, value: object) -> str:
    """``; write 1000`` for ``1_000``, ``1,000`` and ``"1000"``, and 1.5 for ``1,5``."""
    if kind not in _NUMBERS or not isinstance(value, str):
        return ""
    bare = re.sub(r"[\s_']|,(?=\d{3}(,|$))", "", value).replace(",", ".", 1)
    return f"; write {bare}" if _PLAIN_NUMBER.fullmatch(bare) else ""


def shown(value: object) -> str:
    """As it is told in a message: its text, and what kind of value that is where it can be mistaken."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, int) and abs(value) >= _LONG:
        return f"a number of {int(value.bit_length() * log10(2)) + 1} digits"
    value = list(value) if isinstance(value, tuple) else value
    kinds: dict[type, str] = {str: "text", bool: "a boolean", list: "a list", dict: "a mapping"}
    kind = kinds.get(type(value))
    return f"{value!r}" + (f" ({kind})" if kind else "")
