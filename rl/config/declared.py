"""What a component declares, read from its source without importing it: its options, and values beside it.

A class declares in its body, ``metadata = ("text",)``; a function above it, ``@declares(metadata=("text",))``. In the
module, ``bright.metadata = ("text",)``, is read as well.
Values are literals, a class called with keywords (``needs = Needs(gpus=0.5)``, read as the mapping of its keywords), or
names of literals in the same module or imported by ``from ... import``. So a mistyped option, or a prompt that no
reward can score, is found in a fraction of a second, before torch or an OCR engine is loaded. What can't be told from
the source (``**options``, a decorated or inherited constructor, compiled code) is left to the call.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from rl.config.source import SourceModule, parse_module, right_side
from rl.registry import BUILT_IN, did_you_mean, is_module_attr, locate
from rl.types import UserError

REFERENCE = ("logprobs", "hidden")
"""What a batch may hold of the reference policy."""

T = TypeVar("T")
FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


def declares(**values: object) -> Callable[[FunctionT], FunctionT]:
    """What a class writes in its body, above a function. ``@declares(least_group=2)`` sets ``grpo.least_group``."""

    def declared(function: FunctionT) -> FunctionT:
        for name, value in values.items():
            setattr(function, name, value)
        return function

    return declared


@dataclass(frozen=True)
class OptionNames:
    """``takes``: the options of a component; ``needs``: those without a default."""

    takes: tuple[str, ...]
    needs: tuple[str, ...]

    def unknown(self, given: Collection[str]) -> list[tuple[str, str]]:
        """(option, ``", did you mean 'size'?"`` or nothing) of what is given and not taken."""
        return [(option, did_you_mean(option, self.takes)) for option in given if option not in self.takes]

    def missing(self, given: Collection[str]) -> list[str]:
        """What is needed and not given."""
        return [option for option in self.needs if option not in given]


@dataclass(frozen=True)
class Declarations:
    """What a component may say about itself to the rest of a run. ``needs``, ``requires``: see ``rewards``."""

    metadata: tuple[str, ...] = ()
    """Of a reward: the keys of a prompt's metadata without which it can't score it."""
    metadata_problem: str = ""
    """Of a reward: ``module:function`` that says of a prompt's metadata what is wrong with them, or ``None``; it must
    be quick to import."""
    answers: bool = False
    """Of a reward: it judges answers in words, which others never see."""
    not_negative: tuple[str, ...] = ()
    """Options that must be numbers of 0 or more."""
    positive: tuple[str, ...] = ()
    """Options that must be numbers above 0."""
    exclusive: tuple[str, ...] = ()
    """Options of which one at most may be given a value, neither false nor null."""
    rising: tuple[str, ...] = ()
    """Options of which none may be above the next."""
    options_problem: str = ""
    """Of a decoder's sampler: ``module:function`` that says of its options and the number of steps which option is
    wrong, and how; it must be quick to import."""
    fraction: tuple[str, ...] = ()
    """Options that must be numbers from 0 to 1."""
    shown: tuple[str, ...] = ()
    """Of a reward: numbers and truth values among its details of which the means are logged."""
    least_group: int = 1
    """Of an advantage: fewest samples of one prompt that it can compare."""
    across_prompts: bool = False
    """Of an advantage: it compares samples of different prompts."""
    from_zero: bool = False
    """Of an advantage: its rewards must be 0 or more."""
    fixed: bool = False
    """Of a KL reference: it never moves."""
    sequences: bool = False
    """Of a loss or a correction: it compares whole samples, and is given as well which of their tokens were sampled."""
    centred: bool | None = None
    """Of a combination: whether its totals are centred inside each group; ``None``: nobody has said."""
    window: bool = False
    """Of a decoder's loss: it learns from stochastic steps; of a decoder's sampler: it makes them."""
    sde: bool = False
    """Of a decoder's sampler: its stochastic steps are those of the flow's SDE."""
    for_sde: Mapping[str, object] = field(default_factory=dict)
    """Of a decoder's loss: option -> the value of it that is right for the steps of an SDE alone."""
    on_policy: bool = False
    """Of a loss: it has no ratio, so it is right for the first update after a rollout only."""
    pictures: bool = False
    """Of a prompt encoder: it reads prompts that hold pictures."""
    servers: tuple[str, ...] = ()
    """Options that hold the address of a server, or a list of them: one must answer."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Options that name another component -> its kind; the option ``<name>_options`` holds what that one takes."""
    in_template: bool = False
    """Of a prompt encoder: its tokens are those of the text in the policy's template, and can be counted without it."""
    reference: tuple[str, ...] = ()
    """Of a term of the loss: what of the frozen reference policy it compares with, ``logprobs``, ``hidden`` or both."""


