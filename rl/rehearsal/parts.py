"""What can go wrong in a part of a step, as one sentence that names the part and the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor

from policy.decoder import Decoder
from rewards.base import describe_exception
from rl.tracking.contract import STAGES
from rl.types import Rollout, RunFailure, Span, UserError


@contextmanager
def part_of_a_step(stage: str, advice: str = "") -> Iterator[None]:
    """Whatever is raised inside becomes a sentence; ``advice`` is for what nobody has foreseen.

    Raises: UserError. An engine's own failure goes through.
    """
    where = f"before the first step, while {STAGES[stage]}"
    try:
        yield
    except RunFailure:
        raise
    except UserError as error:
        raise UserError(f"{where}: {error}") from error.__cause__
    except Exception as error:  # parts of any folder, and anybody's functions
        raise UserError("; ".join(filter(None, [f"{where}: {describe_exception(error)}", advice]))) from error


def check_rollout(rollout: Rollout, count: int, span: Span, engine: str) -> None:
    """Of ``count`` samples of a picture's tokens, or of an answer's. Raises: UserError."""
    tokens_BT, logprobs_BT, wanted = rollout.tokens_BT, rollout.logprobs_BT, (count, span.most)
    for what, found in (("tokens", tokens_BT.shape), ("log-probs", logprobs_BT.shape)):
        if found != wanted:
            raise UserError(
                f"rollout.engine: {engine!r} gave {what} of shape {tuple(found)} for {count} samples of {span.most} "
                f"tokens; it must give {wanted}"
            )
    if ((tokens_BT < span.start) | (tokens_BT >= span.stop)).any():
        raise UserError(
            f"rollout.engine: {engine!r} gave token ids from {tokens_BT.min()} to {tokens_BT.max()}; those of a "
            f"picture are {span.start} to {span.stop - 1}"
        )


def check_hidden(hidden_BSD: Tensor, wanted: tuple[int, int, int], whose: str) -> None:
    """``whose``: what has made them, and the keys that it hangs on. Raises: UserError."""
    if tuple(hidden_BSD.shape) != wanted:
        raise UserError(
            f"the hidden states of {whose} have shape {tuple(hidden_BSD.shape)} and the decoder reads {wanted}: the "
            "final states at <S0> and at every token"
        )
    if not bool(hidden_BSD.isfinite().all()):
        raise UserError(
            f"the hidden states of {whose} hold NaN or infinity, and no picture comes of that: restore the weights, or "
            "use float32"
        )


@contextmanager
def finite_outputs(decoder: Decoder, policy: str) -> Iterator[None]:
    """Around painting. Compiled networks are looked at from outside: a hook would have them compiled once more.

    Raises: UserError naming the first of the decoder's networks that has answered NaN or infinity.
    """
    wrong: list[str] = []

    def look(name: str, answer: object) -> None:
        first = answer[0] if isinstance(answer, tuple) else answer
        if isinstance(first, Tensor) and not bool(first.isfinite().all()):
            wrong.append(name)

    with (
        _seen(decoder.connector, "forward", partial(look, "connector/")),
        _seen(decoder, "velocity", partial(look, "transformer/")),
        _seen(decoder.vae, "decode", partial(look, "vae/")),
    ):
        yield
    if wrong:
        raise UserError(
            f"{wrong[0]} of {policy} answers NaN or infinity, which would be painted black: restore its weights, or "
            "set render.dtype to float32"
        )


@contextmanager
def _seen(owner: object, method: str, look: Callable[[object], None]) -> Iterator[None]:
    """``look`` at every answer of a method of one object."""
    whole = getattr(owner, method)

    def call(*arguments: object, **options: object) -> object:
        answer = whole(*arguments, **options)
        look(answer)
        return answer

    setattr(owner, method, call)
    try:
        yield
    finally:
        delattr(owner, method)
