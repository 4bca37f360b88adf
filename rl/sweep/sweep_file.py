"""A sweep that is written down: one YAML file with the single key ``sweep``.

sweep:
  config: ../geneval.yaml            # of one run; relative paths start at this file
  seeds: [0, 1, 2]
  set: {train.steps: 40}             # for every arm
  arms: {grpo: {}, gspo: {loss: gspo}}                     # listed, each with what it changes,
  cross: {kl.options.beta: [0, 0.005], rollout.group_size: [4, 8]}   # or crossed, or both
  baseline: grpo                     # that the others are compared with; default: the first
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.config import shipped
from rl.config.yaml12 import Entry, parse, parse_value
from rl.registry import did_you_mean
from rl.sweep.arms import Arm
from rl.types import UserError

_KEYS = ("config", "seeds", "set", "arms", "cross", "baseline")
_OWN = {"run.seed": "sweep.seeds", "run.folder": "--folder"}


@dataclass(frozen=True)
class SweepFile:
    """What the file says; ``varied`` are the axes of ``cross`` as overrides."""

    config: Path
    seeds: tuple[int, ...] | None = None
    fixed: tuple[str, ...] = ()
    arms: tuple[Arm, ...] = ()
    varied: tuple[tuple[str, ...], ...] = ()
    baseline: str | None = None


def read_sweep_file(path: Path) -> SweepFile | None:
    """None for the configuration of one run. Raises UserError for the first mistake, with its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None  # reading it as a configuration tells what is wrong
    tree, problems = parse(text, str(path))
    found = tree.entries.get("sweep")
    if found is None:
        return None
    if problems:
        raise UserError(str(problems[0]))
    if others := [key for key in tree.entries if key != "sweep"]:
        raise _mistake(
            tree.entries[others[0]], others[0], "stands beside 'sweep'; what all arms share goes into sweep.set"
        )
    for key, entry in found.entries.items():
        if key not in _KEYS:
            raise _mistake(entry, f"sweep.{key}", f"unknown key{did_you_mean(key, _KEYS)}")
    return SweepFile(
        config=_config(path, found),
        seeds=_seeds(found.entries.get("seeds")),
        fixed=tuple(_overrides(found.entries.get("set"), "sweep.set")),
        arms=tuple(_arms(found.entries.get("arms"))),
        varied=tuple(_axes(found.entries.get("cross"))),
        baseline=_baseline(found.entries.get("baseline")),
    )


def _config(path: Path, found: Entry) -> Path:
    named = found.entries.get("config")
    if named is None or not isinstance(named.value, str):
        raise _mistake(named or found, "sweep.config", "must name the YAML of one run, such as ../geneval.yaml")
    beside = shipped.find(path.parent / named.value)
    if not beside.is_file():
        raise _mistake(named, "sweep.config", f"there is no file {str(beside)!r}")
    try:
        return beside.resolve().relative_to(Path.cwd())
    except ValueError:
        return beside


def _seeds(entry: Entry | None) -> tuple[int, ...] | None:
    if entry is None:
        return None
    values = entry.plain()
    if not isinstance(values, list) or not values or any(type(one) is not int for one in values):
        raise _mistake(entry, "sweep.seeds", f"must be a list of whole numbers, such as [0, 1, 2], got {values!r}")
    return tuple(values)


def _overrides(entry: Entry | None, key: str) -> Iterator[str]:
    """The mapping's entries as ``key=value``."""
    if entry is None or entry.value is None:
        return
    if not entry.is_mapping:
        raise _mistake(entry, key, "must be a mapping, such as {loss: gspo, train.lr: 1e-4}")
    for name, value in entry.entries.items():
        yield f"{_allowed(value, key, name)}={value_text(value.plain())}"


def _arms(entry: Entry | None) -> Iterator[Arm]:
    if entry is None:
        return
    if not entry.is_mapping or not entry.entries:
        raise _mistake(entry, "sweep.arms", "must be a mapping of names, such as {grpo: {}, gspo: {loss: gspo}}")
    for name, changes in entry.entries.items():
        yield Arm(str(name), tuple(_overrides(changes, f"sweep.arms.{name}")))


def _axes(entry: Entry | None) -> Iterator[tuple[str, ...]]:
    if entry is None:
        return
    if not entry.is_mapping:
        raise _mistake(entry, "sweep.cross", "must be a mapping of lists, such as {loss: [grpo, gspo]}")
    for name, values in entry.entries.items():
        found = values.plain()
        if not isinstance(found, list) or not found:
            raise _mistake(values, f"sweep.cross.{name}", f"must be a list of values, got {found!r}")
        key = _allowed(values, "sweep.cross", name)
        yield tuple(f"{key}={value_text(value)}" for value in found)


def _baseline(entry: Entry | None) -> str | None:
    return None if entry is None or entry.value is None else str(entry.value)


def _allowed(entry: Entry, key: str, name: str) -> str:
    if name in _OWN:
        raise _mistake(entry, f"{key}.{name}", f"is set by the sweep: use {_OWN[name]}")
    return name


def value_text(value: object) -> str:
    """As it is typed on a command line: ``gspo``, ``0.005``, ``{"use": "grpo"}``."""
    if isinstance(value, str) and value and parse_value(value) == value:
        return value
    return json.dumps(_strings(value), ensure_ascii=False)


def _strings(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _strings(one) for key, one in value.items()}
    return [_strings(one) for one in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def _mistake(entry: Entry, key: str, message: str) -> UserError:
    return UserError(f"{entry.origin}: {key}: {message}")
