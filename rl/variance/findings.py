"""From tables of rewards to what they say: shares, the number of renders, the number of steps, in numbers and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.table import Table as RichTable

from rl.evaluation.statistics import Estimate
from rl.evaluation.variance import VarianceSplit, best_renders, complete, crossed, nested, rank_correlation
from rl.report.bars import bar_chart
from rl.types import UserError
from rl.variance.arguments import VariancePlan
from rl.variance.measure import VarianceMeasurement

ENOUGH_CORRELATION = 0.95
LEAST_DECODER_SHARE = 0.02
_FEWEST_PROMPTS = 5  # of fewer, all ways to draw them again are too few for an interval of 95 %
_WIDEST = 0.5  # of the share's interval: beyond it, not even who has more of the variance is known
_COLUMNS = 2


@dataclass(frozen=True)
class VarianceFinding:
    """One reward at one number of steps."""

    reward: str
    steps: int
    mean: float
    split: VarianceSplit
    varies: bool
    """Whether any prompt's pictures differ in it."""
    rank_correlation: float | None
    """With the rewards at the largest number of steps, inside groups; None where neither tells two sequences apart."""
    best_renders: int | None
    """For the language model, at the cost of the plan; None where tokens decide nothing."""
    picture_seconds: float

    @property
    def told(self) -> bool:
        """Whether the pictures are enough to say who decides the variance."""
        share = self.split.decoder_share
        if share is None or share.interval is None or self.split.prompts < _FEWEST_PROMPTS:
            return False
        return share.interval[1] - share.interval[0] <= _WIDEST


def analyse(plan: VariancePlan, found: VarianceMeasurement) -> list[VarianceFinding]:
    """By reward, then by steps. A reward that applies to no prompt is left out. Raises UserError if all are."""
    exact, findings = plan.steps[-1], []
    for reward in found.rewards[exact]:
        for steps in plan.steps:
            (alone,) = complete(found.rewards[steps][reward])
            split = crossed(alone) if plan.design == "crossed" else nested(alone)
            if split is None:
                continue
            tables, others = complete(found.rewards[steps][reward], found.rewards[exact][reward])
            picture = found.picture_cost(steps)
            sequence = found.sequence_cost() if plan.sequence_cost is None else plan.sequence_cost * picture
            mean = sum(float(table.mean()) for table in alone) / len(alone)
            varies = any(float(np.ptp(table)) > 1e-9 for table in alone)
            correlation = rank_correlation(tables, others)
            best = best_renders(split, sequence, picture, shared_noise=plan.config.render.seed == "group")
            findings.append(VarianceFinding(reward, steps, mean, split, varies, correlation, best, picture))
    if not findings:
        raise UserError(
            f"no reward has scored two token sequences of one prompt in all their renders: see what metadata "
            f"{', '.join(plan.config.rewards)} need of a prompt"
        )
    return findings


def enough_steps(findings: Sequence[VarianceFinding]) -> int:
    """The fewest steps that keep the order of one reward's sequences; the largest number where none does."""
    return next(
        one.steps for one in findings if one is findings[-1] or (one.rank_correlation or 0) >= ENOUGH_CORRELATION
    )


def sentences(plan: VariancePlan, findings: Sequence[VarianceFinding]) -> list[str]:
    """One per reward, at the configuration's number of steps."""
    return [_sentence(plan, rows) for rows in by_reward(findings).values()]


def by_reward(findings: Sequence[VarianceFinding]) -> dict[str, list[VarianceFinding]]:
    found: dict[str, list[VarianceFinding]] = {}
    for one in findings:
        found.setdefault(one.reward, []).append(one)
    return found


def as_json(plan: VariancePlan, found: VarianceMeasurement, findings: Sequence[VarianceFinding]) -> dict[str, object]:
    return {
        "policy": plan.config.policy.path,
        "design": plan.design,
        "prompts": len(plan.prompts),
        "group": plan.group,
        "renders": plan.renders,
        "steps": plan.steps,
        "sequence_seconds": found.sequence_cost(),
        "failures": {reward: len(reasons) for reward, reasons in found.failures.items() if reasons},
        "recommended_steps": {reward: enough_steps(rows) for reward, rows in by_reward(findings).items()},
        "sentences": sentences(plan, findings),
        "findings": [asdict(one) for one in findings],
    }


