"""What a step of several tasks must keep, across the sections."""

from __future__ import annotations

from collections.abc import Iterator

from rl.config.schema import Config
from rl.config.sections.data import TaskShares


def check_shares(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule."""
    shares, per_step = config.data.shares, config.data.prompts_per_step
    if shares is None:
        return
    if per_step < len(shares.given):
        yield (
            "data.prompts_per_step",
            f"is {per_step}, and data.shares names {len(shares.given)} tasks, of which each step has one prompt at "
            "least; raise it, or leave tasks out",
        )
    yield from _numbers_fixed(config)


def _numbers_fixed(config: Config) -> Iterator[tuple[str, str]]:
    """What would choose other prompts, or other sizes of groups, than those of the shares."""
    for key, chosen, done in (
        ("data.curriculum", config.data.curriculum is not None, "draws tasks by their success"),
        ("groups.flat", config.groups.flat == "resample", "samples further prompts"),
        ("groups.sizes", config.groups.sizes is not None, "shares samples out by success"),
    ):
        if chosen:
            yield key, f"{done}, and data.shares fixes how many prompts of each task a step has; leave one of them out"


def shares_note(shares: TaskShares, per_step: int) -> str:
    """How many of each task a step has: ``data.shares: of 32 prompts a step, 16 draw, 8 edit and 8 answer``."""
    parts = [f"{count} {task}" for task, count in shares.numbers(per_step).items()]
    told = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
    return f"data.shares: of {per_step} prompts a step, {told}"
