"""A folder of texts by key, for what is dear to compute: a well-kept SQLite cache that never opens a pickle.

A folder that breaks while it is used (a full disk, a damaged file) costs the cache and nothing else.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE

from rl.types import UserError

log = logging.getLogger(__name__)
_TROUBLE = (OSError, sqlite3.Error, diskcache.Timeout, UnicodeDecodeError)


class _TextDisk(diskcache.Disk):
    """diskcache pickles what is not plain; here a pickle can only be somebody else's, and is not opened."""

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        return None if mode == MODE_PICKLE else super().fetch(mode, filename, value, read)


class TextCache:
    """May be used from several threads and by several processes at once."""

    def __init__(self, folder: str, limit_mb: int, *, where: str) -> None:
        """Above ``limit_mb`` MiB the entries that were not read for longest are dropped.

        Raises ``UserError`` about the key ``where`` if the folder cannot be used.
        """
        self._folder, self._where = folder, where
        self._off = False
        try:
            self._disk = diskcache.Cache(
                str(Path(folder).expanduser()),
                disk=_TextDisk,
                size_limit=limit_mb * 2**20,
                eviction_policy="least-recently-used",
            )
        except _TROUBLE as error:
            raise UserError(
                f"{where}: the folder {folder!r} cannot be used ({error}); delete it or name another"
            ) from error

    def get(self, key: str) -> str | None:
        """The text, or ``None`` if it is not there or something else."""
        if self._off:
            return None
        try:
            found = self._disk.get(key)
        except _TROUBLE as error:
            self._turn_off(error)
            return None
        return found if isinstance(found, str) else None

    def put(self, texts: Mapping[str, str]) -> None:
        """Keep all of them."""
        if self._off or not texts:
            return
        try:
            with self._disk.transact():
                for key, text in texts.items():
                    self._disk.set(key, text)
        except _TROUBLE as error:
            self._turn_off(error)

    def close(self) -> None:
        self._disk.close()

    def _turn_off(self, error: Exception) -> None:
        self._off = True
        log.warning("%s: %s failed (%s); this run goes on without it", self._where, self._folder, error)
