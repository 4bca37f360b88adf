"""What a schedule of two networks must keep, and the rules of a step, each for the steps that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rl.config.schema import Config
from rl.config.values import Part

_PHASED = {"rollout.group_size": "group_size", "render.renders": "renders"}


def check_schedule(config: Config) -> Iterator[tuple[str, str]]:
    """(key, message) of every broken rule."""
    schedule = config.schedule
    if schedule.order == "both":
        for part in ("ar", "decoder"):
            if given := getattr(schedule, part).model_dump(exclude_none=True):
                yield (
                    f"schedule.{part}.{next(iter(given))}",
                    "is for steps of one network alone, and schedule.order: both has none; write alternate or after",
                )
        return
    if set(config.trainers) != {"ar", "decoder"}:
        yield (
            "schedule.order",
            f"is {schedule.order}, for two networks that take turns, and trainers is [{', '.join(config.trainers)}]; "
            "write trainers: [ar, decoder], or leave it out",
        )
    if schedule.order == "alternate":
        return
    if schedule.ar.steps is None:
        yield (
            "schedule.order",
            "is after, and nothing says when; give schedule.ar.steps, the steps of the language model",
        )
    elif 0 < config.train.steps <= schedule.ar.steps:
        yield (
            "schedule.ar.steps",
            f"is {schedule.ar.steps} of train.steps {config.train.steps}, so the decoder's turn never comes; make it "
            "smaller",
        )
    if schedule.decoder.steps is not None:
        yield "schedule.decoder.steps", "with order: after the decoder has the rest of the run; leave it out"


@dataclass(frozen=True)
class Phase:
    """The steps in which the same networks learn, and the configuration as it stands in them."""

    config: Config
    parts: tuple[Part, ...]

    def steps_from(self, first: int) -> int:
        """How many there are from a run's step ``first`` on."""
        schedule, part = self.config.schedule, self.parts[0]
        return schedule.steps_of(part, self.config.train.steps) - schedule.steps_of(part, first)


def phases(config: Config) -> list[Phase]:
    """One where all networks learn in every step."""
    if config.schedule.order == "both":
        return [Phase(config, config.trainers)]
    return [Phase(in_phase(config, part), (part,)) for part in config.trainers]


def in_phase(config: Config, part: Part) -> Config:
    """As it stands in the steps in which that part learns."""
    if config.schedule.order == "both":
        return config
    phase = config.schedule.of(part)
    rollout, render = config.rollout, config.render
    return config.model_copy(
        update={
            "rollout": rollout.model_copy(update={"group_size": phase.group_size or rollout.group_size}),
            "render": render.model_copy(update={"renders": phase.renders or render.renders}),
        }
    )


def keyed(config: Config, part: Part, problems: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Problems of that phase under the keys where its values were written."""
    phase = config.schedule.of(part)
    for key, message in problems:
        name = _PHASED.get(key)
        phased = config.schedule.order != "both" and name is not None and getattr(phase, name) is not None
        yield (f"schedule.{part}.{name}" if phased else key), message
