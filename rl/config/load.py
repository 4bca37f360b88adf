"""YAML files and ``key=value`` overrides -> one checked :class:`rl.config.schema.Config`, or all mistakes.

Layers, each on top of the one before: the schema's defaults, the files named by ``extends`` (depth first, left
to right, each file once), the file itself, the overrides in the order given. Mappings merge key by key, everything
else is replaced. A component may be written as its name (``loss: dapo``); naming another ``use`` drops the
options inherited so far; ``null`` removes a component. Relative paths inside ``extends`` start at the file that
holds them, every other path at the current folder (``rl.config.paths``); configs/... and examples/... that are not
there are the package's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from rl import registry
from rl.config import shipped
from rl.config.declared import declarations, wrong_options
from rl.config.messages import dotted, explain
from rl.config.origins import COMMAND_LINE, DEFAULTS, Origins
from rl.config.paths import expanded
from rl.config.rules import check
from rl.config.schema import ABSENT_SECTIONS, SHORT_SECTIONS, Config, component_kind, holds_components
from rl.config.source import missing_name
from rl.config.yaml12 import Entry, Origin, Problem, parse, parse_value, to_yaml
from rl.types import UserError

_KEY = re.compile(r"[^\s.=]+(\.[^\s.=]+)*")
_COMMAND_LINE = Origin(COMMAND_LINE)
_DECIDING = {"trainers", "schedule"}  # where one of these is wrong, the rules would be about another run


def load(path: str | Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read a run. ``load("examples/geneval.yaml", ["train.steps=10", "rewards.ocr=null", "loss=dapo"])``.

    Without a ``path`` the overrides stand on the defaults alone.
    Raises UserError listing every mistake with file, line and key.
    """
    return load_with_origins(path, overrides)[0]


def load_with_origins(
    path: str | Path | None, overrides: Sequence[str] = (), *, rules: bool = True
) -> tuple[Config, Origins]:
    """The same, and where its keys were written, for what is found out later. Raises as :func:`load`.

    ``rules``: off for what is only compared with another configuration and never run as it is.
    """
    reading = _Reading()
    if path is not None:
        reading.add_file(shipped.find(Path(path)), None)
    for override in overrides:
        reading.add_override(override)
    tree = reading.merged()
    config = _validated(tree, reading, default_folder=f"runs/{Path(path or 'run').stem}", rules=rules)
    if reading.problems or config is None:
        raise UserError(_message(reading.problems))
    return config, Origins(tree)


def dump(config: Config) -> str:
    """The whole run as YAML; :func:`load` reads it back identically."""
    head = "# Complete: nothing is inherited, not even the defaults of components.\nextends: null\n"
    return head + to_yaml(config.model_dump(mode="json"))


