"""YAML as users expect it: 1.2 scalars, no duplicate keys, every value with its line.

PyYAML follows YAML 1.1: ``1e-6`` is a string there, ``off`` is False, ``010`` is 8, and a repeated key
silently wins. Here ``1e-6`` is a float, only ``true`` and ``false`` are booleans, ``010`` is 10, and a
repeated key is an error. Merge keys (``<<: *name``) work as in YAML 1.1. On the command line a value is what stands
after ``=``, whatever YAML would make of ``#``, ``&``, ``|`` or ``>`` in it.

ruamel.yaml reads 1.2 too, but not this: it stops at the first repeated key, takes ``1_000`` and dates for something
else than text, and lets a tag on a list or mapping and an alias that contains itself pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import yaml

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MOST_DIGITS = 300  # a float holds no more, and Python refuses to read 4300
_TAG = "tag:yaml.org,2002:"
_RESOLVERS = [
    (_TAG + name, re.compile(f"(?:{pattern.pattern})$"))
    for name, pattern in (("null", _NULL), ("bool", _BOOL), ("int", _INT), ("float", _FLOAT))
]


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {None: _RESOLVERS}  # noqa: RUF012 - PyYAML declares it so; None: for every first character


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = {  # noqa: RUF012
        None: _RESOLVERS
    }  # quotes exactly what the loader misreads

    def ignore_aliases(self, data: object) -> bool:
        return True


@dataclass(frozen=True)
class Origin:
    """Where a value was written: a file and its line, or ``command line`` / ``defaults`` without one.

    ``merged``: the line of a ``<<`` that brings more into a mapping.
    """

    source: str
    line: int | None = None
    merged: int | None = None

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return place if self.merged is None else f"{place} (merged with << in line {self.merged})"


@dataclass(frozen=True)
class Entry:
    """A value with its origin; ``value`` is a dict of entries, or a plain scalar or list."""

    value: object
    origin: Origin

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    @property
    def entries(self) -> dict[str, Entry]:
        """Those of a mapping; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    def find(self, path: Sequence[str]) -> Entry | None:
        """What stands at ``("rollout", "engine")`` below it."""
        entry: Entry | None = self
        for part in path:
            entry = entry.entries.get(part) if entry else None
        return entry

    def plain(self) -> object:
        """The value as plain dicts, lists and scalars."""
        return {key: entry.plain() for key, entry in self.entries.items()} if self.is_mapping else self.value


@dataclass(frozen=True)
class Problem:
    """One mistake: where it was written, which key it is about, what is wrong."""

    origin: Origin
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.origin}: " + (f"{self.key}: " if self.key else "") + self.message


def parse(text: str, source: str) -> tuple[Entry, list[Problem]]:
    """Read one document. Problems: bad syntax, duplicate keys, tags, self-containing aliases.

    ``source`` names the text in messages; a text with bad syntax counts as an empty mapping.
    """
    reader = _Reader(source)
    try:
        node = _Loader(text).get_single_node()
    except yaml.YAMLError as error:
        return Entry({}, Origin(source, 1)), [_syntax_problem(error, source)]
    entry = Entry({}, Origin(source, 1)) if node is None else reader.entry(node, "")
    return entry, reader.problems


def parse_value(text: str) -> object:
    """What stands after ``key=`` on a command line: a number, ``true``, ``false`` or ``null``, a list or mapping in
    brackets, a text in quotes, and everything else as it is, ``runs/a #1`` and ``&x`` too.

    Raises ValueError saying what is wrong with it.
    """
    bare = text.strip()
    if bare.startswith(("[", "{")):
        return _flow(bare)
    if bare.startswith(("'", '"')) and (quoted := _quoted(bare)) is not None:
        return quoted
    kind = next((tag for tag, pattern in _RESOLVERS if bare and pattern.match(bare)), None)
    return _scalar(bare, kind.removeprefix(_TAG)) if kind else text


