"""Token by token on a GPU: each step is one CUDA graph over buffers that stay where they are.

A step of a language model is hundreds of kernels of some microseconds, which Python can't launch as fast as a GPU runs
them. Captured once, they are launched together.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from policy.ar.decoding import prefill
from policy.ar.layers import EAGER, LayerHalves, attend, right_padded
from rl.types import PictureFeatures

_WIDTH = 64
"""A step attends to the first n * 64 slots of the cache, the fewest that hold all that is written: one graph for n."""


class ReplayedDecoding:
    """``policy.ar.decoding.Decoding`` for at most B samples and so many slots, again and again.

    ``begin`` takes new prompts, ``step`` feeds a token per sample. Weights are read where they lie: a model that is
    given new ones in place is followed. Without a GPU the same steps are taken one kernel after another.
    """

    def __init__(self, ar: Qwen3ForCausalLM, batch: int, slots: int, halves: LayerHalves = EAGER) -> None:
        config, self.model, self.halves = ar.config, ar.model, halves
        device, dtype = ar.lm_head.weight.device, ar.lm_head.weight.dtype
        self.batch, self.slots = batch, -(-slots // _WIDTH) * _WIDTH
        held = torch.float32 if device.type == "cpu" else dtype  # as in ``Decoding``
        shape = (batch, config.num_key_value_heads, self.slots, config.head_dim)
        # zeros: what is masked is multiplied by 0 all the same, and an old NaN would stay one
        self._keys = [torch.zeros(shape, device=device, dtype=held) for _ in self.model.layers]
        self._values = [torch.zeros(shape, device=device, dtype=held) for _ in self.model.layers]
        self._written_BS = torch.zeros(batch, self.slots, dtype=torch.bool, device=device)
        self._token_B = torch.zeros(batch, dtype=torch.long, device=device)
        self._position_B = torch.zeros(batch, dtype=torch.long, device=device)
        self._slot_1 = torch.zeros(1, dtype=torch.long, device=device)
        self._hidden_BD = torch.zeros(batch, config.hidden_size, device=device, dtype=dtype)
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        self._used, self._real = 0, batch

    def begin(
        self,
        rows: Sequence[tuple[int, ...]],
        owner_B: Tensor,
        features: Sequence[PictureFeatures | None] | None = None,
    ) -> Tensor:
        """Each prompt once -> (B, D) final hidden states at their ends; what was before is forgotten."""
        self._real = len(owner_B)
        owner_B = torch.cat([owner_B, owner_B[-1:].expand(self.batch - self._real)])
        ids_PL, lengths_P = right_padded(rows, owner_B.device)
        self._used = ids_PL.shape[1]

        def keep(layer: int, key: Tensor, value: Tensor) -> None:
            self._keys[layer][:, :, : self._used] = key[owner_B]
            self._values[layer][:, :, : self._used] = value[owner_B]

        last_PD = prefill(self.model, ids_PL, lengths_P, keep, self.halves, features)
        self._position_B.copy_(lengths_P[owner_B])
        slots = torch.arange(self.slots, device=owner_B.device)
        self._written_BS.copy_(slots < self._position_B[:, None])
        self._slot_1.fill_(self._used)
        return last_PD[owner_B[: self._real]]

    def step(self, token_B: Tensor) -> Tensor:
        """Feeds one token per sample -> (B, D) final hidden states at it."""
        self._token_B[: self._real] = token_B
        self._run(-(-(self._used + 1) // _WIDTH) * _WIDTH)
        self._used += 1
        self._position_B += 1
        self._slot_1 += 1
        return self._hidden_BD[: self._real].clone()

    def _run(self, width: int) -> None:
        if self._pool is None:
            self._step(width)
        elif width in self._graphs:
            self._graphs[width].replay()
        else:
            self._graphs[width] = self._captured(width)

    def _captured(self, width: int) -> torch.cuda.CUDAGraph:
        """Takes the step as well: on a stream of its own, because what libraries do at first can't be captured."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self._step(width)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            self._step(width)
        return graph

    def _step(self, width: int) -> None:
        """From buffers into buffers; twice is once."""
        states = self.model.embed_tokens(self._token_B[:, None])
        rotary = self.model.rotary_emb(states, self._position_B[:, None])
        self._written_BS.index_fill_(1, self._slot_1, True)
        sees_B11S = self._written_BS[:, None, None, :width]
        for layer, keys, values in zip(self.model.layers, self._keys, self._values, strict=True):
            query, key, value = self.halves.before(layer, states, rotary)
            keys.index_copy_(2, self._slot_1, key.to(keys.dtype))
            values.index_copy_(2, self._slot_1, value.to(values.dtype))
            mixed = attend(query, keys[:, :, :width], values[:, :, :width], sees_B11S)
            states = self.halves.after(layer, states, mixed)
        self._hidden_BD.copy_(self.model.norm(states)[:, 0])
