"""The arms of a sweep: what is compared with what, listed by name or crossed from ``key=a,b,c``."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rl.types import UserError

SEED_KEY = "seed"


@dataclass(frozen=True)
class Arm:
    """A name, and what it changes in the run's configuration."""

    name: str
    overrides: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """For a folder: ``loss=gspo train.lr=1e-4`` -> ``loss=gspo-train.lr=1e-4``; stays when arms are added."""
        return re.sub(r"[^\w.=+-]+", "-", self.name).strip("-.") or "arm"


def settings(overrides: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """``["a=1", "b=2,3"]`` -> the fixed ones ``["a=1"]`` and the varied ones ``[["b=2", "b=3"]]``.

    A comma inside brackets or quotes does not split: ``train.betas=[0.9,0.95]`` is one value. Raises UserError
    for anything that is not ``key=value``, and for ``run.seed`` and ``run.folder``, which the sweep sets itself.
    """
    fixed, varied = [], []
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise UserError(f"{override!r} is not an override: write key=value, or key=a,b,c for one run of each")
        if key in ("run.seed", "run.folder"):
            raise UserError(f"{key} is set by the sweep: use --seeds and --folder instead of {override!r}")
        values = split_values(value)
        if len(values) == 1:
            fixed.append(override)
        else:
            varied.append([f"{key}={one}" for one in values])
    return fixed, varied


def seeds_among(axes: Sequence[str]) -> tuple[list[str], list[int] | None]:
    """``["loss=a,b", "seed=0,1"]`` -> ``["loss=a,b"]`` and ``[0, 1]``. Raises UserError for a wrong seed."""
    rest = [one for one in axes if one.partition("=")[0] != SEED_KEY]
    given = [one.partition("=")[2] for one in axes if one.partition("=")[0] == SEED_KEY]
    if not given:
        return rest, None
    texts = [text.strip() for one in given for text in one.split(",")]
    if wrong := [text for text in texts if not re.fullmatch(r"-?\d+", text)]:
        raise UserError(f"--sweep seed={','.join(texts)}: {wrong[0]!r} is not a whole number")
    return rest, [int(text) for text in texts]


def crossed(listed: Sequence[Arm], varied: Sequence[Sequence[str]], only: str) -> list[Arm]:
    """Every listed arm with every combination of the varied overrides; ``only``: the name where there is nothing to
    choose. Raises UserError if a key is varied twice, or two arms would have one name or one folder."""
    if twice := _twice(axis[0].partition("=")[0] for axis in varied):
        raise UserError(f"{twice} is varied twice in the sweep: write all its values in one list")
    arms = []
    for arm in listed or [Arm("")]:
        for choice in itertools.product(*varied):
            name = " ".join(part for part in (arm.name, *choice) if part)
            arms.append(Arm(name or only, (*arm.overrides, *choice)))
    for what, texts in (("name", [arm.name for arm in arms]), ("folder", [arm.slug for arm in arms])):
        if twice := _twice(texts):
            raise UserError(f"two arms of the sweep have the {what} {twice!r}: every arm needs its own")
    return arms


def split_values(text: str) -> list[str]:
    """Splits at commas outside brackets and quotes."""
    values, depth, quote, start = [], 0, "", 0
    for index, letter in enumerate(text):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        elif letter == "," and depth == 0:
            values.append(text[start:index])
            start = index + 1
    return [*values, text[start:]]


def _twice(texts: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for text in texts:
        if text in seen:
            return text
        seen.add(text)
    return None