@dataclass
class _Reading:
    """The layers found so far and every mistake on the way."""

    layers: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    broken: bool = False  # a layer is missing: what looks absent below may well be there
    _seen: set[Path] = field(default_factory=set)
    _open: list[Path] = field(default_factory=list)

    def add_file(self, path: Path, asked_by: Origin | None) -> None:
        real = path.resolve()
        if real in self._open:
            circle = [p.name for p in self._open[self._open.index(real) :]] + [real.name]
            self._fail(asked_by or Origin(str(path)), "extends", f"the files go in a circle: {' -> '.join(circle)}")
            return
        if real in self._seen:
            return
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            self._fail(asked_by or Origin(str(path)), "extends" if asked_by else "", _unreadable(path, error))
            return
        except UnicodeDecodeError:
            self._fail(Origin(str(path)), "", "is not UTF-8 text")
            return
        self._seen.add(real)
        self._open.append(real)
        self._add_layer(text, path)
        self._open.pop()

    def _add_layer(self, text: str, path: Path) -> None:
        tree, problems = parse(text, str(path))
        self.problems += problems
        self.broken |= any(not problem.key for problem in problems)
        if not tree.is_mapping:
            self._fail(tree.origin, "", "a configuration is a mapping (key: value)")
            return
        parents = tree.entries.pop("extends", None)
        if parents is not None and parents.value is None:
            self.layers.clear()  # ``extends: null``: a complete file, as written by dump()
            self.layers.append(Entry(None, tree.origin))
        elif parents is not None:
            for parent in self._parents(parents):
                self.add_file(_beside(path, parent), parents.origin)
        self.layers.append(tree)

    def _parents(self, entry: Entry) -> list[str]:
        named = entry.value if isinstance(entry.value, list) else [entry.value]
        files = [name for name in named if isinstance(name, str) and name]
        if len(files) == len(named):
            try:
                return [expanded(file) for file in files]
            except PydanticCustomError as error:
                self._fail(entry.origin, "extends", str(error))
                return []
        self._fail(entry.origin, "extends", f"must be a file name or a list of file names, got {entry.plain()!r}")
        return []

    def _fail(self, origin: Origin, key: str, message: str) -> None:
        self.problems.append(Problem(origin, key, message))
        self.broken = True

    def add_override(self, text: str) -> None:
        key, equals, raw = text.partition("=")
        if not equals or not _KEY.fullmatch(key):
            message = f"{text!r} is not of the form key=value, for example train.lr=1e-5"
            self.problems.append(Problem(_COMMAND_LINE, "", message))
            return
        if key == "extends":
            self.problems.append(Problem(_COMMAND_LINE, key, "can be written in a file only"))
            return
        if not raw:
            message = f"nothing after '='; to remove it write {key}=null, for empty text {key}='\"\"'"
            self.problems.append(Problem(_COMMAND_LINE, key, message))
            return
        try:
            entry = _entry(parse_value(raw), _COMMAND_LINE)
        except ValueError as error:
            self.problems.append(Problem(_COMMAND_LINE, key, f"{raw!r} can't be read: {error}"))
            return
        for part in reversed(key.split(".")):
            entry = Entry({part: entry}, _COMMAND_LINE)
        self.layers.append(entry)

    def merged(self) -> Entry:
        tree = _entry(Config().model_dump(mode="json"), DEFAULTS)
        for layer in self.layers:
            tree = Entry({}, layer.origin) if layer.value is None else self._merge(tree, layer, ())
        return tree

    def _merge(self, base: Entry | None, new: Entry, path: tuple[str, ...]) -> Entry:
        kind = component_kind(path) if path else None
        if kind and isinstance(new.value, str):
            new = Entry({"use": new}, new.origin)
        if path in SHORT_SECTIONS and isinstance(new.value, str):
            new = Entry({SHORT_SECTIONS[path]: new}, new.origin)
        if holds_components(path) and new.value is None:
            return Entry({}, new.origin)
        if not new.is_mapping:
            return new
        if path in ABSENT_SECTIONS and base is not None and not base.is_mapping:
            base = _entry(ABSENT_SECTIONS[path]().model_dump(mode="json"), DEFAULTS)
        merged = dict(base.entries) if base is not None else {}
        if kind and "use" in new.entries and "use" in merged and merged["use"].value != new.entries["use"].value:
            merged.pop("options", None)
        for key, entry in new.entries.items():
            if holds_components(path) and entry.value is None:
                self._remove(merged, (*path, key), entry.origin)
            else:
                merged[key] = self._merge(merged.get(key), entry, (*path, key))
        return Entry(merged, new.origin)

    def _remove(self, components: dict[str, Entry], path: tuple[str, ...], origin: Origin) -> None:
        if components.pop(path[-1], None) is None and not self.broken:
            near = registry.did_you_mean(path[-1], components)
            what = path[0].removesuffix("s")
            self.problems.append(Problem(origin, dotted(path), f"there is no such {what} to remove{near}"))


def _validated(tree: Entry, reading: _Reading, default_folder: str, rules: bool) -> Config | None:
    """The config, with every schema, registry and, by the ``rules``, cross-section problem added to ``reading``."""
    plain: dict[str | int, object] = {key: entry.plain() for key, entry in tree.entries.items()}
    run = plain.get("run")
    if isinstance(run, dict) and run.get("folder") is None:
        run["folder"] = default_folder
    config, wrong = _parsed(plain)
    for loc, message, missing in wrong:
        if not (missing and reading.broken):
            reading.problems.append(Problem(_origin(tree, loc), dotted(loc), message))
    reading.problems += _registry_problems(tree)
    # With the wrong values left out, the rules across sections can still be checked in the same round.
    rest = config or _parsed(_without(plain, [loc for loc, _, _ in wrong]))[0]
    touched = {loc[0] for loc, _, _ in wrong}
    if rules and rest is not None and not reading.broken and not touched & _DECIDING:
        for key, message in check(rest):
            if key.partition(".")[0] not in touched:
                reading.problems.append(Problem(_origin(tree, key.split(".")), key, message))
    return config


