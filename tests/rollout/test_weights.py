"""Weight streams: checked from their names and shapes first, then tensor by tensor."""

from __future__ import annotations

import pytest
import torch

from policy.trainable import WeightStream
from rollout.weights import SyncError, check_weights

EXPECTED = {"a": (2,), "b": (1, 3)}
GOOD = [("a", torch.zeros(2)), ("b", torch.zeros(1, 3))]


def test_names_and_shapes_are_checked_before_a_tensor_is_made() -> None:
    def never() -> object:
        raise AssertionError("a tensor was asked for")

    stream = WeightStream([("a", (2,))], never)  # type: ignore[arg-type]
    with pytest.raises(SyncError, match="1 of 2 parameters are missing, first 'b'"):
        check_weights(stream, EXPECTED)


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        (GOOD[:1], "parameter 'b' was announced and did not come"),
        ([GOOD[0], ("b", torch.zeros(3, 1))], "parameter 'b' is not as announced"),
        ([*GOOD, GOOD[0]], "parameter 'a' is not as announced"),
        ([GOOD[0], ("b", torch.full((1, 3), torch.inf))], "parameter 'b' holds NaN or infinity"),
    ],
)
def test_what_comes_must_be_what_was_announced(tensors: list[tuple[str, torch.Tensor]], sentence: str) -> None:
    stream = WeightStream(WeightStream.of(GOOD).shapes, lambda: iter(tensors))
    with pytest.raises(SyncError, match=sentence):
        check_weights(stream, EXPECTED)


def test_a_stream_can_be_gone_through_again() -> None:
    stream = WeightStream.of(iter(GOOD))
    check_weights(stream, EXPECTED)
    check_weights(stream, EXPECTED)
    assert [name for name, _ in stream.tensors()] == ["a", "b"]
