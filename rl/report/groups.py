"""The groups that a run has saved, for the browser of a page: every sample with its scores and its advantage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from rl.report.pictures import SMALL, data_uri
from rl.tracking.groups import GroupSample, read_groups, saved_groups

_MOST_STEPS, _LARGEST = 6, 192  # of a page that is to stay under 5 MB


@dataclass(frozen=True)
class ShownSample:
    """``facts``: a line for each reward."""

    source: str
    small: bool
    score: float | None
    advantage: float | None
    facts: Sequence[str]


@dataclass(frozen=True)
class ShownGroup:
    """One prompt of one step; ``told``: what of the group is learnt from."""

    step: int
    prompt: str
    task: str
    told: str
    samples: Sequence[ShownSample]


def shown_groups(run_folder: Path) -> list[ShownGroup]:
    """At most six steps, evenly over the run, the last one among them."""
    sheets = list(saved_groups(run_folder).items())
    if len(sheets) > _MOST_STEPS:
        sheets = [sheets[place * (len(sheets) - 1) // (_MOST_STEPS - 1)] for place in range(_MOST_STEPS)]
    found = []
    for step, path in sheets:
        with Image.open(path) as sheet:
            found += [_group(step + 1, sheet, group) for group in read_groups(path)]
    return found


def _group(step: int, sheet: Image.Image, group: Sequence[GroupSample]) -> ShownGroup:
    samples = [_sample(sheet, one) for one in group]
    scores = [one.score for one in group if one.score is not None]
    told = "no sample could be scored"
    if scores:
        told = f"scores {min(scores):.3f} to {max(scores):.3f}"
        if max(scores) == min(scores):
            told = f"all score {scores[0]:.3f}: nothing to learn from"
    failed = len(group) - len(scores)
    return ShownGroup(
        step, group[0].prompt, group[0].task or "", told + (f", {failed} left out" if failed else ""), samples
    )


def _sample(sheet: Image.Image, one: GroupSample) -> ShownSample:
    picture = sheet.crop(one.box)
    facts = [f"{reward} {_verdict(found)}" for reward, found in one.rewards.items()]
    return ShownSample(data_uri(picture, _LARGEST), picture.width <= SMALL, one.score, one.advantage, facts)


def _verdict(found: Mapping[str, object]) -> str:
    """``0.750, fail; reason: ...``"""
    if found.get("failure"):
        return f"failed: {found['failure']}"
    value, passed, details = found.get("value"), found.get("passed"), found.get("details")
    if not isinstance(value, (int, float)):
        return "does not apply"
    told = f"{value:.3f}"
    if isinstance(passed, (int, float)):
        told += {1.0: ", pass", 0.0: ", fail"}.get(passed, f", passed {passed:.2f}")
    texts = details.items() if isinstance(details, dict) else ()
    words = [f"{key}: {text}" for key, text in texts if isinstance(text, str) and text]
    return "; ".join([told, *words])
