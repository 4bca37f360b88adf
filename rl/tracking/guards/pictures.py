"""What the guards see of a step's pictures and tokens: numbers that are logged and never trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policy.tokenizers.contract import ImageTokenizer
from rl.tracking.contract import GUARD_PREFIX

_DARK, _EDGE = 0.25, 0.1  # luma below which a pixel is dark; luma step above which two neighbours form an edge
_HARMONICS = 4  # of the grid's wave


def picture_metrics(pictures: NDArray[np.uint8], group_size: int) -> dict[str, float]:
    """Means over (B, H, W, 3) pictures, B a multiple of ``group_size`` (group-major), named ``guard/...``.

    ``guard/diversity`` is left out for groups of one.
    """
    rgb = pictures.astype(np.float32) / 255.0
    luma_BHW = _luma(rgb)
    metrics = {
        "darkness": float((luma_BHW < _DARK).mean()),
        "edge_density": float(edge_density(luma_BHW).mean()),
        "color_entropy": float(np.mean(color_entropy(pictures))),
        "saturation": float(saturation(pictures).mean()),
    }
    if group_size > 1:
        metrics["diversity"] = float(diversity(rgb, group_size).mean())
    return {GUARD_PREFIX + name: value for name, value in metrics.items()}


def _luma(rgb_BHW3: NDArray[np.float32]) -> NDArray[np.float32]:
    luma_BHW: NDArray[np.float32] = rgb_BHW3 @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    return luma_BHW


def edge_density(luma_BHW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Share of the (H-1) x (W-1) pixels whose right or lower neighbour differs by more than 0.1 in luma."""
    here = luma_BHW[:, :-1, :-1]
    right, below = np.abs(luma_BHW[:, :-1, 1:] - here), np.abs(luma_BHW[:, 1:, :-1] - here)
    edges_B: NDArray[np.float32] = (np.maximum(right, below) > _EDGE).mean(axis=(1, 2), dtype=np.float32)
    return edges_B


def color_entropy(pictures_BHW3: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Entropy in bits of each picture's histogram over 4 x 4 x 4 colours: 0 (one colour) to 6."""
    red, green, blue = np.moveaxis(pictures_BHW3 >> 6, -1, 0)
    bins_BN = (red << 4 | green << 2 | blue).reshape(len(pictures_BHW3), -1)
    return np.array([_entropy(np.bincount(bins, minlength=64) / bins.size) for bins in bins_BN])


def _entropy(shares: NDArray[np.float64]) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())


def saturation(pictures_BHW3: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean HSV saturation, (max - min) / max, of each picture; black counts as 0."""
    # one plane per channel: ten times as fast as a maximum over the last, short axis
    red, green, blue = np.ascontiguousarray(np.moveaxis(pictures_BHW3, -1, 0))
    high = np.maximum(np.maximum(red, green), blue).astype(np.float32) / 255.0
    low = np.minimum(np.minimum(red, green), blue).astype(np.float32) / 255.0
    means_B: NDArray[np.float32] = ((high - low) / np.maximum(high, 1e-6)).mean(axis=(1, 2))
    return means_B


def diversity(rgb_BHW3: NDArray[np.float32], group_size: int) -> NDArray[np.float32]:
    """Root mean square difference over all pairs of a group, 0 (identical) to 1, for each of the P groups.

    The mean of (x_i - x_j)^2 over pairs is twice the unbiased variance, so no pair is ever formed.
    """
    if group_size < 2 or len(rgb_BHW3) % group_size:
        raise ValueError(f"{len(rgb_BHW3)} pictures are not groups of {group_size} (at least 2)")
    groups = rgb_BHW3.reshape(len(rgb_BHW3) // group_size, group_size, -1)
    diversity_P: NDArray[np.float32] = np.sqrt(2.0 * groups.var(axis=1, ddof=1).mean(axis=1))
    return diversity_P


def token_metrics(tokens_BT: NDArray[np.int64]) -> dict[str, float]:
    """``guard/ink_fraction``: share of a picture's tokens that are not its most common one (the background);
    ``guard/distinct_tokens``: different tokens per picture, divided by T. Means over B."""
    ink, distinct = [], []
    for tokens in tokens_BT:
        _, counts = np.unique(tokens, return_counts=True)
        ink.append(1.0 - counts.max() / tokens.size)
        distinct.append(counts.size / tokens.size)
    found = {"ink_fraction": float(np.mean(ink)), "distinct_tokens": float(np.mean(distinct))}
    return {GUARD_PREFIX + name: value for name, value in found.items()}


def render_fidelity(sampled_BT: NDArray[np.int64], retokenised_BT: NDArray[np.int64]) -> float:
    """Share of tokens that come back when the painted picture is tokenised again; name it ``guard/render_fidelity``."""
    if sampled_BT.shape != retokenised_BT.shape:
        raise ValueError(f"sampled tokens {sampled_BT.shape} and re-tokenised {retokenised_BT.shape} differ in shape")
    return float((sampled_BT == retokenised_BT).mean())


@dataclass(frozen=True)
class Fidelity:
    """``guard/render_fidelity`` on a share of a step's pictures: each costs a forward of the image tokenizer."""

    tokenizer: ImageTokenizer
    share: float = 1.0

    def __call__(self, tokens_BT: NDArray[np.int64], pictures_BHW3: NDArray[np.uint8]) -> dict[str, float]:
        """Group-major, one picture a sample. Empty where the share is 0."""
        chosen = evenly(len(pictures_BHW3), self.share)
        if not len(chosen):
            return {}
        found_NT = self.tokenizer.encode(pictures_BHW3[chosen])
        return {GUARD_PREFIX + "render_fidelity": render_fidelity(tokens_BT[chosen], found_NT)}


def evenly(count: int, share: float) -> NDArray[np.int64]:
    """Indices of ``share`` of ``count`` samples, at least one unless it is 0, at equal distances: groups that lie side
    by side get equally many, give or take one. The same at every call."""
    wanted = math.ceil(share * count)
    return np.arange(wanted) * count // max(wanted, 1)


def grid_pattern(pictures_BHW3: NDArray[np.uint8], period: int, most: int = 64) -> float:
    """How much more the pictures repeat every ``period`` pixels than at the wavelengths beside it, in octaves of power:
    the grid of the autoencoder's latents, a known artefact of decoders under RL.

    Mean over both axes and the first harmonics, so that a thin line counts as a soft wave does; 0 says nothing repeats.
    NaN where the picture is too small to tell. At most ``most`` pictures are looked at.
    """
    chosen = evenly(len(pictures_BHW3), min(1.0, most / len(pictures_BHW3)))
    luma_BHW = _luma(pictures_BHW3[chosen].astype(np.float32) / 255.0)
    peaks = [*_peaks(luma_BHW.mean(1), period), *_peaks(luma_BHW.mean(2), period)]  # what lies across cancels out
    return float(np.mean(peaks)) if peaks else math.nan


def _peaks(profile_BL: NDArray[np.float32], period: int) -> list[float]:
    """Per harmonic: log2 of its power over the geometric mean of its neighbours'."""
    length = profile_BL.shape[1]
    power_F = (np.abs(np.fft.rfft(profile_BL, axis=1)) ** 2).mean(0)
    log_F = np.log2(power_F + 1e-9 * power_F[1:].sum() + 1e-12)
    places = [round(harmonic * length / period) for harmonic in range(1, _HARMONICS + 1)]
    usable = [place for place in places if 2 <= place < len(log_F) - 1]
    return [float(log_F[place] - (log_F[place - 1] + log_F[place + 1]) / 2) for place in usable]
