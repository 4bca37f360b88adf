"""What a resumed run goes on with: its saved configuration, and of what is typed now only what may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rl.config.load import load
from rl.config.schema import Config
from rl.config.values import AUTO
from rl.run_folder.claim import CONFIG_FILE
from rl.types import UserError

MAY_CHANGE = (
    "train.steps",
    "train.ranks",
    "train.micro_batch",
    "render.micro_batch",
    "decoder.micro_batch",
    "checkpoint.",
    "tracking.",
    "guards.",
    "reward_pool.",
    "eval.every",
    "cluster.",
    "run.folder",
)
_SHOWN = 5
_MISSING = object()


@dataclass(frozen=True)
class Difference:
    """One key whose value is another one than the saved one."""

    key: str
    saved: object
    now: object

    @property
    def allowed(self) -> bool:
        return any(self.key == one or (one.endswith(".") and self.key.startswith(one)) for one in MAY_CHANGE)

    @property
    def texts(self) -> tuple[str, str]:
        """Both values as they are told."""
        return _shown(self.saved), _shown(self.now)

    def __str__(self) -> str:
        was, now = self.texts
        return f"{self.key} (was {was}, now {now})"


@dataclass(frozen=True)
class Resumed:
    """``config``: what the run goes on with; ``changed``: what was typed and may change; ``ignored``: where the file
    that was named differs from what was saved."""

    config: Config
    changed: Sequence[Difference]
    ignored: Sequence[Difference]


def resumed(folder: Path, typed: Config, overrides: Sequence[str]) -> Resumed:
    """``typed``: what the command says by itself, of which ``overrides`` were written as ``key=value``.

    Overrides of the first start need not be repeated. Raises: UserError naming every override that would make it
    another run.
    """
    file = folder / CONFIG_FILE
    saved = load(file)
    before, now = saved.model_dump(mode="json"), as_found(typed, saved).model_dump(mode="json")
    meant = {text: list(_override_differences(text, before, now)) for text in overrides}
    changed = [one for found in meant.values() for one in found if one.key != "run.folder"]
    refused = [one for one in changed if not one.allowed]
    if refused:
        raise UserError(
            f"{file}: a resumed run must keep its configuration, but these keys differ: {listed(refused)}; leave them "
            "out to resume, or start a new run in another run.folder (only train.steps, train.ranks, eval.every, "
            "train.micro_batch, render.micro_batch, decoder.micro_batch, cluster.*, checkpoint.*, tracking.*, "
            "guards.* and reward_pool.* may change)."
        )
    config = load(file, [text for text, found in meant.items() if found and not text.startswith("run.")])
    config = config.model_copy(update={"run": config.run.model_copy(update={"folder": str(folder)})})
    said = {one.key for one in changed} | {"run.folder"}
    ignored = [one for one in differences(before, now) if one.key not in said]
    return Resumed(config, changed, ignored)


def as_found(typed: Config, saved: Config) -> Config:
    """``typed``, where ``auto`` is the number that the first start has found."""
    for section in ("train", "render", "decoder"):
        both = getattr(typed, section), getattr(saved, section)
        if None not in both and both[0].micro_batch == AUTO:
            found = {"micro_batch": getattr(saved, section).micro_batch}
            typed = typed.model_copy(update={section: getattr(typed, section).model_copy(update=found)})
    return typed


def differences(saved: object, now: object, key: str = "") -> Iterator[Difference]:
    """Every key with two values. A component of another name is one difference, whatever its options."""
    if not (isinstance(saved, Mapping) and isinstance(now, Mapping)):
        if saved != now:
            yield Difference(key, saved, now)
        return
    if saved.get("use") != now.get("use"):
        yield Difference(f"{key}.use" if "use" in saved and "use" in now else key, saved, now)
        return
    for name in sorted(saved.keys() | now.keys()):
        inner = f"{key}.{name}" if key else str(name)
        yield from differences(saved.get(name, _MISSING), now.get(name, _MISSING), inner)


def listed(found: Sequence[Difference]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(map(str, found[:_SHOWN])) + more


def _override_differences(text: str, saved: object, now: object) -> Iterator[Difference]:
    key, _, value = text.partition("=")
    old, new = _at(saved, key), _at(now, key)
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "use" in new and not value.lstrip().startswith("{"):
        old, new = {"use": old.get("use")}, {"use": new.get("use")}  # a name alone says nothing of the options
    absent = (None, _MISSING)
    if not (old in absent and new in absent):
        yield from differences(old, new, key)


def _at(tree: object, key: str) -> object:
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return _MISSING
        tree = tree[part]
    return tree


def _shown(value: object) -> str:
    if value is _MISSING:
        return "not set"
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return str(value["use"]) if "use" in value else "a mapping"
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return str(value)
