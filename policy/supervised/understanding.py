"""The branch with which a policy understands pictures, while it learns: what it reads goes into the language model, and
what both of its views know of a picture is told by redrawing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from policy.tokenizers.hybrid import HybridEncoder
from rl.types import PictureFeatures


class Redrawn(NamedTuple):
    """Of each of B pictures, one number."""

    from_codes_B: Tensor  # mean absolute error of the pixels, of which codes' vectors tell
    from_features_B: Tensor  # and what the language model reads
    quantiser_B: Tensor  # how far vectors and codes are apart


class UnderstandingTerms:
    """``redraw``: linear maps from each token's view to its own pixels, which are thrown away in the end."""

    def __init__(self, branch: HybridEncoder) -> None:
        self.branch = branch
        pixels = 3 * branch.token_side**2
        widths = {"codes": branch.quantiser.width, "features": branch.reads}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same on every rank
            self.redraw = nn.ModuleDict({name: nn.Linear(width, pixels) for name, width in widths.items()})

    def put(
        self, features: Sequence[PictureFeatures | None] | None, pixels_B3HW: Tensor
    ) -> tuple[list[PictureFeatures | None], Tensor]:
        """``features`` with the vectors of now; and 0, in a number that depends on all weights of the way: of rows of
        which none reads features, other ranks still expect gradients."""
        given = list(features or [None] * len(pixels_B3HW))
        rows = [row for row, one in enumerate(given) if one is not None]
        vectors_RTD = self.branch.read(self.branch.features(pixels_B3HW[rows or [0]]))
        for place, row in enumerate(rows):
            before = given[row]
            given[row] = before and replace(before, vectors_ND=vectors_RTD[place])
        return given, 0.0 * vectors_RTD.sum()

    def redrawn(self, pixels_B3HW: Tensor) -> Redrawn:
        seen = self.branch(pixels_B3HW)
        target_BTP = self.branch.pixels_of_tokens(pixels_B3HW)
        from_codes, from_features = (
            (self.redraw[name](view) - target_BTP).abs().flatten(1).mean(1)
            for name, view in (("codes", seen.written.vectors), ("features", seen.read_BTD))
        )
        return Redrawn(from_codes, from_features, seen.written.loss.expand(len(pixels_B3HW)))
