"""The pictures of prompts, and those inside their metadata such as a reference, on their way to a reward server.

A request carries each picture once, whatever the size of the group that shares it. ``metadata["reference"]`` may be a
path: it is read where the prompt is, at the client, for a server opens no file that a request names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from rewards import pictures
from rewards.pictures import Encoding
from rewards.reference import REFERENCE, read_reference
from rl.data.pictures import Picture, is_pixels
from rl.types import Prompt


@dataclass(frozen=True)
class RequestPicture:
    """One picture: its name in the request (a hash of its bytes), its bytes as base64, width times height."""

    name: str
    data: str
    pixels: int


@dataclass(frozen=True)
class PromptPictures:
    """What one prompt shows: its metadata entries that are pictures, by key, and its own pictures in order."""

    metadata: Mapping[str, RequestPicture] = field(default_factory=dict)
    images: tuple[RequestPicture, ...] = ()

    @property
    def all(self) -> tuple[RequestPicture, ...]:
        return (*self.metadata.values(), *self.images)


class RequestPictures:
    """The pictures of one call, each read and encoded once. Several threads may ask."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._made: dict[object, RequestPicture] = {}
        self._making = Lock()

    def of(self, prompt: Prompt) -> PromptPictures:
        """Raises ``ValueError`` or ``UserError`` saying why one can't be read."""
        return PromptPictures(self._in_metadata(prompt.metadata), tuple(map(self._picture, prompt.pictures)))

    def _in_metadata(self, metadata: Mapping[str, object]) -> dict[str, RequestPicture]:
        """The entries that are pictures: (H, W, 3) uint8 arrays, and the reference, if there is one."""
        return {
            key: self._picture(value)
            for key, value in metadata.items()
            if is_pixels(value) or (key == REFERENCE and value is not None)
        }

    def _picture(self, value: object) -> RequestPicture:
        key = id(value) if isinstance(value, np.ndarray | Picture) else str(value)
        with self._making:
            if key not in self._made:
                pixels = value.pixels if isinstance(value, Picture) else read_reference(value)
                self._made[key] = _encoded(pixels, self._encoding)
            return self._made[key]


def _encoded(picture: NDArray[np.uint8], encoding: Encoding) -> RequestPicture:
    content = pictures.encode(picture, encoding)
    height, width = picture.shape[:2]
    data = base64.b64encode(content).decode("ascii")
    return RequestPicture(hashlib.sha256(content).hexdigest(), data, height * width)