@dataclass(frozen=True)
class Source:
    """The source of one component; ``definition``: None if its name is bound otherwise (``f = partial(...)``)."""

    kind: str
    use: str
    attribute: str
    module: SourceModule
    definition: ast.FunctionDef | ast.ClassDef | None

    def options(self) -> OptionNames | None:
        """The options of a function (without the data that it works on) or of a class; None if unknown."""
        found = self.definition
        if found is None or self.kind == "samplers":  # which get most from the run itself
            return None
        if len(found.decorator_list) > len(_declarations_above(found, self.module)):
            return None
        if isinstance(found, ast.FunctionDef):
            required_are_options = self.kind in ("prompts", "rewards")
            return _options(found.args, skip=int(self.kind == "rewards"), required_are_options=required_are_options)
        constructor = self.called()
        return None if constructor is None else _options(constructor.args, skip=1, required_are_options=True)

    def defaults(self) -> dict[str, object]:
        """Option -> its default, of those that are literals or names of literals."""
        found = {}
        for option, written in self.written_defaults().items():
            with suppress(ValueError):
                found[option] = ast.literal_eval(_Literals(self.module).visit(written))
        return found

    def written_defaults(self) -> dict[str, ast.expr]:
        """Argument -> its default as it is written."""
        called = self.called()
        if called is None:
            return {}
        positional = called.args.args[len(called.args.args) - len(called.args.defaults) :]
        pairs = [
            *zip(positional, called.args.defaults, strict=True),
            *zip(called.args.kwonlyargs, called.args.kw_defaults, strict=True),
        ]
        return {argument.arg: default for argument, default in pairs if default is not None}

    def annotation(self, argument: str) -> ast.expr | None:
        """The type that is written for it; one that has a name of its own here, such as a ``Literal``, by that."""
        called = self.called()
        taken = (*called.args.args, *called.args.kwonlyargs) if called else ()
        written = next((one.annotation for one in taken if one.arg == argument), None)
        named = self.module.constant(written.id) if isinstance(written, ast.Name) else None
        return written if named is None else named

    def called(self) -> ast.FunctionDef | None:
        """The function that gets the options: itself, or the constructor of a class."""
        if not isinstance(self.definition, ast.ClassDef):
            return self.definition
        inner = (node for node in self.definition.body if isinstance(node, ast.FunctionDef))
        return next((node for node in inner if node.name == "__init__"), None)

    def value(self, name: str) -> object:
        """What is declared as ``name``, by the class or one that it inherits from; None if nothing is.

        Raises UserError if it is no literal.
        """
        body = self.definition.body if isinstance(self.definition, ast.ClassDef) else []
        above = _declarations_above(self.definition, self.module) if self.definition else []
        places = chain(
            (right_side(node, name) for node in body),
            (keyword.value for call in above for keyword in call.keywords if keyword.arg == name),
            [self.module.assigned(f"{self.attribute}.{name}")],
        )
        written = next((value for value in places if value is not None), None)
        if written is None:
            inherited = (parent.value(name) for parent in self._parents())
            return next((value for value in inherited if value is not None), None)
        try:
            found: object = ast.literal_eval(_Literals(self.module).visit(written))
        except ValueError as error:
            raise UserError(
                f"{self.use!r}: its `{name}` can't be read from its source; write literal values"
            ) from error
        return found

    def _parents(self) -> Iterator[Source]:
        """The classes that it inherits from, where their names are defined or imported in its module."""
        for base in self.definition.bases if isinstance(self.definition, ast.ClassDef) else ():
            if isinstance(base, ast.Name):
                here, (module, own_name) = self.module.defined(base.id), self.module.imported(base.id)
                if here is not None and here is not self.definition:
                    yield Source(self.kind, self.use, base.id, self.module, here)
                elif module is not None:
                    yield Source(self.kind, self.use, own_name, module, module.defined(own_name))


class _Literals(ast.NodeTransformer):
    """Constants in place of their names, and a mapping in place of a call with keywords."""

    def __init__(self, module: SourceModule) -> None:
        self._module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._module.constant(node.id) or node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            return node
        keys: list[ast.expr | None] = [ast.Constant(keyword.arg) for keyword in node.keywords]
        return ast.Dict(keys, [self.visit(keyword.value) for keyword in node.keywords])


def read_source(kind: str, use: str) -> Source | None:
    """The source of the component ``use``; None if there is none to read (compiled code).

    Raises UserError if the name is unknown or the module is not valid Python.
    """
    module_name, _, attribute = locate(kind, use).partition(":")
    module = parse_module(module_name)
    return Source(kind, use, attribute, module, module.defined(attribute)) if module else None


def declarations(kind: str, use: str) -> Declarations:
    """What the component ``use`` declares; the defaults if it can't be found, which whoever loads it says.

    Raises UserError if a declaration is wrong or no literal, or the module is not valid Python.
    """
    try:
        locate(kind, use)
    except UserError:
        return Declarations()
    source = read_source(kind, use)
    if source is None:
        return Declarations()
    return Declarations(
        metadata=_names(source, "metadata", example="text"),
        metadata_problem=_function(source, "metadata_problem"),
        answers=_flag(source, "answers") or False,
        not_negative=_names(source, "not_negative", example="beta"),
        positive=_names(source, "positive", example="clip"),
        fraction=_names(source, "fraction", example="decay"),
        exclusive=_names(source, "exclusive", example="clip"),
        rising=_names(source, "rising", example="low"),
        options_problem=_function(source, "options_problem"),
        shown=_names(source, "shown", example="kept"),
        least_group=_count(source, "least_group"),
        across_prompts=_flag(source, "across_prompts") or False,
        from_zero=_flag(source, "from_zero") or False,
        fixed=_flag(source, "fixed") or False,
        sequences=_flag(source, "sequences") or False,
        centred=_flag(source, "centred"),
        window=_flag(source, "window") or False,
        sde=_flag(source, "sde") or False,
        for_sde=_mapping(source, "for_sde"),
        on_policy=_flag(source, "on_policy") or False,
        pictures=_flag(source, "pictures") or False,
        servers=_names(source, "servers", example="url"),
        parts=_parts(source),
        in_template=_flag(source, "in_template") or False,
        reference=_reference(source),
    )


