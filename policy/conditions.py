"""What a decoder reads of a picture that the language model wrote, ``condition`` in ``policy.json``, and of one that is
to be changed, ``reference``.

One kind is built, ``ar_hidden``: final hidden states at the scale token and the image tokens, through the connector.
``policy/README.md`` says what the others need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy.json_file import JsonObject
from rl.registry import did_you_mean
from rl.types import UserError

AR_HIDDEN = "ar_hidden"
ATTENDED: Final = "attended"
"""The transformer attends to a reference's latents, behind the hidden states."""
BESIDE_NOISE: Final = "beside_noise"
"""They stand to the right of the noise."""
CHANNELS: Final = "channels"
"""They are further channels of the noise."""
WAYS: Final = (ATTENDED, BESIDE_NOISE, CHANNELS)
_NOT_BUILT = {
    "token_ids": "the decoder embeds the tokens' ids itself, as in GLM-Image",
    "code_vectors": "the decoder reads the tokenizer's vectors of the tokens, as in X-Omni",
    "tokenizer_features": "the decoder reads features that the tokenizer makes of the tokens, as in Tar",
}


def read_condition(config: JsonObject, where: str) -> str:
    """Of a ``policy.json``; one that says nothing has ``ar_hidden``. Raises: UserError naming ``where``."""
    kind = str(config.get("condition", AR_HIDDEN))
    if kind in _NOT_BUILT:
        raise UserError(
            f"{where}: condition is {kind!r} ({_NOT_BUILT[kind]}), which is not built yet; {AR_HIDDEN} is, and "
            f"policy/README.md says what is missing for the others."
        )
    if kind != AR_HIDDEN:
        near = did_you_mean(kind, [AR_HIDDEN, *_NOT_BUILT])
        raise UserError(f"{where}: there is no condition {kind!r}{near or ';'} write {AR_HIDDEN} or leave the key out.")
    return kind


def read_ways(config: JsonObject, where: str) -> tuple[str, ...]:
    """``reference`` of a ``policy.json``; none for most. Raises: UserError naming ``where``."""
    ways = config.get("reference", [])
    if not isinstance(ways, list) or set(ways) - set(WAYS) or len(set(ways)) < len(ways):
        raise UserError(
            f"{where}: reference is {ways!r}; it may be a list of {ATTENDED}, {BESIDE_NOISE} and {CHANNELS}, or "
            f"left out."
        )
    if BESIDE_NOISE in ways and CHANNELS in ways:
        raise UserError(
            f"{where}: reference has {BESIDE_NOISE} and {CHANNELS}, which are two places for one picture; keep one."
        )
    return tuple(ways)


def check_fits(ways: Sequence[str], transformer: JsonObject, where: str) -> None:
    """Raises: UserError if this transformer can't have references beside its noise."""
    if BESIDE_NOISE in ways and transformer.get("interpolation_scale") is not None:
        raise UserError(
            f"{where}: reference has {BESIDE_NOISE}, and the transformer has positions (interpolation_scale is not "
            f"null), which a picture twice as wide would squeeze; use {ATTENDED} or {CHANNELS}."
        )
