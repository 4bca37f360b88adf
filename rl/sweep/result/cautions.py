"""What keeps the numbers of a sweep from being believed, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rl.sweep.result.gather import MadeArm
from rl.sweep.result.words import are, listed_names

ENOUGH_SEEDS = 3
_SAME_BUDGET = 0.01  # of the pictures


def warnings(arms: Sequence[MadeArm], baseline: str) -> list[str]:
    """What keeps the numbers from being believed."""
    return [*_few_seeds(arms), *_missing(arms), *_budgets(arms), *_unlike(arms), *_unpaired(arms, baseline)]


def _few_seeds(arms: Sequence[MadeArm]) -> Iterator[str]:
    few = [arm for arm in arms if arm.runs and len(arm.runs) < ENOUGH_SEEDS]
    if few:
        told = listed_names([f"{arm.name} ({len(arm.runs)})" for arm in few])
        yield f"Fewer than {ENOUGH_SEEDS} seeds: {told}. Another seed may say something else."


def _missing(arms: Sequence[MadeArm]) -> Iterator[str]:
    for arm in arms:
        for one in arm.missing:
            told = f": {one.reason}" if one.reason else ""
            yield f"{arm.name}, seed {one.run.seed}, is missing ({one.state}{told})."


def _budgets(arms: Sequence[MadeArm]) -> Iterator[str]:
    made = [arm for arm in arms if arm.runs]
    pictures, steps = [arm.pictures for arm in made], [arm.steps for arm in made]
    if made and max(pictures) > min(pictures) * (1 + _SAME_BUDGET):
        told = ", ".join(f"{arm.name} {arm.pictures:,.0f}" for arm in made)
        yield f"The arms have different budgets of training pictures: {told}. More pictures alone teach more."
    if made and max(steps) > min(steps):
        yield f"The arms have different numbers of steps: {', '.join(f'{arm.name} {arm.steps:g}' for arm in made)}."


def _unlike(arms: Sequence[MadeArm]) -> Iterator[str]:
    sessions = [session for arm in arms for run in arm.runs for session in run.sessions]
    if len({session.get("code") for session in sessions}) > 1:
        yield "The runs were not all made by the same code; remove the folders of the older ones to make them again."
    machines = sorted({", ".join([session["cpu"], *session["accelerators"]]) for session in sessions})
    if len(machines) > 1:
        yield f"The runs were made on different machines, so their times do not compare: {'; '.join(machines)}."


def _unpaired(arms: Sequence[MadeArm], baseline: str) -> Iterator[str]:
    asked = {arm.name: (arm.config.data.eval, arm.config.eval.seed) for arm in arms if arm.config is not None}
    others = [name for name, found in asked.items() if found != asked.get(baseline, found)]
    if others:
        yield (
            f"{are(others)} evaluated on other held-out prompts or seeds than {baseline}: what both have is compared."
        )
