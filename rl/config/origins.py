"""Where a run's keys were written, for mistakes that are found after its configuration was read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rl.config.yaml12 import Entry, Origin
from rl.types import UserError

DEFAULTS = Origin("defaults")
COMMAND_LINE = "command line"
_KEY = re.compile(r"[a-z_]+(?:\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True)
class Origins:
    """The merged layers of one run, every value with its place."""

    tree: Entry

    def of(self, key: str) -> Origin | None:
        """Of a dotted key; None if nobody wrote it."""
        entry = self.tree.find(key.split("."))
        return None if entry is None or entry.origin == DEFAULTS else entry.origin

    def add_to(self, message: str) -> str:
        """The message, and at its end where the keys in it were written."""
        found = {key: origin for key in _KEY.findall(message) if (origin := self.of(key)) is not None}
        if not found:
            return message
        return f"{message} ({'; '.join(f'{key}: {origin}' for key, origin in found.items())})"

    @contextmanager
    def named(self) -> Iterator[None]:
        """A UserError that is raised inside says where the keys that it names were written."""
        try:
            yield
        except UserError as error:
            raise UserError(self.add_to(str(error))) from error
