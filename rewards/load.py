"""A component named in the YAML -> something callable, with errors that name the key, the option and the fix."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper
from typing import Any, TypeVar

from rewards.base import describe_exception
from rewards.golden import prove
from rl.config.declared import OptionNames, read_source
from rl.registry import resolve
from rl.types import Sample, UserError

T = TypeVar("T")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def load_reward(
    name: str, use: str, options: Mapping[str, object], *, probe: bool = True
) -> Callable[[Sequence[Sample]], object]:
    """The reward ``rewards.<name>``: a class is built with its options, a function gets them with every call.

    With ``probe`` it must first score its own reference pictures (``rewards.golden``), if it has any.
    Raises ``UserError`` if it cannot be imported, is not callable, does not take these options or is dead.
    """
    return load_and_prove(name, use, options, probe=probe)[0]


def load_and_prove(
    name: str, use: str, options: Mapping[str, object], *, probe: bool = True
) -> tuple[Callable[[Sequence[Sample]], object], bool]:
    """``load_reward``, and whether its reference pictures showed it alive (``False``: it has none)."""
    where = f"rewards.{name}"
    target = load("rewards", where, use)
    reward = _callable(where, target, use, options)
    try:
        return reward, probe and prove(reward)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _callable(
    where: str, target: object, use: str, options: Mapping[str, object]
) -> Callable[[Sequence[Sample]], object]:
    if inspect.isclass(target):
        reward = build(target, options, where=where, options_at=f"{where}.options", use=use)
        if not callable(reward):
            raise UserError(
                f"{where}.use: objects of class {target.__name__!r} cannot be called; "
                f"give it a `__call__(self, samples)`"
            )
        return reward
    if not callable(target):
        raise UserError(f"{where}.use: {use!r} is a {type(target).__name__}; name a function or a class instead")
    check_options(target, options, positional=1, options_at=f"{where}.options", use=use)
    return update_wrapper(partial(target, **options), target)  # with its golden(), if it has one


def load(kind: str, where: str, use: str) -> Any:
    """``registry.resolve`` with import errors turned into a ``UserError`` about the key ``where``."""
    try:
        return resolve(kind, use)
    except UserError as error:
        raise UserError(f"{where}.use: {error}") from error
    except Exception as error:  # importing a plug-in runs its code: anything can be raised
        if isinstance(error, SyntaxError | MemoryError):
            _check_source(kind, where, use)
        raise UserError(
            f"{where}.use: importing {use!r} raised {describe_exception(error)}; "
            f"install what it needs (`python -m rl.doctor` lists it) or repair the module"
        ) from error


def _check_source(kind: str, where: str, use: str) -> None:
    """Raises ``UserError`` if the component's own file is not valid Python; Python says less well where."""
    try:
        read_source(kind, use)
    except UserError as error:
        raise UserError(f"{where}.use: {error}; repair the file") from error


def build(target: Callable[..., T], options: Mapping[str, object], *, where: str, options_at: str, use: str) -> T:
    """``target(**options)``, named in the YAML at ``where`` with its options at ``options_at``;
    raises ``UserError`` if the options do not fit or the constructor raises."""
    check_options(target, options, positional=0, options_at=options_at, use=use)
    try:
        return target(**options)
    except UserError as error:
        raise UserError(_as_typed(str(error), where, options_at, use)) from error
    except Exception as error:
        raise UserError(f"{where}: {use!r} with options {dict(options)} raised {describe_exception(error)}") from error


def _as_typed(message: str, where: str, options_at: str, use: str) -> str:
    """The message of a component, which knows its own name alone, with the keys as they are typed.

    ``pickscore.options.model is 3`` -> ``rewards.mine.options.model is 3``.
    """
    typed = re.sub(rf"(?<![\w.]){re.escape(use)}\.options\b", options_at, message)
    return typed if typed.startswith((f"{options_at}.", f"{options_at}:")) else f"{where}: {typed}"


def check_options(
    target: Callable[..., object], options: Mapping[str, object], *, positional: int, options_at: str, use: str
) -> None:
    """Raises ``UserError`` naming the first option that ``target`` does not take or that is missing.

    ``positional`` arguments (the samples) come before the options.
    """
    parameters = list(inspect.signature(target).parameters.values())
    named = [p for p in parameters[positional:] if p.kind in _NAMED]
    names = OptionNames(
        takes=tuple(p.name for p in named), needs=tuple(p.name for p in named if p.default is inspect.Parameter.empty)
    )
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    for option, near in names.unknown(options) if not takes_any else ():
        known = f"it takes: {', '.join(names.takes)}" if names.takes else "it takes none at all"
        raise UserError(f"{options_at}.{option}: {use!r} takes no such option{near} ({known})")
    for option in names.missing(options):
        raise UserError(f"{options_at}: {use!r} needs the option `{option}`; add `{option}: ...`")
