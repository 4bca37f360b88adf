"""Weights on their way out of a trained network, whole, although ZeRO-3 may have cut them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from policy.trainable import Adapter, Trainable, WeightStream
from rl.trainer.engine import gathered
from rl.trainer.team import Team

_WEIGHTS, _CHANGING, _ADAPTER, _PART = "weights", "changing weights", "adapter of ", "weights of "


class TogetherStreams:
    """Of one network. All ranks together make a sharded weight whole: they go through a stream when rank 0 does."""

    def __init__(
        self, trainable: Trainable[Any, Any], team: Team, *, sharded: bool, called: Callable[[str], str]
    ) -> None:
        """``called``: an order by the name of the network."""
        self._trainable, self._team, self._called = trainable, team, called
        self._alone = team.world == 1 or not sharded

    def weights(self) -> WeightStream:
        """The whole network under the names of its checkpoint, and its adapters beside it if they are what learns."""
        whole = self._stream(_WEIGHTS)
        changing = whole.changing and self._together(_CHANGING, whole.changing)
        adapter = self.adapters().get(self._trainable.name)
        return replace(self._together(_WEIGHTS, whole), changing=changing, adapter=adapter)

    def parts(self) -> dict[str, WeightStream]:
        """Of the parts that learn, as a policy folder keeps them."""
        return {
            name: self._together(_PART + name, replace(whole, changing=None))
            for name, whole in self._trainable.streams(gathered).items()
        }

    def adapters(self) -> dict[str, Adapter]:
        """By the part that they are of."""
        return {
            name: replace(one, weights=self._together(_ADAPTER + name, one.weights))
            for name, one in self._trainable.adapters(gathered).items()
        }

    def duties(self) -> dict[str, Callable[[str], object]]:
        """Of a rank other than the first."""
        parts = [_PART + name for name in self._trainable.streams(gathered)]
        adapters = [_ADAPTER + name for name in self._trainable.adapters(gathered)]
        return {kind: partial(self._go_through, kind) for kind in (_WEIGHTS, _CHANGING, *parts, *adapters)}

    def _stream(self, kind: str) -> WeightStream:
        if kind.startswith(_ADAPTER):
            return self._trainable.adapters(gathered)[kind.removeprefix(_ADAPTER)].weights
        if kind.startswith(_PART):
            return self._trainable.streams(gathered)[kind.removeprefix(_PART)]
        whole = self._trainable.weights(gathered)
        return whole.changing or whole if kind == _CHANGING else whole

    def _together(self, kind: str, stream: WeightStream) -> WeightStream:
        if self._alone:
            return stream

        def tensors() -> Iterator[tuple[str, Any]]:
            self._team.order(self._called(kind))
            for named in stream.tensors():
                self._team.did()
                yield named
            self._team.done()

        return replace(stream, tensors=tensors)

    def _go_through(self, kind: str, _argument: str) -> None:
        for _ in self._stream(kind).tensors():
            self._team.did()
