"""The deep half of ``python -m rl.doctor``: imports and runs each engine and reward once, each in its own process.

A process of its own, because a crash, a hang or a settled thread pool of one part must not touch the next. A reward is
built with its default options and scores its own reference pictures; one that can't be built without options is left
out. ``python -m rl.doctor.deep torch`` runs one part and prints what it found.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial

from rl.config.declared import read_source
from rl.doctor.components import lacks_weights
from rl.preflight.requirements import SETUP_CPU, Check
from rl.registry import names
from rl.types import UserError

TIMEOUT_S = 600  # vLLM compiles on its first start: 50 CPU seconds, minutes of wall clock on a busy machine
QUIET = {"OMP_WAIT_POLICY": "passive", "VLLM_PLUGINS": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def deep_checks(announce: Callable[[str], None]) -> list[Check]:
    """``announce`` hears each name before its run."""
    checks = []
    for name in all_parts():
        announce(name)
        checks.append(run_part(name))
    return checks


def run_part(name: str, timeout_s: float = TIMEOUT_S) -> Check:
    command = [sys.executable, "-m", "rl.doctor.deep", name]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Check(
            "deep", name, "missing", f"no answer in {timeout_s:g} s", f"{' '.join(command)} shows where it hangs"
        )
    if run.returncode == 0:
        return Check("deep", name, "ok", last_line(run.stdout))
    found = last_line(run.stderr) or f"exit code {run.returncode}"
    if name in names("rewards") and lacks_weights("rewards", name):
        return Check("deep", name, "limited", found)  # which says what to type
    return Check("deep", name, "missing", found, f"{SETUP_CPU}; if it stays: python -m rl.doctor.deep {name}")


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


# Each part returns what it found, or raises.


def torch() -> str:
    import torch

    ones = torch.ones(64, 64)
    assert float((ones @ ones).mean()) == 64.0, "a matrix product of ones is wrong"
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{torch.__version__} multiplies on {', '.join(devices) or 'CPU'}, {torch.get_num_threads()} threads"


def policy() -> str:
    from policy.base import Policy
    from policy.folder import EMBEDDED

    loaded = {name: Policy.load(folder) for name, folder in EMBEDDED.items()}
    return ", ".join(f"{name}: prompt of {len(each.text_ids('a red circle'))} tokens" for name, each in loaded.items())


def vllm() -> str:
    """A two-layer Qwen3 with random weights, one request of four tokens."""
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", OMP_NUM_THREADS="1")
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from vllm import LLM, SamplingParams

    config = Qwen3Config(
        vocab_size=128, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        Qwen3ForCausalLM(config).save_pretrained(folder)
        engine = LLM(
            folder, skip_tokenizer_init=True, dtype="float32", enforce_eager=True, max_model_len=32, block_size=32,
            kv_cache_memory_bytes=64 * 2**20, disable_log_stats=True,
        )  # fmt: skip
        request = {"prompt_token_ids": [1, 2, 3]}
        parameters = SamplingParams(max_tokens=4, min_tokens=4, detokenize=False, ignore_eos=True)
        tokens = engine.generate([request], parameters, use_tqdm=False)[0].outputs[0].token_ids
    assert len(tokens) == 4, f"asked for 4 tokens, got {len(tokens)}"
    return "a random Qwen3 samples 4 tokens"


def deepspeed() -> str:
    """One optimizer step in one process, as the trainer does it."""
    import torch

    if not torch.cuda.is_available():
        os.environ["DS_ACCELERATOR"] = "cpu"
    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # would be compiled; one process needs none
    layer = torch.nn.Linear(4, 1)
    before = layer.weight.detach().clone()
    settings = {"train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True}
    engine, *_ = deepspeed.initialize(
        model=layer, optimizer=torch.optim.AdamW(layer.parameters(), lr=0.1), config=settings
    )
    engine.backward(engine(torch.ones(1, 4, device=engine.device)).sum())
    engine.step()
    after = layer.weight.detach().cpu()
    assert not torch.equal(before, after), "the step changed nothing"
    return f"{deepspeed.__version__} takes a step on {get_accelerator().device_name()}"


def ray() -> str:
    import ray

    # or it would join a cluster of this machine
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        assert ray.get(ray.remote(lambda: 2 + 2).remote(), timeout=120) == 4
    finally:
        ray.shutdown()
    return f"{ray.__version__} runs a task"


def open_clip() -> str:
    from rewards.library.models.open_clip_compat import import_open_clip

    return f"{import_open_clip().__version__} imports"


def reward(name: str) -> str:
    """With its default options, on its own reference pictures."""
    from rewards.load import load_and_prove

    _, proved = load_and_prove(name, name, {})
    return "its own reference pictures are scored right" if proved else "loads; it has no reference pictures"


def all_parts() -> dict[str, Callable[[], str]]:
    """What can be run, by name: the engines, and the rewards that need no options."""
    engines = {part.__name__: part for part in (torch, policy, vllm, deepspeed, ray, open_clip)}
    rewards = [name for name in names("rewards") if name not in engines and _needs_no_options(name)]
    return engines | {name: partial(reward, name) for name in rewards}


def _needs_no_options(name: str) -> bool:
    try:
        source = read_source("rewards", name)
    except UserError:  # has its own line in the table
        return False
    options = source.options() if source else None
    return options is None or not options.needs


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in all_parts():
        sys.exit(f"usage: python -m rl.doctor.deep {'|'.join(all_parts())}")
    os.environ.update(QUIET)  # before anything heavy is imported; vLLM must not load PaddleX's plug-in, which raises
    try:
        print(all_parts()[sys.argv[1]]())
    except UserError as error:
        sys.exit(str(error))
