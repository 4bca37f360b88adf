"""What a run on many workers can't do, or can do better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rl.config.schema import Config


def check_loop(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule of ``loop`` and ``cluster``."""
    loop = config.loop
    if not loop.ahead:
        if loop.staleness:
            yield (
                "loop.staleness",
                f"is {loop.staleness}, and a serial loop samples with the weights of now; write loop.use: ahead, or "
                "leave it out",
            )
        return
    yield from _parts(config)
    if loop.staleness:
        yield from _off_policy(config)


def loop_notes(config: Config) -> Iterator[str]:
    """What is allowed and wastes something."""
    cluster, loop = config.cluster, config.loop
    if loop.ahead and loop.staleness == 0:
        yield (
            f"loop.staleness: 0, so {cluster.samplers} sampler{'s' * (cluster.samplers > 1)} and {cluster.painters} "
            f"painter{'s' * (cluster.painters > 1)} wait during each update, and the trainer during the rest; 2 keeps "
            "all of them busy"
        )


def _parts(config: Config) -> Iterator[tuple[str, str]]:
    """What is not there for other processes yet."""
    if "decoder" in config.trainers:
        yield (
            "loop.use",
            "is ahead, which trains the language model alone, and trainers names the decoder; write loop.use: serial",
        )
    if config.data.curriculum or config.groups.sizes or config.groups.flat == "resample":
        key = "data.curriculum" if config.data.curriculum else "groups.sizes" if config.groups.sizes else "groups.flat"
        yield (
            key,
            "lets scores say which prompts come next, and with loop.use: ahead these are sampled before; write "
            "loop.use: serial, or leave it out",
        )
    if config.rollout.sleep:
        yield "rollout.sleep", "samplers of a cluster have their memory to themselves; set it to 0, or loop.use: serial"
    if config.eval.policy == "ema":
        yield (
            "eval.policy",
            "is ema, and workers of a cluster take the weights that learn alone; leave it at live, or write "
            "loop.use: serial",
        )
    if not config.sync.enabled:
        yield "sync.enabled", "is false, and samplers of a cluster work with published weights alone; leave it out"


def _off_policy(config: Config) -> Iterator[tuple[str, str]]:
    if not config.logs_experience:
        yield (
            "checkpoint.experience",
            "is false, and steps that were begun with older weights can't be repeated without it; leave it at auto",
        )
    if config.checkpoint.keep < 2:
        yield (
            "checkpoint.keep",
            f"is {config.checkpoint.keep}, and a run {config.loop.staleness} steps ahead may have to go on from the "
            "checkpoint before the last; write 2",
        )
    if config.correction is None:
        yield (
            "correction",
            f"is null, and with loop.staleness {config.loop.staleness} samples come from older weights than those that "
            "learn; leave it at token_tis",
        )
