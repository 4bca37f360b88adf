"""Every key of a configuration: ``python -m rl.keys [KEY]``, with type, default, meaning and components.

``python -m rl.keys train`` shows a section, ``train.lr`` a key, ``loss`` the losses that there are with their options,
``ocr`` a component. ``--schema`` prints a JSON schema for editors, ``--page`` the reference page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rl.keys.json_schema import schema_text
from rl.keys.page import by_section, page
from rl.keys.reference import ANY_NAME, ComponentCard, Key, all_keys, card, cards
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.registry import BUILT_IN, did_you_mean, names
from rl.types import UserError


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rl.keys", description="Every key of a configuration, or one of them.")
    parser.add_argument("key", nargs="?", help="a section, a key or a component: train, train.lr, loss, ocr")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--schema", action="store_true", help="print a JSON schema of run files")
    form.add_argument("--page", action="store_true", help="print the reference page (Markdown)")
    given = parser.parse_args(arguments)
    if given.key is not None and (given.schema or given.page):
        parser.error("--schema and --page are about all keys; leave the key out")
    text = schema_text() if given.schema else page() if given.page else "\n".join(_lines(given.key)) + "\n"
    sys.stdout.write(text)
    return 0


def _lines(wanted: str | None) -> Iterator[str]:
    if wanted is None:
        for section in by_section().values():
            yield from _table(section)
            yield ""
        yield "python -m rl.keys KEY says more of one, of a component also by its name: loss, ocr"
        return
    keys = all_keys()
    found = _found(wanted, keys)
    components = [(kind, name) for kind in BUILT_IN for name in names(kind) if wanted in (name, f"{kind}.{name}")]
    if not found and not components:
        known = [*(key.name for key in keys), *(name for kind in BUILT_IN for name in names(kind))]
        raise UserError(f"there is no key {wanted!r}{did_you_mean(wanted, known)} (python -m rl.keys lists them)")
    for key in found:
        yield from _details(key)
        yield from _table([one for one in keys if one.name.startswith(f"{key.name}.")])
    for kind, name in components:
        yield from ["", *_card(kind, card(kind, name))]


def _found(wanted: str, keys: Sequence[Key]) -> list[Key]:
    """The key itself; of an option, that of its component."""
    exact = [key for key in keys if _matches(wanted, key.name)]
    if exact or ".options." not in wanted:
        return exact
    holder = wanted.partition(".options.")[0]
    return [key for key in keys if key.name in (holder, holder.partition(".")[0])][-1:]


def _matches(wanted: str, key: str) -> bool:
    """``rewards.ocr.weight`` is ``rewards.NAME.weight``."""
    given, parts = wanted.split("."), key.split(".")
    return len(given) == len(parts) and all(part in (one, ANY_NAME) for one, part in zip(given, parts, strict=True))


def _details(key: Key) -> Iterator[str]:
    yield f"{key.name}: {' '.join(key.doc.split())}"
    if key.type:
        yield f"  type     {key.type}"
        yield f"  default  {key.default}"
    if key.kind is not None:
        for one in cards(key.kind):
            yield ""
            yield from _card(key.kind, one)


def _card(kind: str, one: ComponentCard) -> Iterator[str]:
    yield f"{one.name} ({kind})"
    yield from (f"  {line}".rstrip() for line in one.doc.splitlines())
    for option in one.options or ():
        yield f"    {option.name:<20} {option.type}" + (
            ", needed" if option.default is None else f" = {option.default}"
        )


def _table(keys: Sequence[Key]) -> Iterator[str]:
    width = max((len(key.name) for key in keys), default=0)
    for key in keys:
        meaning = " ".join(key.doc.split())
        yield f"{key.name:<{width}}  {meaning}" + (f" [{key.type}; {key.default}]" if key.type else "")


if __name__ == "__main__":
    sys.exit(main())
