"""Copies and redraws are seen, whatever the reward says, and raise their alarms once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rl.config.sections.guards import GuardsConfig
from rl.data.pictures import Picture
from rl.data.shapes.edits.prompts import edit_examples
from rl.tracking.guards.editing import edit_metrics
from rl.tracking.guards.guards import Guards
from rl.types import Prompt, Rollout
from tests.rl.rollouts import a_rollout

_EXAMPLES = list(edit_examples("edit_recolour", ["rl"], 6))


class Means:
    """An image tokenizer of two tokens, the means of the halves of a picture."""

    def encode(self, pictures_BHW3: NDArray[np.uint8], /) -> NDArray[np.int64]:
        return np.stack([pictures_BHW3[:, :, half].mean((1, 2, 3)) for half in (slice(32), slice(32, 64))], 1).astype(
            np.int64
        )


def _found(answers: list[NDArray[np.uint8]], **changes: object) -> dict[str, float]:
    prompts = tuple(Prompt(str(i), one.instruction, pictures=(Picture(one.before),)) for i, one in enumerate(_EXAMPLES))
    rollout: Rollout = replace(a_rollout(6, len(answers) // 6), prompts=prompts, **changes)  # type: ignore[arg-type]
    return edit_metrics(rollout, np.stack(answers), Means())  # type: ignore[arg-type]


def test_exact_edits_are_neither_and_copies_are_copies() -> None:
    assert _found([one.after for one in _EXAMPLES]) == {"guard/copied": 0.0, "guard/redrawn": 0.0}
    noisy = [np.clip(one.before.astype(int) + 5 * (i % 2), 0, 255).astype(np.uint8) for i, one in enumerate(_EXAMPLES)]
    assert _found(noisy) == {"guard/copied": 1.0, "guard/redrawn": 0.0}
    groups = [answer for one in _EXAMPLES for answer in (one.after, one.before, one.after, one.after)]
    assert _found(groups)["guard/copied"] == 0.25


def test_the_same_tokens_are_a_copy_however_they_are_painted() -> None:
    tokens = Means().encode(np.stack([one.before for one in _EXAMPLES]))
    dull = [(one.before // 2).astype(np.uint8) for one in _EXAMPLES]
    assert _found(dull)["guard/copied"] == 0.0
    assert _found(dull, tokens_BT=tokens)["guard/copied"] == 1.0


def test_pictures_of_their_own_are_redrawn() -> None:
    others = [_EXAMPLES[(i + 1) % 6].after for i in range(6)]
    assert _found(others) == {"guard/copied": 0.0, "guard/redrawn": 1.0}


def test_a_step_without_edits_says_nothing_and_one_picture_alone_is_compared_with_none() -> None:
    assert edit_metrics(a_rollout(2, 3), np.zeros((6, 64, 64, 3), np.uint8), Means()) == {}  # type: ignore[arg-type]
    prompt = Prompt("e", "x", pictures=(Picture(_EXAMPLES[0].before),))
    mixed = replace(a_rollout(2, 1), prompts=(Prompt("d", "a ring"), prompt))
    pictures = np.stack([_EXAMPLES[1].after, _EXAMPLES[0].before])
    assert edit_metrics(mixed, pictures, Means()) == {"guard/copied": 1.0}  # type: ignore[arg-type]


@pytest.mark.parametrize(("metric", "words"), [("copied", "a sum of the two does"), ("redrawn", "by a product")])
def test_the_alarm_is_raised_once_and_can_be_turned_off(metric: str, words: str) -> None:
    rows = [{f"guard/{metric}": value} for value in (0.2, 0.3, *[0.9] * 8)]
    guards = Guards(GuardsConfig())
    alarms = [alarm for step, row in enumerate(rows) for alarm in guards.check(step, row)]
    assert len(alarms) == 1 and words in alarms[0].sentence
    assert f"{metric} is " in alarms[0].sentence and f"(guards.max_{metric}: 0.5)" in alarms[0].sentence
    quiet = Guards(GuardsConfig(**{f"max_{metric}": None}))
    assert not [alarm for step, row in enumerate(rows) for alarm in quiet.check(step, row)]
