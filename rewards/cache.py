"""Scores on disk by content: the same picture, prompt, reward and options are scored once.

The key is a hash of the picture's bytes and shape, the answer if it is words, the prompt's text, metadata and pictures,
the reward's ``use`` and options, and the version of its code (``rewards.pool.version``); a reference file counts by its
content, a prompt's picture by its pixels, ids, groups and the prompt's line not at all. Failures are not kept. Entries
are JSON text, floats exact to the bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diskcache
import numpy as np
from diskcache.core import MODE_PICKLE

from rewards.base import LARGEST
from rewards.reference import file_hash
from rl.config.schema import RewardComponent
from rl.types import Sample, Score, UserError

log = logging.getLogger(__name__)
_TROUBLE = (OSError, sqlite3.Error, diskcache.Timeout, UnicodeDecodeError)
_FORMAT = 1


class ScoreCache:
    """A folder of scores. May be used from several threads and by several runs at once."""

    def __init__(self, folder: str, limit_mb: int) -> None:
        """See ``TextCache``. Raises ``UserError`` if the folder cannot be used."""
        self._texts = TextCache(folder, limit_mb, where="reward_pool.cache")

    def keys(self, reward: RewardComponent, version: str, contents: Sequence[str | None]) -> list[str | None]:
        """One key per sample, from its ``content_hash``; ``None`` where something has no stable text."""
        try:
            asked = _text([_FORMAT, reward.use, reward.options, version])
        except TypeError:
            return [None] * len(contents)
        return [content and hashlib.sha256(f"{content}\n{asked}".encode()).hexdigest() for content in contents]

    def get(self, key: str | None) -> Score | None:
        """The score, or ``None`` if it is not there or damaged."""
        text = None if key is None else self._texts.get(key)
        return None if text is None else read_score(text)

    def put(self, keys: Sequence[str | None], asked: str, scores: Sequence[Score], version: str) -> None:
        """Keep the scores that are no failures, if the worker's ``version`` is the one that the keys were made with."""
        if asked == version:
            pairs = zip(keys, scores, strict=True)
            self._texts.put({key: write_score(score) for key, score in pairs if key is not None and not score.failed})

    def close(self) -> None:
        self._texts.close()


def write_score(score: Score) -> str:
    """As JSON, floats exact to the bit."""
    return json.dumps([score.value, dict(score.details), score.passed])


def read_score(text: str) -> Score | None:
    """What ``write_score`` wrote; ``None`` if it is something else."""
    try:
        value, details, passed = json.loads(text)
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = all(part is None or (type(part) is float and abs(part) <= LARGEST) for part in (value, passed))
    return Score(value, details=details, passed=passed) if isinstance(details, dict) and numbers else None


def content_hash(sample: Sample) -> str | None:
    """Of the picture and the prompt; ``None`` if the metadata holds an object without a stable text.

    Raises ``UserError`` if a picture of the prompt can't be read.
    """
    picture = np.ascontiguousarray(sample.picture)
    try:
        metadata = dict(sample.prompt.metadata)
        parts = [sample.prompt.text, metadata, file_hash(metadata), picture.shape, picture.dtype.str]
        answer = [] if sample.answer is None else [[sample.answer.text, sample.answer.complete]]
        asked = _text([*parts, *(one.digest for one in sample.prompt.pictures), *answer])
    except TypeError:
        return None
    digest = hashlib.sha256(f"{asked}\n".encode())
    digest.update(picture.data)
    return digest.hexdigest()


def _text(value: object) -> str:
    """JSON with sorted keys; arrays (reference pictures) by their hash. Raises ``TypeError`` for other objects."""
    return json.dumps(value, sort_keys=True, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [value.shape, value.dtype.str, hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()]
    raise TypeError(f"{type(value).__name__} has no stable text")


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