def console_table(findings: Sequence[VarianceFinding]) -> RichTable:
    table = RichTable(title="Variance of the reward inside a prompt, in shares", title_justify="left")
    table.add_column("reward")
    for name in ("steps", "mean", "std", "tokens", "noise", "interaction", "decoder, 95 %", "rank corr.", "ms/picture"):
        table.add_column(name, justify="right")
    for rows in by_reward(findings).values():
        table.add_section()
        for one in rows:
            split, whole = one.split, one.split.total
            table.add_row(
                one.reward,
                str(one.steps),
                f"{one.mean:.3f}",
                f"{max(whole, 0.0) ** 0.5:.3f}",
                *(_percent(part, whole) for part in (split.tokens, split.noise, split.interaction)),
                _interval(split.decoder_share),
                "-" if one.rank_correlation is None else f"{one.rank_correlation:.3f}",
                f"{1000 * one.picture_seconds:.2f}",
            )
    return table


def picture(findings: Sequence[VarianceFinding]) -> str:
    """An SVG with a frame of bars per reward: the variance components at each number of steps, with their sign."""
    charts = [
        bar_chart(f"{reward}: variance", {_steps(one.steps): _components(one.split) for one in rows})
        for reward, rows in by_reward(findings).items()
    ]
    columns = min(_COLUMNS, len(charts))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("bars.svg").render(
        charts=charts,
        names=list(_components(findings[0].split)),
        columns=columns,
        width=440 * columns,
        height=40 + 290 * -(-len(charts) // columns),
    )


def _components(split: VarianceSplit) -> Mapping[str, float]:
    if split.interaction is None:
        return {"tokens": split.tokens, "noise": split.noise}
    return {"tokens": split.tokens, "noise": split.noise, "interaction": split.interaction}


def _sentence(plan: VariancePlan, rows: Sequence[VarianceFinding]) -> str:
    one = next((row for row in rows if row.steps == plan.spoken), rows[-1])
    where, share = f"{one.reward} at {_steps(one.steps)}", one.split.decoder_share
    if not one.varies:
        return f"{where}: all pictures of a prompt score the same, so neither model can learn anything from it."
    if share is None or not one.told:
        return f"{where}: {_too_few(one)}."
    learn = (
        f"the language model can learn {_percent(one.split.tokens, one.split.total)} of the variance inside a prompt "
        f"and the decoder {_interval(share)}"
    )
    if round(share.mean, 3) < LEAST_DECODER_SHARE:
        learn += " (under 2 %: too little to train it on)"
    if one.best_renders is None:
        renders = "no number of renders helps the language model, for tokens decide nothing"
    else:
        tell = "tells" if one.best_renders == 1 else "tell"
        renders = (
            f"{_count(one.best_renders, 'render')} of a token sequence {tell} the language model most for its cost"
        )
    steps, exact = enough_steps(rows), rows[-1].steps
    if steps < exact:
        correlation = next(row.rank_correlation for row in rows if row.steps == steps)
        keep = f"recommended for training: {_steps(steps)} (keeps the order of {exact} at {correlation:.3f})"
    else:
        none = f"none keeps its order at {ENOUGH_CORRELATION:g}"
        keep = f"no number of steps under {exact} is recommended for training ({none})"
    return f"{where}: {learn}; {renders} (the decoder needs 2 or more); {keep}."


def _too_few(one: VarianceFinding) -> str:
    share, range_ = one.split.decoder_share, ""
    if share is not None and share.interval is not None and one.split.prompts >= _FEWEST_PROMPTS:
        low, high = (min(1.0, max(0.0, edge)) for edge in share.interval)
        range_ = f" (the decoder's share may be anything from {low:.0%} to {high:.0%})"
    prompts = _count(one.split.prompts, "prompt")
    return (
        f"the pictures of {prompts} are too few to tell what of the variance tokens decide and what the decoder's "
        f"noise does{range_}; give more --prompts, --group or --renders"
    )


def _percent(part: float | None, whole: float) -> str:
    return "-" if part is None or whole <= 0 else f"{100 * part / whole:z.1f} %"


def _interval(share: Estimate | None) -> str:
    if share is None:
        return "-"
    found = f"{100 * share.mean:z.1f} %"
    return found + (f" [{100 * share.interval[0]:z.1f}, {100 * share.interval[1]:z.1f}]" if share.interval else "")


def _steps(count: int) -> str:
    return _count(count, "step")


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"
