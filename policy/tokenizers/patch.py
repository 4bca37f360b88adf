"""Picture -> image tokens: a vector-quantised patch tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from policy.json_file import JsonObject
from policy.layout import TokenLayout


class PatchTokenizer:
    """Each patch, projected on a few directions, becomes its nearest code (vector quantisation)."""

    kind = "patch_vq"

    def __init__(self, patch: int, mean_F: Tensor, basis_FC: Tensor, codebook_KC: Tensor, image_start_id: int) -> None:
        self.patch, self.image_start_id = patch, image_start_id
        self.mean_F, self.basis_FC, self.codebook_KC = mean_F, basis_FC, codebook_KC

    def features(self, pictures_BHW3: NDArray[np.uint8]) -> Tensor:
        """(B, T, C) projected patches in raster order."""
        pixels = torch.from_numpy(np.ascontiguousarray(pictures_BHW3)).to(self.mean_F.device).float() / 127.5 - 1.0
        batch, height, width, _ = pixels.shape
        rows, columns = height // self.patch, width // self.patch
        patches = pixels.view(batch, rows, self.patch, columns, self.patch, 3).permute(0, 1, 3, 2, 4, 5)
        return (patches.reshape(batch, rows * columns, -1) - self.mean_F) @ self.basis_FC

    def encode(self, pictures_BHW3: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(B, H, W, 3) uint8 -> (B, T) vocabulary ids."""
        features_BTC = self.features(pictures_BHW3)
        flat = features_BTC.reshape(-1, features_BTC.shape[-1])
        codes = torch.cdist(flat, self.codebook_KC).argmin(-1)
        return codes.view(features_BTC.shape[:2]).cpu().numpy().astype(np.int64) + self.image_start_id

    def to(self, device: torch.device | str) -> Self:
        self.mean_F, self.basis_FC = self.mean_F.to(device), self.basis_FC.to(device)
        self.codebook_KC = self.codebook_KC.to(device)
        return self

    def config(self) -> dict[str, object]:
        return {"kind": self.kind, "patch": self.patch, "codes": len(self.codebook_KC)}

    def save(self, file: Path) -> None:
        tensors = {"mean": self.mean_F, "basis": self.basis_FC, "codebook": self.codebook_KC}
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file)

    @classmethod
    def load(cls, file: Path, config: JsonObject, layout: TokenLayout) -> Self:
        tensors = load_file(file)
        return cls(config["patch"], tensors["mean"], tensors["basis"], tensors["codebook"], layout.image_start_id)
