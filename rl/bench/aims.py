"""What a step would have to take to be as fast as we want it, beside what it takes: in sentences, from the figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rl.bench.kinds import MULTIPLYING
from rl.bench.results import Figures, VariantOutcome
from rl.bench.variants import BASE

TIMES_TRL = {"ours": 1.3, "ours-best": 3.0}
"""Over TRL with its own generate at equal settings."""
TIMES_FLOOR = 1.3


def aims(figures: Figures) -> list[str]:
    """A paragraph for each variant whose floor is known."""
    return [" ".join(_sentences(figures, one)) for one in figures.outcomes if one.measured and one.floor]


def _sentences(figures: Figures, one: VariantOutcome) -> Iterator[str]:
    wanted = _wanted(figures, one)
    verdicts = [f"{name}: {_verdict(one, aim)}" for name, aim in wanted.items()]
    yield f"{one.title}, aims: {'; '.join(verdicts)}."
    beyond = {stage.stage: one.stage(stage.stage) - stage.seconds for stage in one.floor} | {"rest": one.rest}
    yield (
        f"The step of {one.seconds:.3f} s is {one.floor_s:.3f} s of floor and {one.seconds - one.floor_s:.3f} s "
        f"beyond it: {_listed(beyond)}."
    )
    if below := [name for name, seconds in beyond.items() if seconds < 0]:
        yield (
            f"Less than its floor: {', '.join(below)}, done by other processes while the step goes on; its floor "
            "counts all the same."
        )
    if one.kinds:
        yield from _kinds(one, {name: one.seconds - aim for name, aim in wanted.items() if aim < one.seconds})


def _wanted(figures: Figures, one: VariantOutcome) -> dict[str, float]:
    """Aim -> seconds."""
    base, times = figures.outcome(BASE), TIMES_TRL.get(one.name)
    beside_trl = {f"{times} x TRL": base.seconds / times} if base and times else {}
    return beside_trl | {"near the floor": TIMES_FLOOR * one.floor_s}


def _kinds(one: VariantOutcome, missing: Mapping[str, float]) -> Iterator[str]:
    """``missing``: seconds to each aim that is not reached."""
    least = sum(one.floor_kinds[kind] for kind in MULTIPLYING)
    took = sum(one.kinds.get(kind, 0.0) for kind in MULTIPLYING)
    if least:
        yield f"In the profiled step attention and products took {took:.3f} s for {least:.3f} s of floor."
    others = {kind: seconds for kind, seconds in one.kinds.items() if kind not in MULTIPLYING}
    rest = sum(others.values())
    yield f"What is neither attention nor products took {rest:.3f} of {took + rest:.3f} s: {_listed(others)}."
    if missing:
        shares = ", ".join(f"{seconds / rest:.0%} ({name})" for name, seconds in missing.items())
        yield f"If nothing else changed, so much of it would have to go: {shares}."


def _verdict(one: VariantOutcome, aim: float) -> str:
    verdict = "reached" if one.seconds <= aim else f"not reached, {one.seconds - aim:.3f} s too many"
    return f"{aim:.3f} s = {aim / one.floor_s:.2f} x the floor, {verdict}"


def _listed(seconds: Mapping[str, float]) -> str:
    """The largest first."""
    return "; ".join(f"{name} {one:.3f}" for name, one in sorted(seconds.items(), key=lambda pair: -pair[1]))