def _parsed(plain: Mapping[str | int, object]) -> tuple[Config | None, list[tuple[tuple[str | int, ...], str, bool]]]:
    try:
        return Config.model_validate(plain), []
    except ValidationError as errors:
        details = errors.errors(include_url=False)
        return None, [(error["loc"], explain(error), error["type"] == "missing") for error in details]


def _registry_problems(tree: Entry) -> Iterator[Problem]:
    for path, entry in _component_entries(tree):
        kind, use = component_kind(path), entry.entries.get("use")
        if kind is None or use is None or not isinstance(use.value, str) or not use.value:
            continue
        options = entry.entries.get("options") or Entry({}, use.origin)
        given = options.entries
        try:
            wrong = list(wrong_options(kind, use.value, given))
            declarations(kind, use.value)
        except UserError as error:
            yield Problem(use.origin, dotted(path), str(error))
            continue
        if missing := missing_name(use.value):
            yield Problem(use.origin, dotted((*path, "use")), missing)
        for option, message in wrong:
            origin = given[option].origin if option in given else use.origin
            yield Problem(origin, dotted((*path, "options", option)), message)
    engine = tree.find(("rollout", "engine"))
    if engine is not None and isinstance(engine.value, str) and engine.value != "auto":
        try:
            registry.locate("samplers", engine.value)
        except UserError as error:
            yield Problem(engine.origin, "rollout.engine", str(error))


def _component_entries(tree: Entry) -> Iterator[tuple[tuple[str, ...], Entry]]:
    for section, entry in tree.entries.items():
        if entry.is_mapping and component_kind((section,)):
            yield (section,), entry
        else:
            for name, inner in entry.entries.items():
                if inner.is_mapping and component_kind((section, name)):
                    yield (section, name), inner


def _origin(tree: Entry, loc: Sequence[str | int]) -> Origin:
    """Of the deepest entry on the way to ``loc``."""
    entry = tree
    for part in loc:
        if (inner := entry.entries.get(str(part))) is None:
            break
        entry = inner
    return entry.origin


def _without(plain: Mapping[str | int, object], locs: Sequence[Sequence[str | int]]) -> dict[str | int, object]:
    """A copy that lacks the values at ``locs`` (of a list or a missing key: what holds it)."""
    copy = {key: _without(value, []) if isinstance(value, dict) else value for key, value in plain.items()}
    for loc in locs:
        holder = copy
        for part in loc[:-1]:
            inner = holder.get(part)
            if not isinstance(inner, dict):
                break
            holder = inner
        for wrong in [part for part in reversed(loc) if part in holder][:1]:
            del holder[wrong]
    return copy


def _entry(plain: object, origin: Origin) -> Entry:
    if isinstance(plain, dict):
        return Entry({str(key): _entry(value, origin) for key, value in plain.items()}, origin)
    return Entry(plain, origin)


def _beside(file: Path, parent: str) -> Path:
    """``examples/a.yaml`` extending ``../configs/b.yaml`` -> ``configs/b.yaml``, short enough to read in a message."""
    joined = file.parent / parent
    if not joined.exists() and (ours := shipped.find(Path(parent))).exists():
        joined = ours
    try:
        return joined.resolve().relative_to(Path.cwd())
    except ValueError:
        return joined


def _unreadable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        near = registry.did_you_mean(
            path.name, [p.name for p in path.parent.glob("*.yaml")] + shipped.names_beside(path)
        )
        return f"there is no file {str(path)!r}{near}"
    if (run := path / "config.yaml").is_file():
        return f"{str(path)!r} is a folder; the configuration of its run is {str(run)!r}"
    return f"can't read {str(path)!r}: {error.strerror}"


def _message(problems: Sequence[Problem]) -> str:
    lines = list(dict.fromkeys(str(problem) for problem in problems))
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} problems in the configuration:\n" + "\n".join(f"  {line}" for line in lines)
