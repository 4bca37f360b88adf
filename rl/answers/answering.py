"""Questions in a step: the policy answers in words, nothing is painted, and rewards are given the words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from policy.base import Policy
from policy.pictures.view import square_view
from policy.words import Words
from rl.data.tasks import is_question
from rl.types import Prompt, Renders, Rollout, Sample, Score, Span


@dataclass(frozen=True)
class WordAnswers:
    """How this policy answers."""

    policy: Policy
    most: int
    """Tokens of an answer, its end included."""

    @cached_property
    def words(self) -> Words:
        """Raises: UserError if it cannot."""
        return Words.of(self.policy.tokenizer, self.policy.layout, self.most)

    def span(self, prompts: Sequence[Prompt]) -> Span | None:
        """What is sampled after these, which are of one kind; ``None``: pictures."""
        return self.words.span if is_question(prompts[0]) else None

    def samples(self, rollout: Rollout, name: str) -> list[Sample]:
        """Each answer, with the picture that it is about."""
        answers = self.words.read(rollout.tokens_BT.tolist())
        prompts = [rollout.prompt_of(index) for index in range(rollout.batch_size)]
        return [
            Sample(f"{name}-{index}", prompt.id, prompt, np.asarray(prompt.pictures[0].pixels), answer)
            for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
        ]

    def renders(self, rollout: Rollout) -> Renders:
        """In place of pictures that were painted: what each question is about, as the policy sees it."""
        side = self.policy.decoder.picture_side
        views = [square_view(prompt.pictures[0].pixels, side) for prompt in rollout.prompts]
        owner_B = [rollout.prompts.index(rollout.prompt_of(index)) for index in range(rollout.batch_size)]
        return Renders(np.stack(views)[owner_B], rollout.seeds, per_sample=1)


def kinds_of(prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """Those that ask for pictures and those that ask for words, apart, where there are both; each in its order."""
    apart = [[one for one in prompts if is_question(one) is asked] for asked in (False, True)]
    return [found for found in apart if found] if all(apart) else [prompts]


Shown = tuple[NDArray[np.uint8], dict[str, list[Score]]]
"""A picture of each sample, and every reward's verdict on it."""


def by_kind(
    prompts: Sequence[Prompt],
    each: int,
    seeds: Sequence[int],
    show: Callable[[Sequence[Prompt], Sequence[int]], Shown],
) -> Shown:
    """What ``show`` makes of P prompts with ``each`` seeds, questions apart from prompts for pictures, in order."""
    kinds = [[row for row, one in enumerate(prompts) if is_question(one) is asked] for asked in (False, True)]
    if not all(kinds):
        return show(prompts, seeds)
    places = [[row * each + index for row in rows for index in range(each)] for rows in kinds]
    drawn, answered = (
        show([prompts[row] for row in rows], [seeds[place] for place in of])
        for rows, of in zip(kinds, places, strict=True)
    )
    back = np.argsort([*places[0], *places[1]])
    found = {reward: [*scores, *answered[1][reward]] for reward, scores in drawn[1].items()}
    in_order = {reward: [scores[place] for place in back] for reward, scores in found.items()}
    return np.concatenate([drawn[0], answered[0]])[back], in_order


def is_answered(rollout: Rollout) -> bool:
    """Whether it holds words and no pictures."""
    return rollout.mask_BT is not None


def describe_answers(rollout: Rollout) -> dict[str, float]:
    """``answer/length``: mean number of tokens, the end included; ``answer/unended``: share without an end, which a
    reward does not take for an answer."""
    assert rollout.mask_BT is not None and rollout.span is not None
    ended_B = ((rollout.tokens_BT == rollout.span.end) & rollout.mask_BT).any(1)
    return {"answer/length": float(rollout.mask_BT.sum(1).mean()), "answer/unended": float(1.0 - ended_B.mean())}
