"""The ``answer`` reward: 1 for the right words, 0 for all others.

Card. ``metadata["answer"]`` of a question (``"task": "answer"``) says what is right: a text (compared as a whole,
without case and spaces beyond one), a number (in figures or words; within ``tolerance``, a share of it), or a list of
which one must be met. What is 0, with the ``reason`` in the details: another answer; one that says more than the right
one, such as "red or blue"; an empty one; one without an end. Chance is the share of right answers to a question asked
blindly: balance yes and no in your set, the reward cannot. No model, no licence.

**Blind to** what an answer means: synonyms must stand in the list; ask ``vlm_judge`` or ``remote`` for free text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rewards.golden import Golden
from rewards.library.answer.match import right_answers, why_wrong
from rl.data.shapes.prompts import prompts
from rl.data.tasks import task_of
from rl.types import Prompt, Sample, Score, UserError, WrittenAnswer


class AnswerMatch:
    """Scores answers in words. A prompt without ``answer`` in its metadata, and a picture that was drawn, are not
    applicable; a question of which the sample holds no answer fails."""

    metadata = ("answer",)
    answers = True
    shown = ("complete",)
    metadata_problem = "rewards.library.answer.match:metadata_problem"

    def __init__(self, tolerance: float = 0.0) -> None:
        """``tolerance``: of numbers, as a share of the right one."""
        if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < 1:
            raise UserError(f"answer.options.tolerance is {tolerance!r}: it must be a number from 0 to below 1")
        self.tolerance = float(tolerance)

    def golden(self) -> list[Golden]:
        """Answers that people have been paid for elsewhere, and the right one."""
        asked = Prompt("golden", "what color is the circle?", {"task": "answer", "answer": "red"})
        blank = np.full((8, 8, 3), 255, np.uint8)
        answers = (
            WrittenAnswer(""),
            WrittenAnswer("red or blue"),
            WrittenAnswer("red", complete=False),
            WrittenAnswer("red"),
        )
        samples = [Sample(f"{number}", "golden", asked, blank, one) for number, one in enumerate(answers)]
        return [*(Golden(one, at_most=0.0) for one in samples[:-1]), Golden(samples[-1], at_least=1.0)]

    def trial_prompts(self) -> list[Prompt]:
        """Prompts for trying the reward out."""
        return prompts("rl", 2, ("ask_exists", "ask_count"))

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: Sample) -> Score:
        try:
            right = right_answers(sample.prompt.metadata)
        except ValueError as error:
            return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
        if right is None:
            return Score(None)
        if sample.answer is None:
            if task_of(sample.prompt) != "answer":
                return Score(None)
            return Score(None, failure=f"prompt {sample.prompt.id!r} is a question, and the sample holds no answer")
        reason = why_wrong(sample.answer, right, self.tolerance)
        details = {
            "said": sample.answer.text,
            "right": list(right),
            "complete": sample.answer.complete,
            "reason": reason or "",
        }
        value = float(reason is None)
        return Score(value, details=details, passed=value)
