"""What each network has brought: some held-out prompts once more, with one of the two as it was at the start, with the
decoder's slow copy, and in more steps than it was trained in. All cells have the same prompts and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from rl.evaluation.results import GRADED, OVERALL, Evaluation, Outcome, with_graded
from rl.evaluation.statistics import Estimate
from rl.run_folder.records import read_json, write_atomically
from rl.types import UserError


@dataclass(frozen=True)
class PartView:
    """Which weights wrote the tokens, which painted them, and in how many steps."""

    ar: Literal["base", "now"]
    decoder: Literal["base", "now", "ema"]
    steps: int

    @property
    def key(self) -> str:
        return f"ar_{self.ar}-decoder_{self.decoder}-steps_{self.steps}"

    @property
    def of_the_base(self) -> bool:
        """The same at every evaluation of a run."""
        return self.ar == self.decoder == "base"


@dataclass(frozen=True)
class PartsEvaluation:
    """After ``step`` steps."""

    step: int
    views: Mapping[PartView, Evaluation]

    def flat(self) -> dict[str, float]:
        """``parts/<reward>/<view>`` means for the log, each over all tasks; ``parts_graded/...`` where a reward is
        finer than its pass or fail."""
        means = {}
        for view, evaluation in self.with_graded().items():
            for reward, tasks in evaluation.results.items():
                kind = "parts_graded" if reward.endswith(GRADED) else "parts"
                if (found := tasks[OVERALL].estimate) is not None:
                    means[f"{kind}/{reward.removesuffix(GRADED)}/{view.key}"] = found.mean
        return means

    def with_graded(self) -> dict[PartView, Evaluation]:
        return dict(zip(self.views, with_graded(list(self.views.values())), strict=True))


@dataclass(frozen=True)
class PartsTable:
    """One reward: a column per language model, a line per decoder."""

    reward: str
    columns: list[str]
    lines: list[tuple[str, list[Estimate | None]]]


def tables(found: PartsEvaluation) -> list[PartsTable]:
    views = list(found.views)
    seen = found.with_graded()
    languages = sorted({view.ar for view in views})
    painters = sorted({(view.steps, ("base", "now", "ema").index(view.decoder), view.decoder) for view in views})
    several = len({steps for steps, _, _ in painters}) > 1
    names = [f"decoder {name}" + (f", {_steps(steps)}" if several else "") for steps, _, name in painters]

    def cell(reward: str, ar: str, steps: int, decoder: str) -> Estimate | None:
        for view, evaluation in seen.items():
            if (view.ar, view.steps, view.decoder) == (ar, steps, decoder) and reward in evaluation.results:
                return evaluation.results[reward][OVERALL].estimate
        return None

    rewards = dict.fromkeys(reward for evaluation in seen.values() for reward in evaluation.results)
    return [
        PartsTable(
            reward,
            [f"language model {ar}" for ar in languages],
            [
                (line, [cell(reward, ar, steps, name) for ar in languages])
                for line, (steps, _, name) in zip(names, painters, strict=True)
            ],
        )
        for reward in rewards
    ]


def only(evaluation: Evaluation, prompt_ids: Collection[str]) -> Evaluation:
    """Its verdicts on some of the prompts, without their details."""
    kept = tuple(replace(one, details={}) for one in evaluation.outcomes if one.prompt_id in prompt_ids)
    return Evaluation(evaluation.step, kept)


def save_parts(found: PartsEvaluation, run_folder: Path) -> Path:
    path = run_folder / f"parts-{found.step}.json"
    views = [asdict(view) | {"outcomes": asdict(one)["outcomes"]} for view, one in found.views.items()]
    write_atomically(path, json.dumps({"step": found.step, "views": views}) + "\n")
    return path


def load_parts(path: Path) -> PartsEvaluation:
    """Raises UserError if the file is missing or was not written by ``save_parts``."""
    found = read_json(path)
    try:
        step = found["step"]
        views = {
            PartView(one["ar"], one["decoder"], one["steps"]): Evaluation(
                step, tuple(Outcome(**outcome) for outcome in one["outcomes"])
            )
            for one in found["views"]
        }
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} tells nothing of a run's parts ({error}); run the evaluation again") from error
    return PartsEvaluation(step, views)


def load_last_parts(run_folder: Path) -> PartsEvaluation | None:
    """Of the latest evaluation, if the decoder learnt."""
    paths = _files(run_folder)
    return load_parts(paths[-1]) if paths else None


def load_all_parts(run_folder: Path) -> list[PartsEvaluation]:
    """Of every evaluation of a run, by step."""
    return [load_parts(path) for path in _files(run_folder)]


def _files(run_folder: Path) -> list[Path]:
    return sorted(run_folder.glob("parts-*.json"), key=lambda path: int(path.stem.removeprefix("parts-")))


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"
