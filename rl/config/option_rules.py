"""What the options of a component must be: of the type that is written for them, and within what it declares."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import inf, isnan

from rl.config.declared import Declarations, Source, declared_or_nothing, read_source
from rl.config.messages import not_among, shown
from rl.config.schema import Config, components
from rl.config.section import Component
from rl.registry import resolve
from rl.types import UserError

_WORDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text"}


def check_options(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every option with a value that its component can't use."""
    for path, kind, component in components(config):
        for option, message in wrong_values(kind, component, config.render.steps).items():
            yield ".".join((*path, "options", option)), message


def wrong_values(kind: str, component: Component, steps: int | None = None) -> dict[str, str]:
    """What is wrong with each option. ``steps``: with which a decoder's sampler must agree; ``None``: not asked."""
    declared, source = declared_or_nothing(kind, component.use), _source(kind, component.use)
    wrong = dict(_alone(component, declared, source))
    if not wrong and source is not None and _takes_all(source, component):
        wrong = dict(_together(kind, component, declared, source, steps))
    return wrong


def _source(kind: str, use: str) -> Source | None:
    try:
        return read_source(kind, use)
    except UserError:  # a name that there is not, or broken source: told already
        return None


def _takes_all(source: Source, component: Component) -> bool:
    """Or else an option that is meant may stand there under another name, which is told already."""
    options = source.options()
    return options is not None and not options.unknown(component.options)


def _alone(component: Component, declared: Declarations, source: Source | None) -> Iterator[tuple[str, str]]:
    """Each option by itself."""
    for option, value in component.options.items():
        if option in declared.not_negative and value is not None and not _is_not_negative(value):
            yield option, f"must be a number that is not negative, got {value!r}"
        elif option in declared.positive and value is not None and (not _is_not_negative(value) or value == 0):
            yield option, f"must be a number above 0, got {value!r}"
        elif option in declared.fraction and not _is_fraction(value):
            yield option, f"must be a number from 0 to 1, got {value!r}"
        elif isinstance(value, float) and isnan(value):
            yield option, "is .nan, which is no number"
        elif source is not None and (wrong := _mistyped(option, value, source)):
            yield option, wrong


def _together(
    kind: str, component: Component, declared: Declarations, source: Source, steps: int | None
) -> Iterator[tuple[str, str]]:
    values = source.defaults() | component.options
    on = [option for option in declared.exclusive if values.get(option) not in (None, False)]
    if len(on) > 1:
        yield on[-1], f"{' and '.join(on)} exclude each other; set one of them"
    numbers = [(one, value) for one in declared.rising if isinstance(value := values.get(one), (int, float))]
    for (low, least), (high, most) in pairwise(numbers):
        if least > most:
            yield low, f"is {least}, above {high} ({most}), so that nothing lies between them"
    if declared.options_problem and steps is not None:
        problem = resolve(kind, declared.options_problem)
        if found := problem(values, steps):
            yield found


def _is_not_negative(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < inf


def _is_fraction(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _mistyped(option: str, value: object, source: Source) -> str | None:
    """What is wrong with a value by the type that is written; None where that says nothing that can be told here, or
    is not true of the default either."""
    types = _alternatives(source.annotation(option))
    defaults = source.defaults()
    if not types or _fits(value, types) or (option in defaults and not _fits(defaults[option], types)):
        return None
    choices = [choice for one in types if isinstance(one, ast.Subscript) for choice in _choices(one)]
    if choices:
        return not_among(choices, value)
    words = [_WORDS[one.id] for one in types if isinstance(one, ast.Name)]
    nothing = " or null" if len(words) < len(types) else ""
    return f"must be {' or '.join(words)}{nothing}, got {shown(value)}"


def _alternatives(annotation: ast.expr | None) -> Sequence[ast.expr]:
    """``float | None`` -> both; nothing where one of them is more than a plain type, ``Literal`` or ``None``."""
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        sides = [_alternatives(side) for side in (annotation.left, annotation.right)]
        return [one for side in sides for one in side] if all(sides) else []
    plain = isinstance(annotation, ast.Name) and annotation.id in _WORDS
    nothing = isinstance(annotation, ast.Constant) and annotation.value is None
    return [annotation] if annotation is not None and (plain or nothing or _choices(annotation)) else []


def _choices(annotation: ast.expr) -> list[object]:
    """Of ``Literal["t", "t2"]``."""
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value) not in ("Literal", "typing.Literal"):
        return []
    listed = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    return [one.value for one in listed if isinstance(one, ast.Constant)]


def _fits(value: object, types: Sequence[ast.expr]) -> bool:
    return any(_is(value, one) for one in types)


def _is(value: object, kind: ast.expr) -> bool:
    if isinstance(kind, ast.Constant):
        return value is None
    if isinstance(kind, ast.Subscript):
        return value in _choices(kind)
    plain: dict[str, tuple[type, ...]] = {"float": (int, float), "int": (int,), "bool": (bool,), "str": (str,)}
    name = kind.id if isinstance(kind, ast.Name) else ""
    return isinstance(value, plain[name]) and (name == "bool" or not isinstance(value, bool))
