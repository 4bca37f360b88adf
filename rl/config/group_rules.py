"""What a run must keep that leaves groups out, samples again or shares its samples out."""

from __future__ import annotations

from collections.abc import Iterator

from rl.config.declared import declared_or_nothing
from rl.config.schema import Config


def check_groups(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule."""
    groups, size = config.groups, config.rollout.group_size
    if config.train.steps == 0:
        return
    if groups.flat != "keep":
        yield from _flat(config)
    if groups.flat == "resample" or groups.sizes is not None:
        key = "groups.flat" if groups.flat == "resample" else "groups.sizes"
        yield from _alone(config, key)
    if groups.sizes is None:
        return
    least = declared_or_nothing("advantages", config.advantage.use).least_group
    if size % groups.unit:
        yield "groups.unit", f"is {groups.unit}, which does not divide rollout.group_size {size}; write one that does"
    elif size == groups.unit:
        yield (
            "groups.unit",
            f"is rollout.group_size itself ({size}), so every prompt would get one unit; write a smaller divisor of it",
        )
    elif groups.unit < least:
        yield (
            "groups.unit",
            f"is {groups.unit}, and advantage {config.advantage.use!r} compares at least {least} samples of a prompt",
        )


def _flat(config: Config) -> Iterator[tuple[str, str]]:
    if "ar" not in config.trainers:
        yield (
            "groups.flat",
            f"is {config.groups.flat}, which is about the groups of the language model, and trainers is "
            f"[{', '.join(config.trainers)}]; leave it at keep",
        )
    elif config.rollout.group_size == 1:
        yield (
            "groups.flat",
            f"is {config.groups.flat}, and with rollout.group_size 1 all rewards of a group are equal, so nothing "
            "would be left; leave it at keep",
        )


def _alone(config: Config, key: str) -> Iterator[tuple[str, str]]:
    if "decoder" in config.trainers:
        yield (
            key,
            "chooses samples for the language model, and the decoder learns from the same pictures; write trainers: "
            "[ar], or leave it out",
        )
    if key == "groups.flat" and config.rollout.sleep == 2:
        yield (
            "rollout.sleep",
            "level 2 drops the engine's weights after the first round of a step, and groups.flat: resample samples "
            "several; set it to 1",
        )
