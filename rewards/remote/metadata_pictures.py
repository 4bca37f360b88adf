"""Pictures inside a prompt's metadata, such as a reference for editing, on their way to a reward server.

A request carries each picture once, whatever the size of the group that shares it. ``metadata["reference"]`` may be a
path: it is read where the prompt is, at the client, for a server opens no file that a request names.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from rewards import pictures
from rewards.pictures import Encoding
from rewards.reference import REFERENCE, is_picture, read_reference


@dataclass(frozen=True)
class MetadataPicture:
    """One picture: its name in the request (a hash of its bytes), its bytes as base64, width times height."""

    name: str
    data: str
    pixels: int


class MetadataPictures:
    """The pictures of one call, each read and encoded once. Several threads may ask."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._made: dict[object, MetadataPicture] = {}
        self._making = Lock()

    def of(self, metadata: Mapping[str, object]) -> dict[str, MetadataPicture]:
        """The entries that are pictures, by key: (H, W, 3) uint8 arrays, and the reference, if there is one.

        Raises ``ValueError`` saying why a reference can't be read.
        """
        return {
            key: self._picture(value)
            for key, value in metadata.items()
            if is_picture(value) or (key == REFERENCE and value is not None)
        }

    def _picture(self, value: object) -> MetadataPicture:
        key = id(value) if isinstance(value, np.ndarray) else str(value)
        with self._making:
            if key not in self._made:
                self._made[key] = _encoded(read_reference(value), self._encoding)
            return self._made[key]


def _encoded(picture: NDArray[np.uint8], encoding: Encoding) -> MetadataPicture:
    content = pictures.encode(picture, encoding)
    height, width = picture.shape[:2]
    data = base64.b64encode(content).decode("ascii")
    return MetadataPicture(hashlib.sha256(content).hexdigest(), data, height * width)
