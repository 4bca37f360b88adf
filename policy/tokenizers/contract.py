"""What an image tokenizer is: pictures to the tokens that the language model writes."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from policy.json_file import JsonObject
from policy.layout import TokenLayout


class ImageTokenizer(Protocol):
    """Registry kind ``image_tokenizers``; ``image_tokenizer/config.json`` of a policy folder names it as ``kind``."""

    kind: str

    def encode(self, pictures_BHW3: NDArray[np.uint8], /) -> NDArray[np.int64]:
        """(B, H, W, 3) uint8 -> (B, T) vocabulary ids."""

    def to(self, device: torch.device | str) -> Self:
        """Where ``encode`` computes from now on: the decoder's device. Returns itself."""

    def config(self) -> dict[str, object]:
        """What ``load`` needs beside the weights: ``kind``, ``codes`` and its own."""

    def save(self, file: Path) -> None: ...

    @classmethod
    def load(cls, file: Path, config: JsonObject, layout: TokenLayout) -> Self: ...
