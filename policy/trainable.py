"""What a trainer trains: a module, its weights under the names of its checkpoint, and a frozen copy to compare with.

The trainer, the weight sync and the export know a network by this alone; the language model below is one, the decoder
can be another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch import Tensor, nn

from policy.ar.forward import image_forward
from policy.ar.layers import EAGER, LayerHalves
from policy.json_file import JsonObject
from policy.lora.adapters import Lora, StoredWeight, with_neighbours
from rl.types import Forward, PictureFeatures, Rows, Sequences, Span

if TYPE_CHECKING:
    from transformers import Qwen3ForCausalLM

RowsT = TypeVar("RowsT", bound=Rows, contravariant=True)
OutputsT = TypeVar("OutputsT", covariant=True)
Gathered = Callable[[Tensor], AbstractContextManager[object]]
"""Makes a parameter whole for a moment where it is sharded over ranks."""
Network = Callable[..., tuple[Tensor, ...]]
"""A module, or what answers like it."""


@dataclass(frozen=True)
class WeightStream:
    """Weights on their way: names and shapes known beforehand, tensors made one at a time, as often as asked.

    ``WeightStream([("lm_head.weight", (60, 32))], lambda: iter([("lm_head.weight", tensor)]))``
    """

    shapes: Sequence[tuple[str, tuple[int, ...]]]
    tensors: Callable[[], Iterator[tuple[str, Tensor]]]
    changing: WeightStream | None = None
    """Those that training changes, for whoever has had the whole before; ``None``: all."""
    adapter: Adapter | None = None
    """What is trained, for whoever has the policy folder's weights; ``None``: the weights themselves are."""

    @classmethod
    def of(cls, named: Iterable[tuple[str, Tensor]]) -> WeightStream:
        """Of tensors that are there already, for example ``module.state_dict().items()``."""
        pairs = list(named)
        return cls([(name, tuple(tensor.shape)) for name, tensor in pairs], lambda: iter(pairs))

    @classmethod
    def stored(
        cls, weights: Sequence[StoredWeight], gathered: Gathered, changing: WeightStream | None = None
    ) -> WeightStream:
        """Each is made, and whole, only when its turn comes."""

        def tensors() -> Iterator[tuple[str, Tensor]]:
            for weight in weights:
                with ExitStack() as whole:
                    for part in weight.parts:
                        whole.enter_context(gathered(part))
                    yield weight.name, weight.value()

        return cls([(weight.name, weight.shape) for weight in weights], tensors, changing)


@dataclass(frozen=True)
class Adapter:
    """What a folder of peft holds: ``adapter_config.json`` and ``adapter_model.safetensors``."""

    config: JsonObject
    weights: WeightStream


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

    def trained(self) -> Sequence[nn.Parameter]:
        """The parameters that learn; all others stay as they are."""

    def weights(self, gathered: Gathered = ...) -> WeightStream:
        """The whole network under the names of its checkpoint, adapters merged out of place."""

    def streams(self, gathered: Gathered = ...) -> dict[str, WeightStream]:
        """Of the parts that learn, as a policy folder keeps them: ``ar``, ``decoder``, ..."""

    def adapters(self, gathered: Gathered = ...) -> dict[str, Adapter]:
        """The adapters alone, by the part that they are of; none where the weights themselves are trained."""

    def reference(self) -> Network:
        """What answers as ``module`` does now, whatever is learnt later: a frozen copy, or ``module`` itself with its
        adapters off."""

    def used_directly(self) -> Sequence[Tensor]:
        """Parameters that ``module`` reads outside their own layers (ZeRO-3 must gather them for it)."""


class AdaptedNetwork:
    """What networks with and without adapters have alike; the rest of a :class:`Trainable` is each one's own."""

    name: str
    module: nn.Module
    lora: Lora | None

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        raise NotImplementedError

    def streams(self, gathered: Gathered = nullcontext) -> dict[str, WeightStream]:
        return {self.name: self.weights(gathered)}

    def adapters(self, gathered: Gathered = nullcontext) -> dict[str, Adapter]:
        if self.lora is None:
            return {}
        return {self.name: Adapter(self.lora.config(), WeightStream.stored(self.lora.adapter(), gathered))}

    def reference(self) -> Network:
        return self._without_adapters if self.lora else copy.deepcopy(self.module).eval().requires_grad_(False)

    def _without_adapters(self, *inputs: object) -> tuple[Tensor, ...]:
        assert self.lora is not None
        with self.lora.off():
            answered: tuple[Tensor, ...] = self.module(*inputs)
            return answered


class LanguageModel(AdaptedNetwork):
    """The autoregressive half as a :class:`Trainable`: ``Sequences`` in, ``Forward`` out."""

    name = "ar"

    def __init__(
        self,
        ar: Qwen3ForCausalLM,
        span: Span,
        *,
        chunk: int = 1024,
        halves: LayerHalves = EAGER,
        recompute: bool = False,
        lora: Lora | None = None,
        entropy_learns: bool = False,
    ) -> None:
        """``span``: of rows that name none. ``chunk``: token positions whose logits exist at one time. ``recompute``:
        the layers' activations are made again in the backward pass. ``lora``: adapters of ``ar``, trained alone.
        ``entropy_learns``: the entropy carries a gradient."""
        self.ar, self.span, self.lora = ar, span, lora
        self.chunk, self.halves, self.recompute = chunk, halves, recompute
        self.module: nn.Module = _SpanLogprobs(ar, chunk, halves, recompute, entropy_learns)

    def inputs(self, rows: Sequences) -> tuple[object, ...]:
        return rows.prompt_ids, rows.tokens_BT, rows.temperature, rows.span or self.span, rows.features

    def outputs(self, raw: tuple[Tensor, ...]) -> Forward:
        hidden_BSD, logprobs_BT, entropy_BT = raw
        return Forward(hidden_BSD, logprobs_BT, entropy_BT)

    def trained(self) -> Sequence[nn.Parameter]:
        return self.lora.parameters() if self.lora else list(self.module.parameters())

    def weights(self, gathered: Gathered = nullcontext) -> WeightStream:
        """A tied lm_head comes under its own name too."""
        if self.lora:
            whole = self.lora.weights()
            changing = WeightStream.stored(with_neighbours(whole), gathered)
            return WeightStream.stored(whole, gathered, changing)
        values = self.ar.state_dict(keep_vars=True)
        return WeightStream.stored([StoredWeight(name, (value,)) for name, value in values.items()], gathered)

    def used_directly(self) -> Sequence[Tensor]:
        return [self.ar.lm_head.weight]


class _SpanLogprobs(nn.Module):
    """The language model behind the one call that an engine makes: prompts and tokens in, log-probs out."""

    def __init__(
        self, ar: Qwen3ForCausalLM, chunk: int, halves: LayerHalves, recompute: bool, entropy_learns: bool
    ) -> None:
        super().__init__()
        self.ar, self.chunk, self.halves, self.recompute = ar, chunk, halves, recompute
        self.entropy_learns = entropy_learns

    def forward(
        self,
        prompt_ids: Sequence[Sequence[int]],
        tokens_BT: Tensor,
        temperature: float,
        span: Span,
        features: Sequence[PictureFeatures | None] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(hidden_BSD, logprobs_BT, entropy_BT); the gradient flows through the first two, or through all."""
        out = image_forward(
            self.ar,
            span,
            prompt_ids,
            tokens_BT,
            features=features,
            temperature=temperature,
            chunk=self.chunk,
            halves=self.halves,
            recompute=self.recompute,
            entropy_learns=self.entropy_learns,
        )
        return out.hidden_BSD, out.logprobs_BT, out.entropy_BT
