"""What a run on many workers can't do, or can do better."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rl.config.schema import Config


def check_loop(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule of ``loop`` and ``cluster``."""
    loop = config.loop
    if config.cluster.trainers:
        yield from _trainers(config)
    if not loop.ahead:
        if loop.staleness:
            yield (
                "loop.staleness",
                f"is {loop.staleness}, and a serial loop samples with the weights of now; write loop.use: ahead, or "
                "leave it out",
            )
        if loop.in_turn:
            yield "loop.in_turn", "is true, and a serial loop has nobody who waits; leave it out"
        return
    yield from _parts(config)
    if loop.staleness:
        yield from _off_policy(config)
    elif not loop.in_turn and not config.rollout.sleep:  # those that sleep lend what they have meanwhile
        yield from _waiting(config)


def ranks_of(config: Config) -> int:
    """That share each update, wherever they are."""
    return config.cluster.trainers or config.train.ranks


def ranks_key(config: Config) -> str:
    """Where the number of ranks was written."""
    return "cluster.trainers" if config.cluster.trainers else "train.ranks"


def counted(count: int, word: str) -> str:
    """``1 sampler``, ``2 samplers``."""
    return f"{count} {word}{'s' * (count != 1)}"


def _waiting(config: Config) -> Iterator[tuple[str, str]]:
    """Workers of their own that are of no use most of the time."""
    cluster = config.cluster
    workers = [counted(cluster.samplers, "sampler")]
    workers += [counted(cluster.painters, "painter")] if cluster.painters else []
    if config.painters_follow:
        why = "as a decoder that learns asks for; write loop.in_turn: true if that is meant, or loop.use: serial"
    else:
        more = (
            "write 2, which keeps all of them busy"
            if cluster.painters
            else "let samplers lend their memory (rollout.sleep)"
        )
        why = f"for the serial loop's numbers; {more}, or loop.use: serial, or loop.in_turn: true if that is meant"
    yield (
        "loop.staleness",
        f"is 0, so {' and '.join(workers)} wait{'s' * (workers == ['1 sampler'])} during each update and the trainer "
        f"during the rest, {why}",
    )


def _trainers(config: Config) -> Iterator[tuple[str, str]]:
    """What trainers that are Ray actors can't do."""
    count = config.cluster.trainers
    if not config.loop.ahead:
        yield "cluster.trainers", f"is {count}, and a serial loop trains in its own process; write loop.use: ahead"
        return
    if config.train.ranks > 1:
        yield (
            "train.ranks",
            f"is {config.train.ranks}, which are ranks of this machine (or torchrun's), and cluster.trainers {count} "
            "are Ray's; leave one of them out",
        )
    if "decoder" in config.trainers:
        yield "cluster.trainers", f"is {count}, and these learn the language model alone; train the decoder with 0"
    if not config.cluster.painters:
        yield "cluster.painters", f"is 0, so that whoever trains paints, and {count} cluster.trainers don't; write 1"
    if config.rollout.sleep:
        yield "rollout.sleep", f"lends the GPUs of a trainer in the run's own process, not of cluster.trainers {count}"
    if config.supervised:
        yield "cluster.trainers", f"is {count}, and a supervised run trains in its own process; leave it out"
    if config.checkpoint.experience is False:
        yield (
            "checkpoint.experience",
            "is false, and trainers that are started again learn from it what no checkpoint has; leave it at auto",
        )


def _parts(config: Config) -> Iterator[tuple[str, str]]:
    """What is not there for other processes yet."""
    if config.painters_follow:
        yield from _decoder(config)
    if config.groups.flat == "resample":
        yield (
            "groups.flat",
            "is resample, so a step's scores say how many prompts it uses up, and with loop.use: ahead the next step "
            "has drawn its own by then; write skip, or loop.use: serial",
        )
    if config.eval.policy == "ema":
        yield (
            "eval.policy",
            "is ema, and workers of a cluster take the weights that learn alone; leave it at live, or write "
            "loop.use: serial",
        )
    if not config.sync.enabled:
        yield "sync.enabled", "is false, and samplers of a cluster work with published weights alone; leave it out"


def _decoder(config: Config) -> Iterator[tuple[str, str]]:
    """What a decoder can't do that learns from pictures of others."""
    if config.loop.staleness:
        yield (
            "loop.staleness",
            f"is {config.loop.staleness}, and a decoder learns from what the weights of now have painted; write 0 with "
            "loop.in_turn: true, or take it out of trainers",
        )
    trained, order = config.trained_decoder, config.schedule.order
    if trained is not None and trained.old != "live" and order != "both":
        yield (
            "decoder.old",
            f"is {trained.old}, so with schedule.order {order} the language model's steps are painted with other "
            "weights than the decoder's, and painters get one set; write live, or cluster.painters: 0",
        )


def _off_policy(config: Config) -> Iterator[tuple[str, str]]:
    staleness = config.loop.staleness
    if config.rollout.sleep:
        yield (
            "rollout.sleep",
            f"is {config.rollout.sleep}, and with loop.staleness {staleness} samplers work while others learn, so they "
            "can't lend their memory; set it to 0, or loop.staleness to 0",
        )
    if config.loop.in_turn:
        yield "loop.in_turn", f"is true, and with loop.staleness {staleness} nobody takes turns; leave one of them out"
    if not config.cluster.painters:
        yield (
            "cluster.painters",
            f"is 0, so that the trainer paints with the weights of now, and loop.staleness {staleness} asks for older "
            "ones; write 1, or loop.staleness: 0 with loop.in_turn: true",
        )
    if not config.logs_experience:
        yield (
            "checkpoint.experience",
            "is false, and steps that were begun with older weights can't be repeated without it; leave it at auto",
        )
    if config.checkpoint.keep < 2:
        yield (
            "checkpoint.keep",
            f"is {config.checkpoint.keep}, and a run {counted(staleness, 'step')} ahead may have to go on from the "
            "checkpoint before the last; write 2",
        )
    if config.correction is None:
        yield (
            "correction",
            f"is null, and with loop.staleness {staleness} samples come from older weights than those that "
            "learn; leave it at token_tis",
        )