def _flow(text: str) -> object:
    entry, problems = parse(text, "command line")
    if problems:
        raise ValueError(f"{problems[0].message}; a text that begins with {text[0]} needs quotes")
    read = 0
    for token in yaml.scan(text, Loader=_Loader):
        start, end = token.start_mark.index, token.end_mark.index
        if isinstance(token, (yaml.AnchorToken, yaml.AliasToken)):
            raise ValueError(f"{text[start:end]!r} would be a name for a value in YAML; put the text in quotes")
        if text[read:start].strip():
            raise ValueError("what follows ' #' would be a comment in YAML; put the text in quotes")
        read = max(read, end)
    return entry.plain()


def _quoted(text: str) -> str | None:
    """The text in quotes; None if they don't go from its first character to its last."""
    try:
        _, token, *rest = yaml.scan(text, Loader=_Loader)
    except yaml.YAMLError:
        return None
    if len(rest) > 1 or token.end_mark.index < len(text) or not isinstance(token, yaml.ScalarToken):
        return None
    return str(token.value)


def to_yaml(tree: object) -> str:
    """Plain dicts, lists and scalars -> block YAML, keys in order, read back identically by :func:`parse`."""
    text: str = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Reader:
    """Walks the node tree of one document and collects problems on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self._open: list[yaml.Node] = []

    def entry(self, node: yaml.Node, path: str) -> Entry:
        origin = Origin(self.source, node.start_mark.line + 1)
        if any(node is parent for parent in self._open):
            self.problems.append(Problem(origin, path, "an alias contains itself"))
            return Entry(None, origin)
        self._open.append(node)
        try:
            if str(node.tag).removeprefix(_TAG) not in ("map", "seq", "str", "null", "bool", "int", "float"):
                self.problems.append(Problem(origin, path, f"the tag {node.tag} is not allowed; write a plain value"))
                return Entry(None, origin)
            if isinstance(node, yaml.MappingNode):
                items = dict(self._items(node, path))
                return Entry(items, replace(origin, merged=_merge_line(node)))
            if isinstance(node, yaml.SequenceNode):
                return Entry([self.entry(item, f"{path}[{i}]").plain() for i, item in enumerate(node.value)], origin)
            return Entry(_scalar(str(node.value), str(node.tag).removeprefix(_TAG)), origin)
        finally:
            self._open.pop()

    def _items(self, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, Entry]]:
        lines: dict[str, int] = {}
        merged: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(Origin(self.source, line), path, "a key must be a plain word"))
                continue
            key = str(key_node.value)
            inner = f"{path}.{key}" if path else key
            if key in lines:
                message = f"written twice, first in line {lines[key]}; keep one"
                self.problems.append(Problem(Origin(self.source, line), inner, message))
                continue
            lines[key] = line
            if _is_merge(key_node):
                merged = self._merged(value_node, inner)
                continue
            # The key's line, not the value's: a mapping's value starts one line below.
            entry = self.entry(value_node, inner)
            yield key, Entry(entry.value, replace(entry.origin, line=line))
        yield from ((key, entry) for key, entry in merged.items() if key not in lines)

    def _merged(self, node: yaml.Node, path: str) -> dict[str, Entry]:
        """What ``<<`` brings in, each with the line where it was first written; of several mappings the first wins."""
        found: dict[str, Entry] = {}
        for parent in reversed(node.value if isinstance(node, yaml.SequenceNode) else [node]):
            entry = self.entry(parent, path)
            found |= entry.entries
            if not entry.is_mapping:
                message = "takes a mapping or a list of mappings, such as *name"
                self.problems.append(Problem(entry.origin, path, message))
        return found


def _is_merge(key: yaml.Node) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and key.style is None  # not quoted


def _merge_line(node: yaml.MappingNode) -> int | None:
    return next((key.start_mark.line + 1 for key, _ in node.value if _is_merge(key)), None)


def _scalar(text: str, kind: str) -> str | int | float | None:
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    if kind == "int":
        if len(text) > _MOST_DIGITS:
            return float("-inf" if text.startswith("-") else "inf")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if kind == "float":
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _syntax_problem(error: yaml.YAMLError, source: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return Problem(Origin(source, mark.line + 1 if mark else None), "", f"not valid YAML: {what}")
