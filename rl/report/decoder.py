"""Which of a decoder's figures a page shows, also apart for each sigma: the noisiest is where most is decided."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rl.run_folder.records import Row

Lines = Mapping[str, str]
"""Metric -> its name in the chart."""
_FIGURES: tuple[tuple[str, Lines], ...] = (
    (
        "Variance of the reward inside a prompt",
        {"var/tokens": "tokens", "var/noise": "noise", "var/interaction": "interaction"},
    ),
    ("Decoder's share of it", {"var/decoder_share": "share"}),
    ("Decoder's share of the variance over all prompts", {"var/decoder_share_of_all": "share"}),
    ("Share of token sequences whose renders differ", {"var/unlike_renders": "share"}),
    ("Decoder: reward", {"decoder/score": "reward"}),
    ("Decoder: distance to its base", {"decoder/velocity_mse": "distance"}),
    ("Decoder: mean square of the latents", {"decoder/x0_mean_square": "mean square"}),
    ("Decoder: KL to the policy that painted", {"decoder/kl_old": "KL"}),
    ("Decoder: ratio, mean", {"decoder/ratio_mean": "ratio"}),
    ("Decoder: gradient norm", {"decoder/grad_norm": "norm"}),
    ("Updates of the weights", {"policy_version": "language model", "decoder/policy_version": "decoder"}),
)
_EACH_SIGMA = {
    "ratio_mean": "Decoder: ratio at each sigma, mean",
    "ratio_deviation": "Decoder: ratio at each sigma, farthest from 1",
    "kl_old": "Decoder: KL to the policy that painted, at each sigma",
    "old_deviation": "Decoder: moved since it painted, at each sigma",
    "velocity_mse": "Decoder: distance to its base at each sigma",
    "policy_loss": "Decoder: loss at each sigma",
}
_SIGMA = re.compile(r"decoder/sigma/([\d.]+)/(\w+)")
_MOST = 8  # colours that can be told apart


def decoder_figures(logged: Sequence[str]) -> list[tuple[str, Lines]]:
    """Title and lines of every chart for which something was logged; none of a run whose decoder stays as it is."""
    if not any(name.startswith("decoder/") for name in logged):
        return []
    whole = [(title, {name: told for name, told in lines.items() if name in logged}) for title, lines in _FIGURES]
    return [(title, lines) for title, lines in (*whole, *_at_each_sigma(logged)) if lines]


def _at_each_sigma(logged: Sequence[str]) -> list[tuple[str, Lines]]:
    found = [match for name in logged if (match := _SIGMA.fullmatch(name))]
    sigmas = sorted({match[1] for match in found}, key=float, reverse=True)
    shown = [sigmas[place * (len(sigmas) - 1) // (_MOST - 1)] for place in range(_MOST)]
    if len(sigmas) <= _MOST:
        shown = sigmas
    some = f" ({_MOST} of {len(sigmas)})" if len(sigmas) > _MOST else ""
    names = {match[0] for match in found}
    lines = {
        figure: {name: f"σ {sigma}" for sigma in shown if (name := f"decoder/sigma/{sigma}/{figure}") in names}
        for figure in _EACH_SIGMA
    }
    return [(title + some, lines[figure]) for figure, title in _EACH_SIGMA.items()]


def decoder_turns(rows: Sequence[Row]) -> list[int]:
    """The steps, counted from 1, in which the decoder learnt and the language model did not."""
    return [
        row.step + 1 for row in rows if row.metrics.get("learns/decoder") == 1 and row.metrics.get("learns/ar") == 0
    ]
