"""What a decoder reads of a picture that the language model wrote: ``condition`` in ``policy.json``.

One kind is built, ``ar_hidden``: final hidden states at the scale token and the image tokens, through the connector.
``policy/README.md`` says what the others need.
"""

from __future__ import annotations

from policy.json_file import JsonObject
from rl.registry import did_you_mean
from rl.types import UserError

AR_HIDDEN = "ar_hidden"
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
