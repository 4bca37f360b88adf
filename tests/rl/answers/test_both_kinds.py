"""A step of pictures and answers: told of together, by task, learnt from without sharing anything but the update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rewards.pool.pool import RewardPool
from rl.algorithm import advantages
from rl.collectors import Logged
from rl.config.schema import GuardsConfig, RewardComponent
from rl.config.sections.modalities import ModalityWeights
from rl.data.pictures import Picture
from rl.described.step import by_task, of_both
from rl.learn import Learner, TrainedLanguageModel, advantages_of, without_flat_groups
from rl.report.curves import charts
from rl.rows import sequences
from rl.run_folder.experience import ExperienceLog
from rl.run_folder.random_state import rng_state
from rl.run_folder.records import Row
from rl.tracking.guards.guards import Guards
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, Prompt, Sample, Score, Scores, TokenBatch, WrittenAnswer
from rollout.sync import WeightSync
from tests.rl.test_learn import an_experience
from tests.rl.trainer.trainer_case import LAYOUT, make_trainer, weights

END = 5
BLANK = Picture(np.full((4, 4, 3), 9, np.uint8))
QUESTIONS = tuple(Prompt(f"a{i}", "what?", {"task": "answer"}, (BLANK,)) for i in range(2))


def answers(total_B: Sequence[float] = (1, 0, 0, 1, 1, 1)) -> Experience:
    """Two questions of three answers of one or two words; of the second question all are right."""
    given = an_experience()
    tokens_BT = np.stack([np.arange(6, 12), np.full(6, END)], 1)
    totals = np.asarray(total_B, np.float32)
    rollout = replace(
        given.rollout,
        prompts=QUESTIONS,
        tokens_BT=tokens_BT,
        logprobs_BT=np.full((6, 2), -3.0, np.float32),
        mask_BT=np.ones((6, 2), bool),
        span=LAYOUT.words(END, 2),
    )
    return replace(given, rollout=rollout, scores=Scores({}, totals, np.ones(6, bool), totals))


def both() -> Experience:
    return replace(an_experience(), answers=answers())


class Seen(TrainedLanguageModel):
    """Remembers what its trainer was given."""

    def __init__(self, updates: int = 1, skips: bool = False) -> None:
        super().__init__(make_trainer(), updates, skips=skips, weights_of=ModalityWeights(image=2.0, text=0.5))
        self.given: list[dict[str, TokenBatch]] = []
        self._update = self.trainer.update
        self.trainer.update = self._kept  # type: ignore[method-assign]

    def _kept(self, batch: TokenBatch | None = None, /, **beside: TokenBatch) -> dict[str, float]:
        self.given.append({**({} if batch is None else {"pictures": batch}), **beside})
        return self._update(batch, **beside)


def taught(experience: Experience, updates: int = 1, *, skips: bool = False) -> tuple[Seen, dict[str, float]]:
    part = Seen(updates, skips)
    learner = Learner({"ar": part}, advantages.dr_grpo, WeightSync([]), skips=skips)
    return part, learner.learn(experience, Stopwatch())


def test_each_kind_has_advantages_and_a_weight_of_its_own() -> None:
    part, metrics = taught(both())
    [given] = part.given
    assert given["answer"].advantages_B.tolist() == pytest.approx([2 / 3, -1 / 3, -1 / 3, 0, 0, 0])
    assert given["pictures"].advantages_B[:3].tolist() == [0.5, 0.0, -0.5]
    assert (given["pictures"].weight, given["answer"].weight) == (2.0, 0.5)
    assert part.version == 1 and metrics["ratio_deviation"] == metrics["answer/ratio_deviation"] == 0.0
    alone, told = taught(an_experience())
    assert alone.given[0]["pictures"].weight == 1.0 and not any(name.startswith("answer/") for name in told)


def test_several_updates_share_both_out() -> None:
    part, _ = taught(both(), updates=2)
    assert part.version == 2
    assert [[len(one) for one in given.values()] for given in part.given] == [[3, 3], [3, 3]]
    assert part.given[0]["answer"].old_logprobs_BT is None and part.given[1]["answer"].old_logprobs_BT is not None


def test_flat_groups_of_both_are_left_out() -> None:
    part, metrics = taught(both(), skips=True)
    assert (metrics["groups/sampled"], metrics["groups/kept"]) == (4.0, 3.0)
    [given] = part.given
    assert len(given["answer"]) == 3 and len(given["pictures"]) == 5
    nothing = replace(both(), answers=answers((1, 1, 1, 0, 0, 0)))
    part, metrics = taught(nothing, skips=True)
    assert not part.given[0]["answer"].valid_B.any() and metrics["answer/loss"] == 0.0
    part, _ = taught(nothing, updates=2, skips=True)
    assert [sorted(given) for given in part.given] == [["answer", "pictures"], ["pictures"]]
    kept, _ = without_flat_groups(nothing)
    assert kept.answers is not None and not kept.answers.scores.valid_B.any()


def test_prompts_of_one_task_are_compared_with_no_other_task() -> None:
    given = an_experience()
    prompts = (given.rollout.prompts[0], Prompt("e", "make it blue", pictures=(BLANK,)))
    mixed = replace(given, rollout=replace(given.rollout, prompts=prompts))
    asked: list[int] = []

    def counted(total_PG: Tensor, valid_PG: Tensor) -> Tensor:
        asked.append(len(total_PG))
        return advantages.batch_norm(total_PG, valid_PG)

    found_PG = advantages_of(counted, mixed)
    assert asked == [1, 1]
    total_PG, valid_PG = (torch.from_numpy(one).view(2, 3) for one in (given.scores.total_B, given.scores.valid_B))
    assert torch.equal(found_PG[1:], advantages.batch_norm(total_PG[1:], valid_PG[1:]))
    advantages_of(counted, given)
    assert asked == [1, 1, 2]


def test_scores_are_told_by_task_and_together() -> None:
    rollout, scores = of_both(both())
    assert len(rollout.prompts) == 4 and len(scores.total_B) == 12
    assert by_task(rollout, scores) == {
        "score/draw": pytest.approx(0.6),  # of five that are valid
        "zero_std_fraction/draw": 0.0,
        "score/answer": pytest.approx(4 / 6),
        "zero_std_fraction/answer": 0.5,
    }
    assert by_task(*of_both(an_experience())) == {}


def test_a_logged_step_of_both_is_learnt_again_to_the_last_bit(tmp_path: Path) -> None:
    log = ExperienceLog(tmp_path, (*an_experience().rollout.prompts, *QUESTIONS))
    found = []
    for again in (False, True):
        trainer = make_trainer()
        learner = Learner({"ar": TrainedLanguageModel(trainer)}, advantages.grpo, WeightSync([]))
        refer = lambda step, rollout: trainer.reference_forward(sequences(rollout))  # noqa: B023, E731 - used at once
        if not again:
            log.write(both(), rng_state())
            experience = both()
        else:
            experience = next(Logged(None, log, refer, lambda _: None).collect(0, 1))  # type: ignore[arg-type]
            assert experience.answers is not None and experience.answers.reference is not None
        learner.learn(experience, Stopwatch())
        found.append(weights(trainer))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(
    ("metric", "value", "told"),
    [
        ("answer/unended", 0.8, "answers' unended is 0.8 at step 5 (guards.max_unended: 0.5): answers are cut off"),
        ("answer/kl", 3.0, "answers' kl is 3 at step 5 (guards.max_kl: 1): the policy is far"),
        ("answer/mismatch", 0.2, "answers' mismatch is 0.2 at step 5 (guards.max_mismatch: 0.05)"),
    ],
)
def test_answers_have_alarms_of_their_own(metric: str, value: float, told: str) -> None:
    guards = Guards(GuardsConfig())
    alarms = [alarm for step in range(6) for alarm in guards.check(step, {metric: value})]
    assert [alarm.sentence[: len(told)] for alarm in alarms] == [told]


def test_the_page_has_curves_of_each_task() -> None:
    values = {"score": 0.5, "score/draw": 0.4, "score/answer": 0.6, "kl": 0.1, "answer/kl": 0.2, "answer/length": 2.0}
    rows = [Row(step, values, {}, []) for step in range(3)]
    found = {chart.title: [curve.name for curve in chart.curves] for chart in charts(rows, [])}
    assert found["Training reward by task"] == ["draw", "answer"]
    assert found["KL to the reference (nats per token)"] == ["pictures", "answers"]
    assert "Answers: tokens, the end included" in found
    alone = {chart.title for chart in charts([Row(0, {"score": 0.5, "kl": 0.1}, {}, [])], [])}
    assert alone == {"Training reward", "KL to the reference (nats per token)"}


def test_rewards_of_pictures_never_see_an_answer() -> None:
    drawn = Sample("d", "d", Prompt("d", "red"), np.full((4, 4, 3), 255, np.uint8))
    said = [
        Sample(f"a{i}", "a", replace(QUESTIONS[0], metadata={"task": "answer", "answer": "red"}), drawn.picture, answer)
        for i, answer in enumerate((WrittenAnswer("red"), WrittenAnswer("red", complete=False)))
    ]
    rewards = {
        "ink": RewardComponent(use="tests.rl.run_case:ink"),
        "answer": RewardComponent(use="answer"),
    }
    with RewardPool(rewards) as pool:
        found = pool.score([drawn, *said])
    assert found["ink"] == [Score(0.0), Score(None), Score(None)]
    assert [one.value for one in found["answer"]] == [None, 1.0, 0.0]  # cut off before its end: 0 by rule
    assert found["answer"][2].details["reason"].startswith("no end: it was cut off")
