"""A JSON schema of run files, for editors that complete and check YAML.

It accepts every part of a run: nothing is required, because ``extends`` may bring it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rl.config.schema import COMPONENT_KINDS, SHORT_SECTIONS, Config
from rl.keys.reference import ComponentCard, JsonSchema, cards
from rl.registry import BUILT_IN

_OWN = {"type": "string", "pattern": r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*$", "description": "Your own: module:attr"}
_EXTENDS: JsonSchema = {
    "description": "Files whose keys this one inherits, relative to it; null: nothing, not even defaults.",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}],
}
_BOOLEAN: JsonSchema = {"anyOf": [{"type": "boolean"}, {"enum": ["on", "off", "yes", "no"]}]}


def json_schema() -> JsonSchema:
    """Of a run file; built-in components with their options, others as ``module:attr`` or any name."""
    found = _eased(Config.model_json_schema())
    definitions = found["$defs"]
    plain = definitions.pop("Component"), definitions.pop("RewardComponent")
    for path, kind in COMPONENT_KINDS.items():
        definitions[kind] = _component(kind, plain[kind == "rewards"])
        place = found
        for part in path[:-1]:
            place = _section(place["properties"][part], definitions)
        held: JsonSchema = {"$ref": f"#/$defs/{kind}"}
        if path[-1] == "*":
            place |= {"type": ["object", "null"], "additionalProperties": {"anyOf": [held, {"type": "null"}]}}
            place.pop("default", None)
        else:
            described = {key: place["properties"][path[-1]].get(key) for key in ("description", "default")}
            place["properties"][path[-1]] = {"anyOf": [held, {"type": "null"}], **described}
    for (section,), key in SHORT_SECTIONS.items():
        whole = found["properties"][section]
        word = {"enum": _section(whole, definitions)["properties"][key]["enum"]}
        found["properties"][section] = {"anyOf": [{"$ref": whole["$ref"]}, word], "description": whole["description"]}
    found["properties"] = {"extends": _EXTENDS, **found["properties"]}
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found, "title": "A run of easel-rl"}


def schema_text() -> str:
    """The file ``rl/config/schema.json``."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def _section(field: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    """The definition that a field of the schema refers to; itself if it refers to none."""
    referring = next((one for one in (field, *field.get("anyOf", ())) if "$ref" in one), None)
    found: JsonSchema = definitions[referring["$ref"].rpartition("/")[2]] if referring else field
    return found


def _eased(node: Any) -> Any:
    """Nothing required, no generated titles, words for booleans, fixed lists as draft 7 writes them."""
    if isinstance(node, list):
        return [_eased(one) for one in node]
    if not isinstance(node, Mapping):
        return node
    node = dict(node)
    if isinstance(node.get("title"), str):
        del node["title"]
    if isinstance(node.get("required"), list):
        del node["required"]
    if isinstance(node.get("prefixItems"), list):
        node["items"] = node.pop("prefixItems")
    eased = {key: value if key == "default" else _eased(value) for key, value in node.items()}
    return {**_BOOLEAN, **{k: v for k, v in eased.items() if k != "type"}} if eased.get("type") == "boolean" else eased


def _component(kind: str, plain: JsonSchema) -> JsonSchema:
    known = [card for card in cards(kind) if card.name in BUILT_IN[kind]]
    use: JsonSchema = {
        "description": plain["properties"]["use"]["description"],
        "anyOf": [{"enum": [card.name for card in known]}, _OWN],
    }
    whole = {**plain, "properties": {**plain["properties"], "use": use}}
    whole["allOf"] = [_options_of(card) for card in known if card.options is not None]
    return {"anyOf": [use, whole]}


def _options_of(card: ComponentCard) -> JsonSchema:
    described = {
        one.name: {"description": f"{one.type or 'any'}; default: {one.default}"} for one in card.options or ()
    }
    return {
        "if": {"properties": {"use": {"const": card.name}}, "required": ["use"]},
        "then": {"properties": {"options": {"properties": described, "additionalProperties": False}}},
    }
