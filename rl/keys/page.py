"""The reference page ``rl/config/KEYS.md``."""

from __future__ import annotations

from collections.abc import Iterator

from rl.config.schema import COMPONENT_KINDS
from rl.keys.reference import NEEDED, SECTION_TYPES, Key, all_keys, cards
from rl.registry import BUILT_IN

_HEAD = """# Keys of a run

Made by `python -m rl.keys --page`; a test keeps it current. `python -m rl.keys KEY` shows one key.

Files are YAML 1.2; on the command line a key is written with dots, `train.lr=1e-5`. Paths are relative to the current
folder (those in `extends` to their file); `~`, `$NAME` and `${NAME}` are expanded in all of them. Components are
written as their name, or `{use: name, options: {...}}`, where `use` may be your own `module:attr`.
"""


def page() -> str:
    """Markdown: a table per section, then the components of each kind with their options."""
    return "\n".join([_HEAD, *_sections(), *_kinds()])


def _sections() -> Iterator[str]:
    for title, keys in by_section().items():
        yield f"## {title}\n"
        yield "| key | type | default | meaning |\n|---|---|---|---|"
        for key in keys:
            what = f"{key.type} of kind [{key.kind}](#{key.kind})" if key.kind else key.type
            yield f"| `{key.name}` | {_cell(what)} | `{_cell(key.default)}` | {_cell(key.doc)} |"
        yield ""


def by_section() -> dict[str, list[Key]]:
    """Keys by the first part of their names; components that stand alone are together."""
    found: dict[str, list[Key]] = {}
    for key in all_keys():
        section, dot, _ = key.name.partition(".")
        if dot or (key.kind is None and key.type not in SECTION_TYPES):
            found.setdefault(section, []).append(key)
        elif key.kind is not None:
            found.setdefault("components", []).append(key)
    return found


def _kinds() -> Iterator[str]:
    used = dict.fromkeys(COMPONENT_KINDS.values())
    for kind in [*used, *(kind for kind in BUILT_IN if kind not in used)]:
        known = [card for card in cards(kind) if card.name in BUILT_IN[kind]]
        if not known:
            continue
        yield f"## {kind}\n"
        for card in known:
            yield f"**`{card.name}`**: {' '.join(card.doc.split())}\n"
            for option in card.options or ():
                default = NEEDED if option.default == NEEDED else f"default `{option.default}`"
                yield f"- `{option.name}`: {option.type or 'any'}, {default}"
            yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
