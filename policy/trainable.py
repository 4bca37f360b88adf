"""What a trainer trains: a module, its weights under the names of its checkpoint, and a frozen copy to compare with.

The trainer, the weight sync and the export know a network by this alone; the language model below is one, the decoder
can be another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch import Tensor, nn

from policy.ar.forward import image_forward
from policy.ar.layers import EAGER, LayerHalves
from rl.types import Forward, Rows, Sequences, Span

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

RowsT = TypeVar("RowsT", bound=Rows, contravariant=True)
OutputsT = TypeVar("OutputsT", covariant=True)
Gathered = Callable[[Tensor], AbstractContextManager[object]]
"""Makes a parameter whole for a moment where it is sharded over ranks."""


@dataclass(frozen=True)
class WeightStream:
    """Weights on their way: names and shapes known beforehand, tensors made one at a time, as often as asked.

    ``WeightStream([("lm_head.weight", (60, 32))], lambda: iter([("lm_head.weight", tensor)]))``
    """

    shapes: Sequence[tuple[str, tuple[int, ...]]]
    tensors: Callable[[], Iterator[tuple[str, Tensor]]]

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> WeightStream:
        """Of tensors that are there already, for example ``module.state_dict().items()``."""
        pairs = list(named)
        return cls([(name, tuple(tensor.shape)) for name, tensor in pairs], lambda: iter(pairs))


class Trainable(Protocol[RowsT, OutputsT]):
    """One network of the policy, as the trainer sees it."""

    name: str
    """``ar`` or ``decoder``: the part that followers of its weights name."""
    module: nn.Module
    """Called with ``inputs(rows)``; answers a tuple of tensors, the only container in which engines find them."""

    def inputs(self, rows: RowsT) -> tuple[object, ...]:
        """What ``module`` takes, of the rows of a batch."""

    def outputs(self, raw: tuple[Tensor, ...]) -> OutputsT:
        """What ``module`` answered, by name."""

    def weights(self, gathered: Gathered = ...) -> WeightStream:
        """The whole network under the names of its checkpoint, adapters merged out of place."""

    def reference(self) -> nn.Module:
        """``module`` with the weights of now, frozen."""

    def used_directly(self) -> Sequence[Tensor]:
        """Parameters that ``module`` reads outside their own layers (ZeRO-3 must gather them for it)."""


class LanguageModel:
    """The autoregressive half as a :class:`Trainable`: ``Sequences`` in, ``Forward`` out."""

    name = "ar"

    def __init__(self, ar: Qwen3ForCausalLM, span: Span, *, chunk: int = 1024, halves: LayerHalves = EAGER) -> None:
        """``span``: of rows that name none. ``chunk``: token positions whose logits exist at one time."""
        self.ar, self.span = ar, span
        self.module: nn.Module = _SpanLogprobs(ar, chunk, halves)

    def inputs(self, rows: Sequences) -> tuple[object, ...]:
        return rows.prompt_ids, rows.tokens_BT, rows.temperature, rows.span or self.span

    def outputs(self, raw: tuple[Tensor, ...]) -> Forward:
        hidden_BSD, logprobs_BT, entropy_BT = raw
        return Forward(hidden_BSD, logprobs_BT, entropy_BT)

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        """A tied lm_head comes under its own name too."""
        values = self.ar.state_dict(keep_vars=True)

        def tensors() -> Iterator[tuple[str, Tensor]]:
            for name, value in values.items():
                with gathered(value):
                    # a shard is whole only in here: whoever keeps the tensor needs a copy
                    yield name, value.detach().clone() if hasattr(value, "ds_id") else value.detach()

        return WeightStream(
            [(name, tuple(getattr(value, "ds_shape", value.shape))) for name, value in values.items()], tensors
        )

    def reference(self) -> nn.Module:
        return copy.deepcopy(self.module).eval().requires_grad_(False)

    def used_directly(self) -> Sequence[Tensor]:
        return [self.ar.lm_head.weight]


class _SpanLogprobs(nn.Module):
    """The language model behind the one call that an engine makes: prompts and tokens in, log-probs out."""

    def __init__(self, ar: Qwen3ForCausalLM, chunk: int, halves: LayerHalves) -> None:
        super().__init__()
        self.ar, self.chunk, self.halves = ar, chunk, halves

    def forward(
        self, prompt_ids: Sequence[Sequence[int]], tokens_BT: Tensor, temperature: float, span: Span
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(hidden_BSD, logprobs_BT, entropy_BT); the gradient flows through the first two."""
        out = image_forward(
            self.ar, span, prompt_ids, tokens_BT, temperature=temperature, chunk=self.chunk, halves=self.halves
        )
        return out.hidden_BSD, out.logprobs_BT, out.entropy_BT
