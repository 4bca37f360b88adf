"""Questions that are read by features, and answered in words, by both engines: the same as the trainer computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.prompt import Condition
from policy.trainable import LanguageModel, WeightStream
from rl.data.shapes.questions.prompts import question_prompts
from rl.learn import canary_rows
from rl.rows import sequences
from rl.types import PictureFeatures, Prompt, Span, UserError
from rollout.sync import Canary, WeightSync
from rollout.weights import SyncError
from tests.policy.reading import reading_policy
from tests.rollout.sampling_engines import start_engine

QUESTIONS = question_prompts("ask_color", ["rl"], 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reading_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    policy = Policy.load(folder)
    with torch.no_grad():
        policy.ar.lm_head.weight.mul_(8)  # a freshly initialised model is almost uniform
    return policy


@pytest.fixture(scope="module", params=["torch", "vllm"])
def engine(request: pytest.FixtureRequest, folder: Path, policy: Policy) -> Iterator[Any]:
    options = {"features": True} if request.param == "vllm" else {}
    sampler = start_engine(request.param, folder, policy, **options)
    sampler.load_weights("ar", WeightStream.of(policy.ar.state_dict().items()), 1)
    yield sampler
    sampler.close()


def few_words(policy: Policy) -> Span:
    """Of those on both sides of the image tokens, so few that many answers end early."""
    layout = policy.layout
    first, last = layout.image_start_id, layout.image_end_id
    return Span(first - 4, last + 3, max_length=5, end=last + 1, without=(first, last))


def test_words_about_a_picture_are_sampled_alike(engine: Any, policy: Policy) -> None:
    words = few_words(policy)
    same_words = replace(QUESTIONS[1], text=QUESTIONS[0].text)  # about another picture
    found = engine.sample([QUESTIONS[0], same_words], 12, range(24), span=words)
    assert found.prompt_ids[0] == found.prompt_ids[1] and found.features is not None
    assert not np.array_equal(found.logprobs_BT[:12], found.logprobs_BT[12:])
    rows = sequences(found)
    language = LanguageModel(policy.ar, policy.layout.image)
    with torch.no_grad():
        trainers = language.outputs(language.module(*language.inputs(rows))).logprobs_BT.numpy()
        blind = image_forward(policy.ar, words, rows.prompt_ids, rows.tokens_BT).logprobs_BT.numpy()
    assert found.mask_BT is not None and (found.mask_BT.sum(1) < 5).any() and found.mask_BT.all(1).any()
    assert (found.tokens_BT[~found.mask_BT] == words.end).all() and (found.logprobs_BT[~found.mask_BT] == 0).all()
    assert np.abs(trainers - found.logprobs_BT)[found.mask_BT].max() < 1e-4
    assert np.abs(blind - trainers)[found.mask_BT].max() > 1e-3  # the features matter
    few = rows.take([0, 13, 5])
    assert np.abs(engine.answer(few) - trainers[[0, 13, 5]]).max() < 1e-4  # as a canary asks


def test_new_weights_are_checked_on_prompts_with_features(engine: Any, policy: Policy) -> None:
    """A canary holds them; an engine that read another picture would be noticed."""
    found = engine.sample(QUESTIONS, 2, range(4), span=few_words(policy))
    rows = canary_rows(found, 4, 64)
    language = LanguageModel(policy.ar, policy.layout.image)
    with torch.no_grad():
        expected = language.outputs(language.module(*language.inputs(rows))).logprobs_BT.numpy()
    sync, weights = WeightSync([engine]), WeightStream.of(policy.ar.state_dict().items())
    assert sync.push("ar", weights, 2, {"logprobs": Canary(rows, expected)}) < 1e-4
    assert rows.features is not None and rows.features[0] is not None and rows.features[3] is not None
    swapped = replace(rows, features=(rows.features[3],) * 4)
    with pytest.raises(SyncError, match="engine and trainer log-probs differ by"):
        sync.push("ar", weights, 3, {"logprobs": Canary(swapped, expected)})


def test_pictures_are_drawn_beside_questions_with_the_same_engine(engine: Any, policy: Policy) -> None:
    words = few_words(policy)
    drawn = engine.sample([Prompt("a", "two red circles")], 2, [1, 2])
    engine.sample(QUESTIONS[:1], 2, [1, 2], span=words)
    again = engine.sample([Prompt("a", "two red circles")], 2, [1, 2])
    assert np.array_equal(drawn.tokens_BT, again.tokens_BT) and drawn.features is None
    assert drawn.tokens_BT.min() >= policy.layout.image_start_id
    assert drawn.tokens_BT.max() < policy.layout.image_end_id


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        (
            PictureFeatures(1, "d", torch.zeros(16, 64)),
            "prompt 'q': its picture's vectors have 64 numbers each and the language model's hidden size is 96; use "
            "the image tokenizer of this policy folder.",
        ),
        (
            PictureFeatures(2, "d", torch.zeros(16, 96)),
            "prompt 'q': its picture's 16 vectors stand from id 2 on, beyond the end of 17 ids; use the prompt encoder "
            "of this policy folder.",
        ),
        (
            PictureFeatures(1, "d", torch.full((16, 96), torch.nan)),
            "prompt 'q': its picture's vectors are not finite; restore image_tokenizer/ of this policy folder.",
        ),
    ],
)
def test_vectors_that_do_not_fit_reach_no_engine(
    engine: Any, policy: Policy, features: PictureFeatures, sentence: str
) -> None:
    engine.encode = lambda prompt: Condition((5,) * 17, features)
    try:
        with pytest.raises(UserError) as told:
            engine.sample([Prompt("q", "")], 1, [1])
        assert str(told.value) == sentence
    finally:
        engine.encode = policy.encode_prompt
