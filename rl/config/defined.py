"""Whether a module of one's own has the name that a configuration asks for, told from its source alone."""

from __future__ import annotations

import ast
import re

from rl.registry import did_you_mean, is_module_attr, source_file

_MADE_OTHERWISE = re.compile(r"\bimport\s*\*|\b(__getattr__|globals|exec|setattr)\b")


def missing_name(use: str) -> str | None:
    """What is wrong with ``module:attr``; None where the name stands in the source, or may be made by running it."""
    if not is_module_attr(use):
        return None
    module, _, name = use.partition(":")
    path = source_file(module)
    if path is None:
        return None
    text = path.read_bytes().decode("latin-1")  # names in the way asked for are ASCII or else not judged
    if not name.isascii() or re.search(rf"\b{name}\b", text) or _MADE_OTHERWISE.search(text):
        return None
    body = ast.parse(path.read_bytes()).body
    public = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    return f"module {module!r} has no {name!r}{did_you_mean(name, public)}"
