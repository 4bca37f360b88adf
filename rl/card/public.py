"""A run's configuration as it may be shown to anybody: no folders of this machine, no secrets."""

from __future__ import annotations

import re

_SECRET = re.compile(r"token|secret|passw|credential|api_?key|authorization", re.IGNORECASE)
_NO_SECRET = re.compile(r"tokens|token_mean|token_tis|tokenizer", re.IGNORECASE)
_HOMES = re.compile(r"(~|/)[^\s:]*")
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")


def public(tree: object) -> object:
    """The same mappings and lists; of a path that starts at the root or at home the last part stays."""
    if isinstance(tree, dict):
        return {key: "(left out)" if _is_secret(str(key), value) else public(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [public(item) for item in tree]
    return _without_place(tree) if isinstance(tree, str) else tree


def _is_secret(key: str, value: object) -> bool:
    return isinstance(value, str) and bool(_SECRET.search(key)) and not _NO_SECRET.search(key)


def _without_place(text: str) -> str:
    if _HOMES.fullmatch(text) and len(text) > 1:
        return ".../" + text.rstrip("/").rpartition("/")[2]
    return _LOGIN.sub("", text)