def declared_or_nothing(kind: str, use: str) -> Declarations:
    """The same, for rules: a wrong declaration, or a source that is broken, is a problem of its own already."""
    try:
        return declarations(kind, use)
    except UserError:
        return Declarations()


def build_declared(make: Callable[..., T], declaration: Mapping[str, object], use: str, name: str) -> T:
    """The dataclass ``make`` of the mapping declared as ``name``. Raises UserError naming a wrong key or value."""
    known = list(inspect.signature(make).parameters)
    for key in declaration:
        if key not in known:
            near = did_you_mean(str(key), known)
            raise UserError(f"{use!r}: its `{name}` has an unknown entry {key!r}{near} (known: {', '.join(known)})")
    try:
        return make(**declaration)
    except UserError as error:
        raise UserError(f"{use!r}: in its `{name}` {error}") from error


def wrong_options(kind: str, use: str, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """(option, message) for each option that the component ``use`` does not take or lacks. Raises as `read_source`."""
    source = read_source(kind, use)
    options = source.options() if source else None
    if options is None:
        return
    takes = f"(it takes {', '.join(options.takes)})" if options.takes else "(it takes none)"
    for option, near in options.unknown(given):
        yield option, f"{use!r} has no such option{near} {takes}"
    for option in options.missing(given):
        yield option, f"is missing; {use!r} needs it"


def _declarations_above(definition: ast.FunctionDef | ast.ClassDef, module: SourceModule) -> list[ast.Call]:
    """Those of its decorators that are ``@declares(...)``."""
    calls = [node for node in definition.decorator_list if isinstance(node, ast.Call)]
    ours = (__name__, declares.__name__)
    return [node for node in calls if isinstance(node.func, ast.Name) and module.origin(node.func.id) == ours]


def _names(source: Source, name: str, example: str) -> tuple[str, ...]:
    value = source.value(name)
    if value is None:
        return ()
    if not isinstance(value, (tuple, list)) or not all(isinstance(item, str) for item in value):
        raise _wrong(source, name, value, f'a tuple of names, such as ("{example}",)')
    return tuple(value)


def _parts(source: Source) -> dict[str, str]:
    found = _mapping(source, "parts")
    if not all(kind in BUILT_IN for kind in found.values()):
        raise _wrong(source, "parts", found, f"a mapping of options to kinds ({', '.join(BUILT_IN)})")
    return {option: str(kind) for option, kind in found.items()}


def _mapping(source: Source, name: str) -> dict[str, object]:
    value = source.value(name)
    if value is not None and not isinstance(value, dict):
        raise _wrong(source, name, value, "a mapping of options")
    return value or {}


def _function(source: Source, name: str) -> str:
    value = source.value(name)
    if value is None:
        return ""
    if not isinstance(value, str) or not is_module_attr(value):
        raise _wrong(source, name, value, 'of the form module:function, such as "my_rewards:problem"')
    return value


def _reference(source: Source) -> tuple[str, ...]:
    found = _names(source, "reference", example="logprobs") if source.kind == "terms" else ()
    if not set(found) <= set(REFERENCE):
        raise _wrong(source, "reference", found, f"a tuple of {' and '.join(map(repr, REFERENCE))}, or one of them")
    return found


def _count(source: Source, name: str) -> int:
    value = source.value(name)
    if value is None:
        return 1
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(source, name, value, "a whole number of at least 1")
    return value


def _flag(source: Source, name: str) -> bool | None:
    value = source.value(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(source, name, value, "True or False")
    return value


def _wrong(source: Source, name: str, value: object, wanted: str) -> UserError:
    return UserError(f"{source.use!r}: its `{name}` is {value!r}: it must be {wanted}")


def _options(args: ast.arguments, skip: int, required_are_options: bool) -> OptionNames | None:
    if args.kwarg is not None:
        return None
    positional = [arg.arg for arg in args.args][max(skip - len(args.posonlyargs), 0) :]
    defaulted = positional[len(positional) - len(args.defaults) :] if args.defaults else []
    required = [name for name in positional if name not in defaulted] if required_are_options else []
    keywords = list(zip((arg.arg for arg in args.kwonlyargs), args.kw_defaults, strict=True))
    return OptionNames(
        takes=(*required, *defaulted, *(name for name, _ in keywords)),
        needs=(*required, *(name for name, default in keywords if default is None)),
    )
