"""The sampler in plain torch: are its replayed steps those of the plain ones, and how near are they to the limit of the
memory's bandwidth? ``measure.py`` starts it as a process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from policy.ar.decoding import Decoding
from policy.ar.replayed import ReplayedDecoding
from policy.folder import read_policy_config
from policy.prompt import TemplateEncoder
from rl.bench.language_model_work import ModelSizes
from rl.types import Prompt
from rollout.samplers.torch_sampler import TorchSampler

GROUP = 16
_COMPARED = 32
"""Steps whose logits are compared, and which are timed one kernel after another."""


def measure(folder: Path, batch: int, compiled: bool) -> dict[str, Any]:
    """JSON for ``measure.py``."""
    layout, template = read_policy_config(folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encode = TemplateEncoder(PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"), template, layout)
    prompts = [Prompt(str(one), f"a photo of {one} green clocks") for one in range(max(1, batch // GROUP))]
    rows = [encode(prompt).ids for prompt in prompts]
    found: dict[str, Any] = {"batch": batch, "compiled": compiled}
    with torch.inference_mode():
        ar = Qwen3ForCausalLM.from_pretrained(folder / "ar", dtype=torch.bfloat16).to(device).eval()
        found |= _compared(ar, rows, batch, layout.image_start_id)
        found["attention_ms"] = _attention(ar.config, batch, 512, device)
    sizes = ModelSizes.of(ar.config, layout.num_image_tokens)
    mean_slots = sum(map(len, rows)) / len(rows) + layout.tokens_per_image / 2
    found["bytes_a_step"] = 2 * (sizes.weights + batch * mean_slots * sizes.cached)
    del ar
    sampler = TorchSampler(
        folder,
        layout,
        encode=encode,
        dtype="bfloat16",
        max_prompt_tokens=max(map(len, rows)),
        max_num_seqs=batch,
        compile=compiled,
    )

    def sample() -> None:
        sampler.sample(prompts, batch // len(prompts), list(range(batch)), hidden=True)

    found["first_s"], seconds = _seconds(sample), _seconds(sample)
    found["replayed_ms"] = seconds / layout.tokens_per_image * 1e3
    found["tokens_per_s"] = batch * layout.tokens_per_image / seconds
    return found


def _compared(ar: Qwen3ForCausalLM, rows: Sequence[tuple[int, ...]], batch: int, start: int) -> dict[str, float]:
    """Milliseconds of a plain step, and the largest and mean difference of logits over the replayed ones."""
    device = ar.lm_head.weight.device
    owner_B = torch.arange(batch, device=device) * len(rows) // batch
    token_BT = start + torch.randint(len(ar.lm_head.weight) - start, (batch, _COMPARED), device=device)
    plain = Decoding(ar, rows, owner_B, _COMPARED)
    replayed = ReplayedDecoding(ar, batch, max(map(len, rows)) + _COMPARED)
    differences = [plain.first_hidden_BD - replayed.begin(rows, owner_B)]
    hidden: list[Tensor] = []
    plain_s = _seconds(lambda: hidden.extend(plain.step(token_BT[:, step]) for step in range(_COMPARED)))
    differences += [one - replayed.step(token_BT[:, step]) for step, one in enumerate(hidden)]
    head_KD = ar.lm_head.weight[start:].float()
    logits = [(one.float() @ head_KD.T).abs() for one in differences]
    return {
        "eager_ms": plain_s / _COMPARED * 1e3,
        "difference": float(torch.stack([one.max() for one in logits]).max()),
        "mean_difference": float(torch.stack([one.mean() for one in logits]).mean()),
    }


def _attention(config: Qwen3Config, batch: int, slots: int, device: str) -> dict[str, float | None]:
    """Of one layer's attention over so many slots, by the kernel that does it; None: it can't."""
    heads, keys = config.num_attention_heads, config.num_key_value_heads
    shape = (batch, keys, slots, config.head_dim)
    query = torch.randn(batch, keys, heads // keys, config.head_dim, device=device, dtype=torch.bfloat16)
    key, value = (torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(2))
    mask = torch.ones(batch, 1, 1, slots, dtype=torch.bool, device=device)
    found: dict[str, float | None] = {}
    for backend, sees in (
        (SDPBackend.EFFICIENT_ATTENTION, mask),
        (SDPBackend.CUDNN_ATTENTION, mask),
        (SDPBackend.MATH, mask),
        (SDPBackend.FLASH_ATTENTION, None),
    ):

        def attend(backend: SDPBackend = backend, sees: Tensor | None = sees) -> None:
            with sdpa_kernel(backend):
                for _ in range(20):
                    functional.scaled_dot_product_attention(query, key, value, attn_mask=sees)

        try:
            attend()
            found[backend.name.lower()] = _seconds(attend) / 20 * 1e3
        except RuntimeError:
            found[backend.name.lower()] = None
    found["bytes"] = 2.0 * key.nbytes
    return found


def _seconds(work: Callable[[], object]) -> float:
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main(arguments: Sequence[str]) -> int:
    """POLICY BATCH ANSWER [compiled]: a policy folder, how many samples, where to write the JSON."""
    folder, batch, answer, *how = arguments
    Path(answer).write_text(json.dumps(measure(Path(folder), int(batch), how == ["compiled"])))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
