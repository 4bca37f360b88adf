"""The matrix products and convolutions of a stage: recorded as they are called, then timed one by one, alone.

FLOPs are those of ``torch.utils.flop_counter``; attention on a CPU, which it does not know, is added here.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from rl.bench.kinds import kind_of

aten = torch.ops.aten
_MEASURED_S, _MOST_CALLS = 0.03, 20


@dataclass(frozen=True)
class TensorForm:
    """A tensor but for its numbers."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: Tensor) -> TensorForm:
        return cls(tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)

    @classmethod
    def rows(cls, *shape: int, dtype: torch.dtype) -> TensorForm:
        """One row after another."""
        return cls.of(torch.empty(shape, dtype=dtype, device="meta"))

    def make(self) -> Tensor:
        held = [1 if stride == 0 else size for size, stride in zip(self.shape, self.stride, strict=True)]
        made = torch.empty_strided(held, self.stride, dtype=self.dtype)
        filled = made.normal_() if self.dtype.is_floating_point else made.zero_()
        return filled.expand(self.shape)  # where one number stands for many


@dataclass(frozen=True)
class Product:
    """A call that multiplies, with everything that its time depends on."""

    function: Callable[..., object]
    arguments: tuple[object, ...]
    options: tuple[tuple[str, object], ...]
    flops: int

    @classmethod
    def matrices(cls, m: int, k: int, n: int, dtype: torch.dtype) -> Product:
        """(M, K) rows times the weights of a linear layer from K to N."""
        weight = TensorForm((k, n), (1, k), dtype)
        return cls(aten.mm.default, (TensorForm.rows(m, k, dtype=dtype), weight), (), 2 * m * k * n)

    @property
    def kind(self) -> str:
        return kind_of(str(self.function).replace(".", "::", 1))

    def seconds(self) -> float:
        """The fastest of some calls, alone, with numbers that are in the cache if they fit; images in whichever order
        of their memory is faster."""
        with torch.no_grad():
            options = {name: _map(value, TensorForm, TensorForm.make) for name, value in self.options}
            return min(_fastest(self.function, call, options) for call in self._calls())

    def _calls(self) -> list[tuple[object, ...]]:
        made = tuple(_map(self.arguments, TensorForm, TensorForm.make))
        if self.function not in (aten.convolution.default, aten.convolution_backward.default):
            return [made]
        return [made, tuple(_map(made, Tensor, _channels_last))]


class Recorder(TorchDispatchMode):
    """``with recorder: ...`` counts every product that is called inside, under the name in ``stage``."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = ""
        self.called: dict[str, Counter[Product]] = defaultdict(Counter)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        options = dict(kwargs or {})
        count = _FORMULAS.get(func._overloadpacket)
        if count is None:
            with self:  # a composite call, such as a linear layer in inference mode, is looked into
                taken_apart = func.decompose(*args, **options)
            return func(*args, **options) if taken_apart is NotImplemented else taken_apart
        answer = func(*args, **options)
        forms = tuple(_map(args, Tensor, TensorForm.of))
        others = tuple(sorted(_map(options, Tensor, TensorForm.of).items()))
        self.called[self.stage][Product(func, forms, others, count(*args, **options, out_val=answer))] += 1
        return answer


def _attention(
    query: Tensor, key: Tensor, value: Tensor, dropout: float = 0.0, causal: bool = False, **_: object
) -> int:
    """Scores and their product with the values; half of it where the future is masked."""
    both = 2 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2] * (query.shape[3] + value.shape[3])
    return both // 2 if causal else both


def _attention_backward(_: Tensor, query: Tensor, key: Tensor, value: Tensor, *others: object, **__: object) -> int:
    """The scores once more, and a product for each of the four gradients."""
    causal = others[3] if len(others) > 3 else False  # after the answer, its log-sum and the dropout
    one = 2 * query.shape[0] * query.shape[1] * query.shape[2] * key.shape[2]
    both = one * (3 * query.shape[3] + 2 * value.shape[3])
    return both // 2 if causal else both


_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def _fastest(function: Callable[..., object], call: tuple[object, ...], options: dict[str, object]) -> float:
    function(*call, **options)
    seconds: list[float] = []
    while len(seconds) < 3 or (sum(seconds) < _MEASURED_S and len(seconds) < _MOST_CALLS):
        began = time.perf_counter()
        function(*call, **options)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def _map(value: Any, kind: type, change: Callable[[Any], object]) -> Any:
    """Everything of that kind changed, whatever lists, tuples and mappings it stands in; lists become tuples."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (list, tuple)):
        return tuple(_map(one, kind, change) for one in value)
    if isinstance(value, dict):
        return {name: _map(one, kind, change) for name, one in value.items()}
    return value
