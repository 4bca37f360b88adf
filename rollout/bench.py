"""Tokens per second of both engines side by side, and how long new weights take to go in."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from policy.base import Policy
from policy.folder import resolve_folder
from policy.trainable import WeightStream
from rl.process.command import command
from rl.process.parser import CommandParser
from rl.types import Prompt
from rollout.samplers.torch_sampler import TorchSampler
from rollout.samplers.vllm_sampler import VllmSampler
from rollout.seeds import group_seeds

REPEATS = 3


def measure(folder: str, prompt_count: int, group_size: int) -> None:
    path = resolve_folder(folder)
    policy = Policy.load(path)
    words = ["a red circle", "two blue squares", "a green star and a yellow ring"]
    prompts = [Prompt(str(index), words[index % len(words)]) for index in range(prompt_count)]
    for engine in (TorchSampler, VllmSampler):
        start = time.perf_counter()
        sampler = engine(path, policy.layout, encode=policy.encode_prompt)
        started = time.perf_counter() - start
        seconds, cpu_seconds, tokens = [], [], 0
        for step in range(REPEATS + 1):
            wall, cpu = time.perf_counter(), time.process_time()
            tokens = sampler.sample(prompts, group_size, group_seeds(0, step, prompts, group_size)).tokens_BT.size
            seconds.append(time.perf_counter() - wall)
            cpu_seconds.append(time.process_time() - cpu)
        wall = time.perf_counter()
        sampler.load_weights("ar", WeightStream.of(policy.ar.state_dict().items()), 1)
        synced = time.perf_counter() - wall
        sys.stdout.write(
            f"{engine.__name__:13} start {started:5.1f} s   first batch {seconds[0]:5.2f} s   "
            f"{tokens / min(seconds[1:]):7.0f} tokens/s   {tokens / min(cpu_seconds[1:]):7.0f} tokens/CPU-s   "
            f"weights in {synced * 1e3:.0f} ms\n"
        )
        sampler.close()


@command
def main(arguments: Sequence[str] | None = None) -> int:
    parser = CommandParser(prog="python -m rollout.bench", description=__doc__)
    parser.add_argument("folder", nargs="?", default="shapes", help="policy folder, or an embedded model's name")
    parser.add_argument("prompts", nargs="?", type=int, default=16)
    parser.add_argument("group_size", nargs="?", type=int, default=8)
    given = parser.parse_args(arguments)
    measure(given.folder, given.prompts, given.group_size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
