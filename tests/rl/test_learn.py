"""The learner: several trained parts, batches of an experience, new weights out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from policy.ar.forward import image_forward
from policy.trainable import WeightStream
from rl.algorithm import advantages, losses
from rl.algorithm.objective import PolicyObjective
from rl.learn import Learner, TrainedLanguageModel, by_age, mean_metrics, minibatches, without_flat_groups
from rl.rows import logprobs_apart, sequences
from rl.tracking.stopwatch import Stopwatch
from rl.types import Experience, Forward, Prompt, Renders, Rollout, Rows, Scores, Sequences, TokenBatch
from rollout.sync import Canary, WeightSync
from rollout.weights import SyncError
from tests.rl.trainer.trainer_case import LAYOUT, make_trainer, tiny_ar, weights


def an_experience(prompts: int = 2, group_size: int = 3) -> Experience:
    rng, size = np.random.default_rng(0), prompts * group_size
    tokens_BT = rng.integers(LAYOUT.image_start_id, LAYOUT.image_end_id, (size, LAYOUT.tokens_per_image))
    rollout = Rollout(
        prompts=tuple(Prompt(f"p{index}", "x") for index in range(prompts)),
        group_size=group_size,
        prompt_ids=tuple((3 + index, LAYOUT.im_start_id, LAYOUT.scale_id) for index in range(prompts)),
        tokens_BT=tokens_BT,
        logprobs_BT=np.full(tokens_BT.shape, -3.4, np.float32),
        seeds=tuple(range(size)),
        temperature=1.0,
        version=0,
    )
    valid_B = np.ones(size, bool)
    valid_B[1] = False
    total_B = np.array([1, 9, 0, 1, 1, 0], np.float32)[:size]
    renders = Renders(np.zeros((size, 2, 2, 3), np.uint8), tuple(range(size)), 1)
    return Experience(0, rollout, renders, Scores({}, total_B, valid_B, total_B), None, None, 0, {}, {})


@dataclass
class FakePart:
    """A second network: remembers what it was taught and what its followers were asked."""

    name: str = "ar"
    version: int = 0
    updates: int = 1
    asked: int = 0
    taught: list[Tensor] = field(default_factory=list)

    def learn(
        self, experience: Experience, advantages_PG: Tensor, timer: Stopwatch, *, of_answers: Tensor | None = None
    ) -> dict[str, float]:
        self.taught.append(advantages_PG)
        self.version += self.updates
        return {"loss": 0.5}

    def rehearse(self, experience: Experience, advantages_PG: Tensor, rows: int) -> None: ...

    def weights(self) -> WeightStream:
        return WeightStream.of([("w", torch.full((1,), float(self.version)))])

    def canaries(self, rollout: Rollout) -> dict[str, Canary]:
        self.asked += 1
        expected = np.full((1, 1), float(self.version), np.float32)
        tokens, latents = ("tokens", self.name), ("latents", self.name)
        return {"logprobs": Canary(tokens, expected), "velocity": Canary(latents, expected + 100)}

    def slow_down(self, factor: float) -> None: ...

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class FakeFollower:
    """Computes the weight of the part that it is asked about."""

    def __init__(self, follows: set[str], asked: str) -> None:
        self.follows, self.asked = frozenset(follows), asked
        self.versions = dict.fromkeys(follows, 0)
        self.weights = dict.fromkeys(follows, 0.0)

    def load_weights(self, part: str, weights: WeightStream, version: int) -> None:
        ((_, tensor),) = weights.tensors()
        self.weights[part], self.versions[part] = tensor.item(), version

    def answer(self, question: object) -> np.ndarray:
        assert isinstance(question, tuple)
        what, part = question
        assert what == {"logprobs": "tokens", "velocity": "latents"}[self.asked]
        return np.full((1, 1), self.weights[part] + (100 if self.asked == "velocity" else 0), np.float32)


def test_joint_training_is_two_entries() -> None:
    ar, decoder = FakePart(updates=2), FakePart("decoder", updates=2)
    sampler, painter = FakeFollower({"ar"}, "logprobs"), FakeFollower({"ar", "decoder"}, "velocity")
    learner = Learner({"ar": ar, "decoder": decoder}, advantages.dr_grpo, WeightSync([sampler, painter]))
    metrics = learner.learn(an_experience(), Stopwatch())
    assert metrics["loss"] == metrics["decoder/loss"] == 0.5
    assert metrics["policy_version"] == metrics["decoder/policy_version"] == 2.0
    assert (sampler.versions, painter.versions) == ({"ar": 2}, {"ar": 2, "decoder": 2})
    # the group of the first prompt has two valid samples of three, scored 1 and 0
    assert ar.taught[0].tolist()[0] == [0.5, 0.0, -0.5]
    assert torch.equal(ar.taught[0], decoder.taught[0])


def test_of_two_parts_it_is_said_who_learns() -> None:
    ar, decoder = FakePart(), FakePart("decoder")
    learner = Learner(
        {"ar": ar, "decoder": decoder}, advantages.dr_grpo, WeightSync([]), learns=lambda step, part: part == "decoder"
    )
    metrics = learner.learn(an_experience(), Stopwatch())
    assert (metrics["learns/ar"], metrics["learns/decoder"]) == (0.0, 1.0)
    assert (len(ar.taught), len(decoder.taught)) == (0, 1)
    alone = Learner({"ar": ar}, advantages.dr_grpo, WeightSync([])).learn(an_experience(), Stopwatch())
    assert not any(name.startswith("learns/") for name in alone)


def test_followers_are_asked_before_an_update_until_they_have_been_seen_to_move() -> None:
    ar, sampler = FakePart(), FakeFollower({"ar"}, "logprobs")
    learner = Learner({"ar": ar}, advantages.dr_grpo, WeightSync([sampler]))
    asked = []
    for ar.updates in (0, 1, 1):  # first as in a warm-up: nothing moves
        learner.learn(an_experience(), Stopwatch())
        asked.append(ar.asked)
    assert asked == [2, 4, 5]


def test_a_follower_gets_only_the_parts_that_it_follows() -> None:
    sampler = FakeFollower({"ar"}, "logprobs")
    learner = Learner({"decoder": FakePart("decoder")}, advantages.grpo, WeightSync([sampler]))
    assert learner.publish("decoder", an_experience().rollout) == {"policy_version": 0.0}
    assert sampler.versions == {"ar": 0}


def test_a_follower_that_nobody_can_check_is_refused() -> None:
    stranger = FakeFollower({"ar"}, "smell")
    learner = Learner({"ar": FakePart()}, advantages.grpo, WeightSync([stranger]))
    with pytest.raises(SyncError, match="nobody can say what 'smell' is after an update of 'ar'"):
        learner.publish("ar", an_experience().rollout)
    assert stranger.versions == {"ar": 0}


def test_the_first_update_on_samples_of_its_own_weights_needs_no_forward_before_it() -> None:
    trainer = make_trainer()
    part, experience = TrainedLanguageModel(trainer), an_experience()
    assert experience.version == part.version
    (only,) = part.batches(experience, torch.zeros(2, 3))
    assert only.old_logprobs_BT is None
    part.updates = 2
    first, second = part.batches(experience, torch.zeros(2, 3))
    assert first.old_logprobs_BT is None
    assert second.old_logprobs_BT is not None
    assert torch.equal(second.old_logprobs_BT, trainer.forward(second).logprobs_BT)
    kept = Forward(torch.zeros(6, 3, 2), torch.ones(6, 2), torch.zeros(6, 2))
    first, second = part.batches(replace(experience, forward=kept), torch.zeros(2, 3))
    assert first.old_logprobs_BT is None and second.old_logprobs_BT is not None
    assert torch.equal(second.old_logprobs_BT, kept.logprobs_BT[3:])


@pytest.mark.parametrize("updates", [1, 2, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 64])
def test_several_updates_per_rollout_equal_plain_torch(updates: int, micro_batch: int) -> None:
    """Each on its own samples, compared with the policy that sampled them all; the first ratio is exactly 1."""
    advantages_PG = torch.tensor([[1.0, -0.5, 0.0], [0.5, -1.0, 2.0]])
    objective = PolicyObjective(losses.grpo, losses.token_mean)
    part = TrainedLanguageModel(make_trainer(objective=objective, micro_batch=micro_batch, lr=0.01), updates)
    seen = _updates_of(part, an_experience(), advantages_PG)
    assert part.version == updates == len(seen)
    assert seen[0]["ratio_deviation"] == 0.0
    assert all(one["ratio_deviation"] > 1e-3 for one in seen[1:])

    ar, experience = tiny_ar(), an_experience()
    optimizer = torch.optim.AdamW(ar.parameters(), lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    rows = sequences(experience.rollout)
    old_BT = image_forward(ar, LAYOUT.image, rows.prompt_ids, rows.tokens_BT).logprobs_BT.detach()
    valid_B = torch.from_numpy(experience.scores.valid_B)
    for found, chosen in zip(seen, torch.arange(6).chunk(updates), strict=True):
        mine = rows.take(chosen.tolist())
        now_BT = image_forward(ar, LAYOUT.image, mine.prompt_ids, mine.tokens_BT).logprobs_BT
        loss_BT = losses.grpo(now_BT, old_BT[chosen], advantages_PG.flatten()[chosen]).loss_BT
        loss = loss_BT[valid_B[chosen]].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(ar.parameters(), 1.0)
        optimizer.step()
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-4, abs=1e-6)
    for name, value in weights(part.trainer).items():
        torch.testing.assert_close(value, ar.state_dict()[name], atol=2e-5, rtol=1e-3)


def _updates_of(part: TrainedLanguageModel, experience: Experience, advantages_PG: Tensor) -> list[dict[str, float]]:
    return [part.trainer.update(batch) for batch in part.batches(experience, advantages_PG)]


def test_samples_of_older_weights_are_read_back_by_the_trainer() -> None:
    trainer = make_trainer()
    part, experience = TrainedLanguageModel(trainer), replace(an_experience(), version=-1)
    (batch,) = part.batches(experience, torch.zeros(2, 3))
    rows = Sequences(experience.rollout.prompt_ids_per_sample(), torch.from_numpy(experience.rollout.tokens_BT), 1.0)
    assert torch.equal(batch.old_logprobs_BT, trainer.forward(rows).logprobs_BT)
    assert not trainer.objective.referred(batch)  # the update will ask, each rank for its own rows
    kept = trainer.reference_forward(rows)
    batch = part.batch(replace(experience, reference=kept), torch.zeros(2, 3))
    assert batch.reference_logprobs_BT is not None  # the objective of these tests has a KL term
    assert batch.reference_hidden_BSD is None  # and no anchor
    assert trainer.objective.referred(batch)
    assert batch.valid_B.tolist() == [True, False, True, True, True, True]


def test_the_mismatch_of_older_weights_is_told_apart() -> None:
    assert by_age({"mismatch": 0.25}, {"mismatch_numerics": 0.0625}) == {"mismatch_age": 0.1875}
    assert by_age({"mismatch": 0.25}, {"mismatch_numerics": 0.5}) == {"mismatch_age": 0.0}
    assert by_age({"mismatch": 0.25}, {}) == {} == by_age({"loss": 1.0}, {"mismatch_numerics": 0.5})
    part, old = TrainedLanguageModel(make_trainer()), replace(an_experience(), version=-1)
    found = part.learn(replace(old, metrics={"mismatch_numerics": 0.125}), torch.zeros(2, 3), Stopwatch())
    assert found["mismatch_age"] == pytest.approx(found["mismatch"] - 0.125)


def test_of_each_group_what_two_say_about_its_tokens() -> None:
    rollout = an_experience(prompts=2, group_size=1).rollout
    apart_BT = np.zeros_like(rollout.logprobs_BT)
    apart_BT[0], apart_BT[1, :2] = 0.5, -2.0
    told = logprobs_apart(rollout.logprobs_BT + apart_BT, rollout)
    assert told == pytest.approx((0.5, 4.0 / rollout.tokens_BT.shape[1]), rel=1e-6)
    mask_BT = np.zeros(rollout.tokens_BT.shape, bool)
    mask_BT[:, :4] = True
    masked = logprobs_apart(rollout.logprobs_BT + apart_BT, replace(rollout, mask_BT=mask_BT))
    assert masked == pytest.approx((0.5, 1.0), rel=1e-6)


def test_a_canary_is_a_few_sequences_and_what_the_trainer_makes_of_them() -> None:
    trainer = make_trainer()
    found = TrainedLanguageModel(trainer, asked=2).canaries(an_experience().rollout)["logprobs"]
    assert isinstance(found.question, Sequences) and len(found.question) == 2
    assert np.array_equal(found.expected, trainer.forward(found.question).logprobs_BT.numpy())


def test_a_canary_asks_about_the_first_tokens_of_a_long_picture() -> None:
    trainer, rollout = make_trainer(), an_experience().rollout
    whole = trainer.forward(sequences(rollout)).logprobs_BT.numpy()
    rollout = replace(rollout, span=LAYOUT.image)
    found = TrainedLanguageModel(trainer, asked=2, asked_tokens=3).canaries(rollout)["logprobs"]
    assert isinstance(found.question, Sequences) and found.question.span == LAYOUT.image.up_to(3)
    assert np.array_equal(found.question.tokens_BT.numpy(), rollout.tokens_BT[:2, :3])
    assert np.allclose(found.expected, whole[:2, :3], atol=1e-6)
    short = TrainedLanguageModel(trainer, asked=2, asked_tokens=99).canaries(rollout)["logprobs"]
    assert short.expected.shape == (2, rollout.tokens_BT.shape[1])


def test_minibatches_hold_every_row_once() -> None:
    batch = make_batch()
    parts = minibatches(batch, 2)
    assert [len(part) for part in parts] == [3, 2]
    assert [ids for part in parts for ids in part.prompt_ids] == list(batch.prompt_ids)
    assert torch.equal(torch.cat([part.tokens_BT for part in parts]), batch.tokens_BT)
    assert parts[1].temperature == 0.7
    assert [len(part) for part in minibatches(batch, 4)] == [2, 1, 1, 1]  # as many updates as the schedule counts
    assert len(minibatches(batch, 9)) == 5
    assert mean_metrics([{"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}


def make_batch() -> TokenBatch:
    tokens_BT = torch.arange(10).view(5, 2)
    zeros_BT, zeros_B = torch.zeros(5, 2), torch.zeros(5)
    return TokenBatch(
        prompt_ids=[(index,) for index in range(5)],
        tokens_BT=tokens_BT,
        temperature=0.7,
        rollout_logprobs_BT=zeros_BT,
        old_logprobs_BT=zeros_BT,
        advantages_B=zeros_B,
        valid_B=zeros_B > 0,
    )


def test_rows_are_taken_in_the_order_asked_and_may_repeat() -> None:
    taken = make_batch().take([4, 0, 4])
    assert taken.prompt_ids == ((4,), (0,), (4,))
    assert taken.tokens_BT.tolist() == [[8, 9], [0, 1], [8, 9]]
    assert taken.reference_logprobs_BT is None
    assert isinstance(taken, Rows)
    assert taken.to("meta").tokens_BT.device.type == "meta"


@pytest.mark.parametrize("count", [1, 3])
def test_several_renders_one_each(count: int) -> None:
    pictures = np.arange(2 * count, dtype=np.uint8).reshape(-1, 1, 1, 1)
    assert Renders(pictures, tuple(range(2 * count)), count).one_each.ravel().tolist() == [0, count]


def test_groups_without_signal_take_no_part() -> None:
    whole = an_experience()
    totals = np.array([1, 9, 0, 1, 1, 1], np.float32)  # the second group is flat
    flat = replace(whole, scores=replace(whole.scores, total_B=totals))
    kept, told = without_flat_groups(flat)
    assert kept.scores.valid_B.tolist() == [True, False, True, False, False, False]
    assert flat.scores.valid_B.tolist() == [True, False, True, True, True, True]
    assert told == {"groups/sampled": 2.0, "groups/kept": 1.0}
    assert without_flat_groups(replace(flat, metrics={"groups/sampled": 7.0}))[1]["groups/sampled"] == 7.0


def test_skipping_is_for_steps_of_the_language_model() -> None:
    found = []
    for skips in (False, True):
        ar = FakePart()
        learner = Learner({"ar": ar}, advantages.batch_norm, WeightSync([]), skips=skips)
        metrics = learner.learn(an_experience(), Stopwatch())
        found.append((metrics.get("groups/kept"), ar.taught[0].tolist()))
    assert found[0][0] is None and found[1][0] == 2.0
    assert found[0][1] == found[1][1]  # both groups have a signal
    other = Learner({"ar": FakePart()}, advantages.grpo, WeightSync([]), lambda step, part: False, skips=True)
    assert other.learn(an_experience(), Stopwatch()) == {}
