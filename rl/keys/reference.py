"""Every key of a run with its type, default and meaning, read from the schema; every component from its source."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from rl.config.declared import Source, read_source
from rl.config.schema import COMPONENT_KINDS, Config
from rl.registry import names

JsonSchema = dict[str, Any]
ANY_NAME = "NAME"
"""Stands in a key for a name that is given in the YAML, as in ``rewards.NAME.weight``."""
NEEDED = "needed"
SECTION_TYPES = ("", "mapping or null")
"""Of a section, and of one that may be absent."""
_WORTH_SAYING = 1e6  # larger bounds only catch slips


@dataclass(frozen=True)
class Key:
    """``name``: dotted. ``kind``: of the component that sits there, if one does. ``default``: as it is typed."""

    name: str
    type: str
    default: str
    doc: str
    kind: str | None = None


@dataclass(frozen=True)
class ComponentOption:
    """``default``: as it stands in the source, or ``needed``."""

    name: str
    type: str
    default: str


@dataclass(frozen=True)
class ComponentCard:
    """``options``: None if they can't be read from the source."""

    name: str
    doc: str
    options: tuple[ComponentOption, ...] | None


def all_keys() -> list[Key]:
    """In the order of the schema; a section comes before its keys."""
    schema = Config.model_json_schema()
    return list(_keys(schema, schema["$defs"], ()))


def _keys(schema: JsonSchema, definitions: JsonSchema, path: tuple[str, ...]) -> Iterator[Key]:
    for name, field in schema["properties"].items():
        here = (*path, name)
        inner = _definition(field, definitions)
        held = _definition(field.get("additionalProperties"), definitions)
        kind = COMPONENT_KINDS.get(here)
        default = NEEDED if name in schema.get("required", ()) else _typed(field.get("default", {}))
        if kind is not None:
            default = _short_component(field["default"])
            yield Key(".".join(here), "a component", default, field["description"], kind)
        elif held is not None:
            yield Key(".".join(here), "name -> component", "{}", field["description"], COMPONENT_KINDS[(name, "*")])
            yield from _keys(held, definitions, (*here, ANY_NAME))
        elif inner is not None:
            absent = "anyOf" in field
            given = "null" if absent else "{}" if path else ""
            yield Key(".".join(here), SECTION_TYPES[absent] or "mapping" * bool(path), given, field["description"])
            yield from _keys(inner, definitions, here)
        else:
            yield Key(".".join(here), type_text(field), default, field["description"])


def _definition(field: object, definitions: JsonSchema) -> JsonSchema | None:
    """What ``field`` refers to, itself or with ``null`` beside it."""
    if not isinstance(field, Mapping):
        return None
    for one in (field, *field.get("anyOf", ())):
        if "$ref" in one:
            found: JsonSchema = definitions[one["$ref"].rpartition("/")[2]]
            return found
    return None


def _typed(default: object) -> str:
    return default if isinstance(default, str) else json.dumps(default)


def _short_component(default: Mapping[str, Any] | None) -> str:
    if default is None:
        return "null"
    return json.dumps(default) if default["options"] else str(default["use"])


def type_text(field: Mapping[str, Any]) -> str:
    """``{"type": "integer", "minimum": 1}`` -> ``whole number, at least 1``."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(type_text(one) for one in field["anyOf"]))
    if "const" in field:
        return str(field["const"])
    if "enum" in field:
        return " or ".join(map(str, field["enum"]))
    if "prefixItems" in field:
        return f"[{', '.join(type_text(one) for one in field['prefixItems'])}]"
    kind = field["type"]
    if kind == "array":
        return f"list of {type_text(field['items'])}"
    words = {"integer": "whole number", "boolean": "true or false", "string": "text", "object": "mapping"}
    return field.get("format") or words.get(kind, kind) + _bounds(field)


def _bounds(field: Mapping[str, Any]) -> str:
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{word} {field[key]:g}" for key, word in limits.items() if abs(field.get(key, 2e6)) < _WORTH_SAYING]
    return "".join(f", {one}" for one in said)


def cards(kind: str) -> list[ComponentCard]:
    """All known components of a kind, built in or of an installed plug-in."""
    return [card(kind, name) for name in names(kind)]


def card(kind: str, name: str) -> ComponentCard:
    """One component. Raises UserError if its source is not valid Python."""
    source = read_source(kind, name)
    if source is None:
        return ComponentCard(name, "", None)
    options = source.options()
    called = source.called()
    if options is None or called is None:
        return ComponentCard(name, _doc(source), () if called is None else None)
    written = source.written_defaults()
    return ComponentCard(name, _doc(source), tuple(_option(one, written, source) for one in options.takes))


def _option(name: str, defaults: Mapping[str, ast.expr], source: Source) -> ComponentOption:
    default = defaults.get(name)
    literal = source.defaults().get(name)
    shown = NEEDED if default is None else json.dumps(literal) if literal is not None else ast.unparse(default)
    return ComponentOption(name, _annotation(source.annotation(name)), shown.replace("None", "null"))


def _annotation(annotation: ast.expr | None) -> str:
    """``Literal`` types by their values."""
    if annotation is None:
        return ""
    text = ast.unparse(annotation)
    if choices := re.fullmatch(r"Literal\[(.*)\]", text):
        return choices[1].replace("'", "").replace(", ", " or ")
    return text.replace("None", "null").replace("|", "or")


def _doc(source: Source) -> str:
    """Of the component, or the first paragraph of its module's."""
    own = ast.get_docstring(source.definition) if source.definition else None
    module = ast.get_docstring(ast.Module(source.module.body, [])) or ""
    return cleandoc(own or module.partition("\n\n")[0])
