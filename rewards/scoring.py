"""From the rewards' verdicts on pictures to what is learnt from: one training reward per token sequence for the
language model, and one per picture for a decoder that is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rewards.combine import Combination, combine
from rl.config.schema import RewardComponent
from rl.config.values import Part, Role
from rl.types import RenderScores, Rollout, Score, Scores

Verdicts = Mapping[str, Sequence[Score]]


@dataclass(frozen=True)
class Scoring:
    """How the scores of a step are put together."""

    components: Mapping[str, RewardComponent]
    combination: Combination
    trained: tuple[Part, ...] = ("ar",)
    """The parts that learn. Where the language model is not among them, its reward is the decoder's, row by row."""

    def __call__(self, by_picture: Verdicts, rollout: Rollout) -> Scores:
        """``by_picture``: every reward's verdicts on B x K pictures, the K renders of a sample side by side."""
        renders = len(next(iter(by_picture.values()))) // rollout.batch_size
        part: Part = "ar" if "ar" in self.trained else "decoder"
        scores = self._combined(mean_scores(by_picture, renders), rollout, part)
        if "decoder" not in self.trained:
            return scores
        single = self._combined(by_picture, rollout, "decoder")
        shape, valid = (rollout.batch_size, renders), single.valid_B
        score = float(single.score_B[valid].mean()) if valid.any() else math.nan
        return replace(scores, renders=RenderScores(single.total_B.reshape(shape), valid.reshape(shape), score))

    def _combined(self, verdicts: Verdicts, rollout: Rollout, part: Part) -> Scores:
        """Of as many verdicts on each sample as there are, with the rewards that ``part`` learns from."""
        each = len(next(iter(verdicts.values()))) // rollout.batch_size
        roles: dict[str, Role] = {
            name: "train" if reward.teaches(part) else "monitor" for name, reward in self.components.items()
        }
        return combine(
            verdicts,
            {name: reward.weight for name, reward in self.components.items()},
            roles,
            groups=[rollout.prompt_of(index).id for index in range(rollout.batch_size) for _ in range(each)],
            how=self.combination,
            scales={name: reward.scale for name, reward in self.components.items() if reward.scale},
        )


def mean_scores(by_picture: Verdicts, renders: int) -> dict[str, list[Score]]:
    """Every reward's verdict on B samples, averaged over the renders of each."""
    return {
        reward: [mean_score(found[start : start + renders]) for start in range(0, len(found), renders)]
        for reward, found in by_picture.items()
    }


def mean_score(renders: Sequence[Score]) -> Score:
    """One token sequence's score over its renders: failed if any failed, not applicable if none applies."""
    if len(renders) == 1:
        return renders[0]
    for one in renders:
        if one.failed:
            return one
    values = [one.value for one in renders if one.value is not None]
    passes = [one.passed for one in renders if one.passed is not None]
    return Score(_mean(values), details=renders[0].details, passed=_mean(passes))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
