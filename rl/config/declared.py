"""Which options a component takes, read from its source without importing it.

A mistyped option is then found in a fraction of a second, before torch or an OCR engine is loaded. What can't be
told from the source (``**options``, a decorated or inherited constructor, compiled code) is left to the call.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from rl.registry import did_you_mean, source_file
from rl.types import UserError


@dataclass(frozen=True)
class Signature:
    """``takes``: option names; ``needs``: those without a default."""

    takes: tuple[str, ...]
    needs: tuple[str, ...]


def wrong_options(kind: str, use: str, target: str, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """(option, message) for each option that the component at ``target`` ("module:attr") does not take or lacks."""
    signature = read_signature(kind, target)
    if signature is None:
        return
    takes = f"(it takes {', '.join(signature.takes)})" if signature.takes else "(it takes none)"
    for option in given:
        if option not in signature.takes:
            yield option, f"{use!r} has no such option{did_you_mean(option, signature.takes)} {takes}"
    for option in signature.needs:
        if option not in given:
            yield option, f"is missing; {use!r} needs it"


def read_signature(kind: str, target: str) -> Signature | None:
    """The options of a function (without the data that it works on) or of a class; None if unknown.

    Raises UserError if the module is not valid Python.
    """
    module, _, attribute = target.partition(":")
    path = source_file(module)
    if path is None or kind == "samplers":  # samplers get most of their arguments from the run itself
        return None
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: not valid Python ({error.msg})") from error
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == attribute and not node.decorator_list:
            return _options(node.args, skip=int(kind == "rewards"), required_are_options=kind in ("prompts", "rewards"))
        if isinstance(node, ast.ClassDef) and node.name == attribute and not node.decorator_list:
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                    return _options(inner.args, skip=1, required_are_options=True)
    return None


def _options(args: ast.arguments, skip: int, required_are_options: bool) -> Signature | None:
    if args.kwarg is not None:
        return None
    positional = [arg.arg for arg in args.args][max(skip - len(args.posonlyargs), 0) :]
    defaulted = positional[len(positional) - len(args.defaults) :] if args.defaults else []
    required = [name for name in positional if name not in defaulted] if required_are_options else []
    keywords = list(zip((arg.arg for arg in args.kwonlyargs), args.kw_defaults, strict=True))
    return Signature(
        takes=(*required, *defaulted, *(name for name, _ in keywords)),
        needs=(*required, *(name for name, default in keywords if default is None)),
    )
