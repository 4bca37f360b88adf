"""Picture -> image tokens by a vision tower: TA-Tok, the image tokenizer of BLIP3o-NEXT and Tar."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from policy.json_file import JsonObject
from policy.layout import TokenLayout
from policy.tokenizers.ta_tok_config import TaTokConfig
from policy.tokenizers.ta_tok_weights import TaTokEncoder, check_weights, read_weights


class TaTok:
    """Features of the tower's last layer but one, averaged over scale x scale neighbours, become their nearest code
    by cosine (TA-Tok, arXiv 2506.18898).

    Weights are read before the first picture: who only paints needs none.
    """

    kind = "ta_tok"

    def __init__(self, file: Path, settings: TaTokConfig, image_start_id: int) -> None:
        self.settings, self.image_start_id = settings, image_start_id
        self._file, self._device = file, torch.device("cpu")
        self._encoder: TaTokEncoder | None = None

    @classmethod
    def load(cls, file: Path, config: JsonObject, layout: TokenLayout) -> Self:
        """Raises: UserError on a wrong setting, and on a tensor that is missing or of another shape."""
        settings = TaTokConfig.from_json(config, file.with_name("config.json"), layout)
        check_weights(file, settings)
        return cls(file, settings, layout.image_start_id)

    def to(self, device: torch.device | str) -> Self:
        self._device = torch.device(device)
        if self._encoder is not None:
            self._encoder.to(self._device)
        return self

    def encode(self, pictures_BHW3: NDArray[np.uint8], /, seeds: Sequence[int] | None = None) -> NDArray[np.int64]:
        """(B, H, W, 3) uint8 -> (B, T) vocabulary ids in raster order; the lowest of equally near codes.

        With B ``seeds`` they are drawn from softmax(cosine / temperature), each picture from its own seed alone.
        """
        tokens_BT = np.empty((len(pictures_BHW3), self.settings.grid[0] * self.settings.grid[1]), np.int64)
        for index, features_TD in enumerate(self._features(pictures_BHW3)):
            cosines_TK = self._loaded().cosines(features_TD)  # one picture: 729 x 65,536 are 190 MB
            codes_T = cosines_TK.argmax(-1) if seeds is None else self._drawn(cosines_TK, seeds[index])
            tokens_BT[index] = codes_T.cpu().numpy()
        return tokens_BT + self.image_start_id

    def _features(self, pictures_BHW3: NDArray[np.uint8]) -> Iterator[Tensor]:
        """(T, D) of each picture."""
        for start in range(0, len(pictures_BHW3), self.settings.batch):
            pixels_B3HW = self._pixels(pictures_BHW3[start : start + self.settings.batch])
            yield from self._pooled(self._loaded().features(pixels_B3HW))

    def _pixels(self, pictures_BHW3: NDArray[np.uint8]) -> Tensor:
        """(B, 3, S, S) in -1 to 1. Squeezed, not cropped, by Pillow's bicubic filter: another one gives other codes."""
        side = (self.settings.picture, self.settings.picture)
        resized = [np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BICUBIC)) for one in pictures_BHW3]
        return torch.from_numpy(np.stack(resized)).to(self._device).permute(0, 3, 1, 2) / 127.5 - 1.0

    def _pooled(self, features_BND: Tensor) -> Tensor:
        """(B, T, D): means over scale x scale neighbours; a last row or column that is not full is left out."""
        side = self.settings.patches
        square_BDHW = features_BND.transpose(1, 2).unflatten(2, (side, side))
        return functional.avg_pool2d(square_BDHW, self.settings.scale).flatten(2).transpose(1, 2)

    def _drawn(self, cosines_TK: Tensor, seed: int) -> Tensor:
        """One uniform number a token, looked up in the cumulative sum, so that every device draws the same."""
        sums_TK = (cosines_TK / self.settings.temperature).softmax(-1).cumsum(-1)
        uniform_T1 = torch.rand(len(sums_TK), 1, generator=torch.Generator().manual_seed(seed)).to(sums_TK.device)
        codes_T1 = torch.searchsorted(sums_TK, uniform_T1 * sums_TK[:, -1:], right=True)
        return codes_T1[:, 0].clamp(max=sums_TK.shape[1] - 1)

    def _loaded(self) -> TaTokEncoder:
        if self._encoder is None:
            self._encoder = read_weights(self._file, self.settings, self._device)
        return self._encoder

    def config(self) -> dict[str, object]:
        return self.settings.to_json()

    def save(self, file: Path) -> None:
        """Nothing here is ever trained: the file goes on as it is, with the parts that nobody reads."""
        if not (file.exists() and file.samefile(self._file)):
            shutil.copyfile(self._file, file)
