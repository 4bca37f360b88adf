"""What a user of TRL writes: on the tiny random policy, without the trainer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policy.base import Policy
from rl.bench.trl_glue import PaintedReward, image_head, in_order, prompt_rows, prompt_tokenizer
from rl.config.schema import RenderConfig, RewardComponent
from rl.data.stream import PromptStream
from rl.types import Prompt, Score, UserError

PROMPTS = [Prompt("a", "a red circle"), Prompt("b", "two blue squares and a star")]


@pytest.fixture(scope="module")
def policy(tiny_policy: Path) -> Policy:
    return Policy.load(tiny_policy)


def test_trl_reads_the_prompts_that_we_read(policy: Policy) -> None:
    rows = prompt_rows(policy, tokenizer := prompt_tokenizer(policy), PROMPTS)
    assert [row["index"] for row in rows] == [0, 1]
    assert [tuple(tokenizer(str(row["prompt"]))["input_ids"]) for row in rows] == [
        policy.encode_prompt(prompt).ids for prompt in PROMPTS
    ]
    with pytest.raises(UserError, match="are not plain text to TRL, so the two cannot be compared"):
        prompt_rows(policy, policy.tokenizer, PROMPTS)


def test_steps_hold_the_prompts_of_our_own_steps() -> None:
    rows = [{"prompt": str(place), "index": place} for place in range(10)]
    found = in_order(rows, 7, 4)
    stream = PromptStream([Prompt(str(place), "") for place in range(10)], 4, 7)
    assert found["prompt"][:8] == [one.id for step in (0, 1) for one in stream.at(step)]


def test_only_image_tokens_can_be_written_and_log_probs_are_over_them(policy: Policy) -> None:
    layout, states = policy.layout, torch.randn(5, policy.ar.config.hidden_size)
    head = image_head(policy.ar.lm_head, layout)
    logits = head(states)
    image = slice(layout.image_start_id, layout.image_end_id)
    expected = (states @ head.weight[image].T).log_softmax(-1)
    torch.testing.assert_close(logits.log_softmax(-1)[:, image], expected)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


def test_the_reward_paints_what_was_written_and_asks_the_pool(policy: Policy) -> None:
    batches: list[list[str]] = []

    class Pool:
        def submit(self, samples):
            batches.append([sample.prompt.id for sample in samples])
            scores = [Score(float(sample.prompt.id == "b")) for sample in samples]
            return SimpleNamespace(result=lambda: {"shapes": scores, "watched": [Score(9.0)] * len(samples)})

    rewards = {"shapes": RewardComponent(use="geneval"), "watched": RewardComponent(use="ocr", role="monitor")}
    reward = PaintedReward(policy, Pool(), PROMPTS, RenderConfig(steps=1, micro_batch=2), rewards)  # type: ignore[arg-type]
    tokens = [[policy.layout.image_start_id] * policy.layout.tokens_per_image] * 3
    assert reward(completion_ids=tokens, index=[0, 0, 1], prompts=["ignored"] * 3) == [0.0, 0.0, 1.0]
    assert batches == [["a", "a"], ["b"]]
    assert reward.mean == pytest.approx(1 / 3)
    assert set(reward.seconds) == {"forward", "paint", "score"}


def test_hidden_states_do_not_depend_on_the_neighbours(policy: Policy) -> None:
    reward = PaintedReward(policy, None, PROMPTS, RenderConfig(), {})  # type: ignore[arg-type]
    tokens = [[policy.layout.image_start_id + 1] * policy.layout.tokens_per_image] * 2
    ids = [policy.encode_prompt(prompt).ids for prompt in PROMPTS]
    both, alone = reward.hidden(tokens, ids), reward.hidden(tokens[:1], ids[:1])
    np.testing.assert_allclose(both[:1].numpy(), alone.numpy(), atol=1e-5)


def test_a_failed_score_is_no_zero(policy: Policy) -> None:
    reward = PaintedReward(policy, None, PROMPTS, RenderConfig(), {"x": RewardComponent(use="ocr")})  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"rewards\.x failed: it died"):
        reward._scores({"x": [Score(1.0), Score(None, failure="it died")]})
