"""Bytes of each thing that lies in a run's memory: pure functions of sizes, the factors measured (``python -m
rl.memory`` repeats the measurement). Numbers are counted as eager torch keeps them.
"""

from __future__ import annotations

from policy.ar.size import ArSize
from rl.preflight.memory.plan import Plan
from rl.preflight.memory.sizes import DecoderSize, PolicySize

_PROCESS = {"cpu": 640_000_000, "cuda": 700_000_000}  # Python, torch and libraries; a GPU's context and workspaces
_VLLM = {"cpu": 200_000_000, "cuda": 300_000_000}  # what it imports, and its buffers
_BUCKET = 500_000_000  # numbers; DeepSpeed's own default
_HEAP = 32 << 20
_LOGITS = 4  # of one chunk: raw, divided, log-softmax, and probabilities or a gradient
_DRAWN = 32  # bytes a logit while a token is drawn: three times float32, the distribution in float64


def process(plan: Plan) -> int:
    return _PROCESS[plan.device] + (_VLLM[plan.device] if plan.engine == "vllm" else 0)


def weights(plan: Plan, ar: ArSize) -> int:
    """Of the trainer; adapters lie beside the frozen rest."""
    sharded = plan.ranks if plan.zero_stage == 3 else 1
    return (ar.parameters + plan.adapters) * plan.train_bytes // sharded


def gradients(plan: Plan, ar: ArSize) -> int:
    """ZeRO adds them up in float32, in buffers that stay."""
    each = 4 if plan.zero_stage else plan.train_bytes
    return plan.trained(ar) * each // (plan.ranks if plan.zero_stage >= 2 else 1)


def reduce_bucket(plan: Plan, ar: ArSize) -> int:
    """ZeRO's buffer on the way to the other ranks; a CPU gives it only the pages that are written."""
    if plan.zero_stage == 0:
        return 0
    numbers = min(_BUCKET, plan.trained(ar)) if plan.device == "cpu" else _BUCKET
    return numbers * plan.train_bytes


def optimizer(plan: Plan, ar: ArSize) -> int:
    """AdamW's moments, and the float32 copy of the weights that ZeRO has. On a GPU they may lie in the host."""
    if plan.offload_optimizer and plan.device == "cuda":
        return 0
    return plan.trained(ar) * plan.optimizer_bytes // (plan.ranks if plan.zero_stage else 1)


def reference(plan: Plan, ar: ArSize) -> int:
    return ar.parameters * plan.train_bytes if plan.reference_copy else 0


def sampler(plan: Plan, ar: ArSize) -> int:
    """vLLM on a CPU packs its weights, the head too, and what was read stays beside them."""
    numbers = ar.parameters
    if plan.engine == "vllm" and plan.device == "cpu":
        numbers = 2 * ar.parameters + ar.vocabulary * ar.hidden
    return numbers * plan.sampler_bytes


def cache(plan: Plan, ar: ArSize, tokens: int) -> int:
    """Keys and values: vLLM keeps its own from the start, the torch sampler has them while it samples, on a CPU in
    float32; on a GPU it keeps them, because its graphs name where they lie."""
    if plan.engine == "vllm":
        return plan.cache_bytes
    each = 4 if plan.device == "cpu" else plan.sampler_bytes
    return plan.running * (plan.prompt_tokens + tokens) * ar.cached_numbers * each


def sampled_logits(plan: Plan, size: PolicySize) -> int:
    words = size.ar.vocabulary if plan.engine == "vllm" else size.codes
    return plan.running * words * _DRAWN


def hidden_states(plan: Plan, size: PolicySize) -> int:
    """Of all samples of a step: what is painted, and what the reference answers."""
    numbers = plan.samples * (size.tokens + 1) * size.ar.hidden
    return numbers * (plan.sampler_bytes + (plan.train_bytes if plan.has_reference else 0))


def activations(plan: Plan, size: PolicySize, micro_batch: int) -> int:
    """What a forward keeps for its backward: at each position of a layer the inputs of norms and products."""
    ar, prompts = size.ar, plan.prompts_in(micro_batch) * plan.prompt_tokens
    positions = prompts + micro_batch * size.tokens
    numbers = 8 * ar.hidden + 5 * ar.queries + 4 * ar.keys + 4 * ar.inner
    keeps = 4.0 if plan.train_bytes == 4 else 2.9  # norms and attention compute in float32
    layer = positions * numbers * keeps + _masks(plan, size, micro_batch)
    if plan.checkpointing:
        return int(layer + ar.layers * positions * ar.hidden * plan.train_bytes)
    return int(layer * ar.layers)


def kept_by_heap(plan: Plan, size: PolicySize) -> int:
    """Activations that the C library does not give back: on a CPU, of tensors below 32 MiB, its largest threshold."""
    return activations(plan, size, plan.micro_batch) if plan.ar_learns and below_heap(plan, size) else 0


def below_heap(plan: Plan, size: PolicySize) -> bool:
    """Whether activations are of that kind."""
    widest = max(size.ar.inner, size.ar.queries, size.ar.hidden) * plan.train_bytes
    return plan.device == "cpu" and plan.micro_batch * size.tokens * widest <= _HEAP


def _masks(plan: Plan, size: PolicySize, micro_batch: int) -> int:
    """Who sees whom, as the attention of one layer keeps it: once for each query head of a key."""
    per_key = size.ar.queries // size.ar.keys
    return micro_batch * per_key * size.tokens * (size.tokens + plan.prompt_tokens) * 4


def logits(plan: Plan, size: PolicySize, micro_batch: int) -> int:
    """Of the chunk of positions that is scored at one time, in float32."""
    return min(plan.logprob_chunk, micro_batch * size.tokens) * size.codes * 4 * _LOGITS


def head_gradient(plan: Plan, size: PolicySize) -> int:
    """The image rows' gradient becomes one of the whole head before it is added."""
    if plan.adapters:
        return 0
    return (size.ar.vocabulary + size.codes) * size.ar.hidden * plan.train_bytes


def step_copies(plan: Plan, ar: ArSize) -> int:
    """AdamW on a CPU takes the root of each second moment, in two copies of the largest parameter: the embedding, or
    all of them, which ZeRO has made one.
    """
    if plan.device == "cuda":
        return 0
    largest = plan.trained(ar) // plan.ranks if plan.zero_stage else min(ar.vocabulary * ar.hidden, plan.trained(ar))
    return 2 * largest * 4


def painting(plan: Plan, decoder: DecoderSize, micro_batch: int) -> int:
    """The transformer's feed-forward or the autoencoder's largest map, whichever is larger."""
    in_float = plan.decoder_bytes == 4
    transformer = decoder.latents * decoder.width * (6 * decoder.expansion + 3) * (4 if in_float else 2.6)
    autoencoder = decoder.widest * (18.8 if in_float else 13.4)
    return int(micro_batch * max(transformer, autoencoder))


def pictures(plan: Plan, decoder: DecoderSize) -> int:
    """Of all renders of a step: one by one, and stacked."""
    return 2 * plan.samples * plan.renders * decoder.pixels * 3
