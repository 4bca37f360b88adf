"""The answers in sentences: which is better, by how much, how sure, what got worse, at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rl.evaluation.results import GRADED, OVERALL
from rl.evaluation.statistics import Estimate
from rl.sweep.result.compare import SweepRow, Versus
from rl.sweep.result.gather import MadeArm, rewards_of
from rl.sweep.result.sheet import START, SheetRow
from rl.tracking.clock import duration

_SHOWN = 4


@dataclass(frozen=True)
class Answer:
    """A question that the page answers first."""

    question: str
    sentences: tuple[str, ...]


def answers(
    arms: Sequence[MadeArm], baseline: str, rows: Sequence[SweepRow], sheet: Sequence[SheetRow]
) -> list[Answer]:
    """Nothing if no arm has a finished run."""
    made = [arm for arm in arms if arm.runs]
    reward = headline(made)
    if reward is None:
        return []
    overall = {row.arm: row for row in rows if row.reward == reward and row.task == OVERALL}
    ranked = sorted(overall.values(), key=lambda row: -row.after.estimate.mean)
    several = len(made) > 1
    found = [Answer("Which is better?" if several else "What did it learn?", tuple(_better(ranked, baseline, reward)))]
    if several:
        found.append(Answer("By how much, how sure?", tuple(_how_much(ranked, baseline))))
    found.append(Answer("What got worse?", tuple(_worse(made, sheet, baseline, overall))))
    found.append(Answer("At what cost?", tuple(_cost(made, baseline, overall))))
    return found


def headline(arms: Sequence[MadeArm]) -> str | None:
    """The reward that decides: the first that is trained on."""
    strict = [reward for reward in rewards_of(arms) if not reward.endswith(GRADED)]
    return strict[0] if strict else None


def _better(ranked: Sequence[SweepRow], baseline: str, reward: str) -> Iterator[str]:
    if len(ranked) == 1:
        row = ranked[0]
        yield (
            f"{row.arm}: held-out {reward} {row.before.estimate.mean:.3f} → {row.after.estimate.mean:.3f} "
            f"({row.gain.estimate.mean:+.3f}) over {_seeds(row.seeds)}."
        )
        return
    best = ranked[0]
    sure = [row for row in ranked if _sure(row) > 0]
    base = next((row for row in ranked if row.arm == baseline), None)
    if base is None:
        yield f"{baseline}, the baseline, has no finished run: {best.arm} is highest on held-out {reward}, untested."
    elif best.arm == baseline:
        chance = (
            "" if all(_sure(row) < 0 for row in ranked[1:]) else "; where it is not significant, that may be chance"
        )
        yield (
            f"No arm is above {baseline}, the baseline, on held-out {reward} ({base.after.estimate.mean:.3f}){chance}."
        )
    elif sure:
        highest = f"; {best.arm} is highest, {best.after.estimate.mean:.3f}." if len(sure) > 1 else "."
        yield f"{are([row.arm for row in sure])} better than {baseline} on held-out {reward}{highest}"
    else:
        yield (
            f"No arm is surely better than {baseline} on held-out {reward}: {best.arm} is highest "
            f"({best.after.estimate.mean:.3f} against {base.after.estimate.mean:.3f}), which may be chance."
        )
    if below := [row.arm for row in ranked if _sure(row) < 0]:
        yield f"{are(below)} worse than {baseline}."


def _how_much(ranked: Sequence[SweepRow], baseline: str) -> Iterator[str]:
    for row in ranked:
        if row.arm == baseline:
            yield f"{row.arm}: {scored(row.after.estimate)} (baseline), {_seeds(row.seeds)}."
        elif row.versus is None:
            yield f"{row.arm}: {scored(row.after.estimate)}; nothing to compare with {baseline} prompt by prompt."
        else:
            seeds = _seeds(row.versus.difference.seeds)
            yield f"{row.arm}: {scored(row.after.estimate)}, {versus_words(row.versus)}, {seeds}."


def versus_words(versus: Versus) -> str:
    """``+0.021 (+0.004 to +0.038), p = 0.020 (0.040 after Holm): significant``"""
    estimate, p = versus.difference.estimate, versus.difference.p
    told = f"{estimate.mean:+.3f}"
    if estimate.interval:
        told += f" ({estimate.low:+.3f} to {estimate.high:+.3f})"
    if p is None or versus.holm is None:
        return told + ", one seed and one prompt cannot tell"
    sure = "significant" if versus.significant else "may be chance"
    if versus.suggestive:
        sure = "significant alone, not among so many comparisons"
    return f"{told}, p {p_text(p)} ({p_text(versus.holm).removeprefix('= ')} after Holm): {sure}"


def p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def scored(estimate: Estimate) -> str:
    """``0.823 [0.808, 0.835]``"""
    return f"{estimate.mean:.3f}" + (f" [{estimate.low:.3f}, {estimate.high:.3f}]" if estimate.interval else "")


def _worse(
    arms: Sequence[MadeArm], sheet: Sequence[SheetRow], baseline: str, overall: dict[str, SweepRow]
) -> Iterator[str]:
    unhurt, alarmed = dict[str, list[str]](), list[str]()
    for arm in arms:
        row = overall.get(arm.name)
        if row is not None and row.versus is not None and _sure(row) < 0:
            yield f"{arm.name} against {baseline}: all in all {row.versus.difference.estimate.mean:+.3f}, significant."
        others = [START] if arm.name == baseline else [baseline, START]
        for other in others:
            rows = [row for row in sheet if (row.arm, row.against, row.verdict) == (arm.name, other, "worse")]
            told = "its own start" if other == START else other
            if not any((row.arm, row.against) == (arm.name, other) for row in sheet):
                yield f"{arm.name} against {told}: not compared, for no finished run has the same seed."
                continue
            sure = [row for row in rows if row.versus.significant]
            unsure = [row for row in rows if not row.versus.significant and row.kind in ("task", "monitor")]
            if sure:
                yield f"{arm.name} against {told}: {_fallen(sure)}, significant."
            elif unsure:
                yield f"{arm.name} against {told}: nothing for sure; lower, perhaps by chance: {_fallen(unsure)}."
            else:
                unhurt.setdefault(other, []).append(arm.name)
        if alarms := sum(len(run.alarms) for run in arm.runs):
            alarmed.append(f"{arm.name} {alarms}")
    for other, names in unhurt.items():
        told = other if other != START else "its own start" if len(names) == 1 else "their own start"
        yield f"{listed_names(names)} against {told}: nothing."
    if alarmed:
        yield f"Alarms of the guards (listed on the page): {', '.join(alarmed)}."


def _fallen(rows: Sequence[SheetRow]) -> str:
    told = [f"{row.name} {row.versus.difference.estimate.mean:+.3g}" for row in rows[:_SHOWN]]
    return ", ".join(told) + (f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else "")


def _cost(arms: Sequence[MadeArm], baseline: str, overall: dict[str, SweepRow]) -> Iterator[str]:
    base = next((arm for arm in arms if arm.name == baseline), None)
    for arm in arms:
        told = f"{arm.name}: {duration(arm.seconds)} of training and {arm.pictures:,.0f} pictures a run"
        if base is not None and arm is not base and base.seconds > 0 and base.pictures > 0:
            told += f" ({arm.seconds / base.seconds:.2f} x the time, {arm.pictures / base.pictures:.2f} x the pictures)"
        row = overall.get(arm.name)
        if row is not None and arm.seconds > 0 and arm.pictures > 0:
            gain = row.gain.estimate.mean
            told += f"; {60 * gain / arm.seconds:+.3f} a minute, {1000 * gain / arm.pictures:+.4f} a thousand pictures"
        yield told + "."


def _sure(row: SweepRow) -> int:
    """1 better than the baseline, -1 worse, 0 may be chance."""
    if row.versus is None or not row.versus.significant:
        return 0
    return 1 if row.versus.difference.estimate.mean > 0 else -1


def are(names: Sequence[str]) -> str:
    return f"{listed_names(names)} {'are' if len(names) > 1 else 'is'}"


def _seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def listed_names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
