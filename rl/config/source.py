"""A module of Python, read without importing it: what it defines, assigns and imports."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

from rl.registry import did_you_mean, is_module_attr, source_file
from rl.types import UserError

_MADE_OTHERWISE = re.compile(r"\bimport\s*\*|\b(__getattr__|globals|exec|setattr)\b")


@dataclass(frozen=True)
class SourceModule:
    name: str
    path: Path
    body: list[ast.stmt]

    def assigned(self, name: str) -> ast.expr | None:
        return next((value for node in self.body if (value := right_side(node, name)) is not None), None)

    def constant(self, name: str) -> ast.expr | None:
        """The right-hand side of ``name = ...`` here, or in the module that it is imported from."""
        if (here := self.assigned(name)) is not None:
            return here
        module, own_name = self.imported(name)
        return module.assigned(own_name) if module else None

    def defined(self, name: str) -> ast.FunctionDef | ast.ClassDef | None:
        definitions = (node for node in self.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
        return next((node for node in definitions if node.name == name), None)

    def imported(self, name: str) -> tuple[SourceModule | None, str]:
        """Where ``from module import own_name as name`` gets it, and its name there."""
        module, own_name = self.origin(name)
        return (parse_module(module) if module else None), own_name

    def origin(self, name: str) -> tuple[str, str]:
        """The module that a name is imported from, and its name there."""
        for node in self.body:
            if isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return self._absolute(node), alias.name
        return "", name

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parents = self.name.split(".")
        keep = len(parents) - node.level + (self.path.name == "__init__.py")
        return ".".join([*parents[:keep], *([node.module] if node.module else [])])


def parse_module(module: str) -> SourceModule | None:
    """None if it has no source. Raises UserError if it can't be read, or is not valid Python."""
    path = source_file(module)
    if path is None:
        return None
    try:
        return SourceModule(
            module, path, ast.parse(path.read_bytes(), str(path)).body
        )  # bytes: in the coding it declares
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise UserError(f"{path}{line}: not valid Python ({error.msg})") from error
    except (ValueError, RecursionError, MemoryError) as error:  # a NUL byte before Python 3.12; nested too deeply
        raise UserError(f"{path}: not valid Python ({str(error) or 'nested too deeply'})") from error


def right_side(node: ast.stmt, name: str) -> ast.expr | None:
    """Of ``name = ...`` or ``holder.name = ...``, with or without an annotation."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
    elif isinstance(node, ast.AnnAssign):
        target = node.target
    else:
        return None
    if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
        return node.value if f"{target.value.id}.{target.attr}" == name else None
    return node.value if isinstance(target, ast.Name) and target.id == name else None


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
