"""What is sampled: pictures of a fixed length, and spans that end by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.layout import TokenLayout
from rl.types import Prompt, Span, UserError
from tests.rollout.sampling_engines import start_engine

PROMPT = Prompt("a", "two red circles")


@pytest.fixture(scope="module")
def torch_engine(folder: Any) -> Any:
    return start_engine("torch", folder, Policy.load(folder))


def test_a_span_ends_with_its_end_and_what_follows_does_not_count(torch_engine: Any, policy: Policy) -> None:
    words = Span(3, 11, max_length=9, end=7)
    found = torch_engine.sample([PROMPT], 40, range(40), span=words)
    assert found.tokens_BT.shape == found.logprobs_BT.shape == found.mask_BT.shape == (40, 9)
    assert found.tokens_BT.min() >= 3 and found.tokens_BT.max() < 11
    lengths_B = found.mask_BT.sum(1)
    assert 1 <= lengths_B.min() < lengths_B.max() <= 9
    for tokens_T, mask_T, logprobs_T, length in zip(
        found.tokens_BT, found.mask_BT, found.logprobs_BT, lengths_B, strict=True
    ):
        assert mask_T.tolist() == [True] * length + [False] * (9 - length)
        assert (tokens_T[: length - 1] != 7).all()
        assert length == 9 or tokens_T[length - 1] == 7
        assert (tokens_T[length:] == 7).all() and (logprobs_T[length:] == 0).all()
    # the log-probs are those of the trainer's forward over the same span
    ids, tokens_BT = found.prompt_ids_per_sample(), torch.from_numpy(found.tokens_BT)
    with torch.no_grad():
        expected_BT = image_forward(policy.ar, words, ids, tokens_BT).logprobs_BT.numpy()
    assert np.abs(expected_BT - found.logprobs_BT)[found.mask_BT].max() < 1e-4


def test_a_picture_is_the_span_of_the_layout(torch_engine: Any, policy: Policy) -> None:
    usual = torch_engine.sample([PROMPT], 2, [1, 2])
    named = torch_engine.sample([PROMPT], 2, [1, 2], span=policy.layout.image)
    assert np.array_equal(usual.tokens_BT, named.tokens_BT)
    assert usual.mask_BT is None


def test_the_beginning_of_a_picture_is_sampled_and_scored_alone(engine: Any, policy: Policy) -> None:
    whole = engine.sample([PROMPT], 2, [1, 2])
    beginning = engine.sample([PROMPT], 2, [1, 2], span=policy.layout.image.up_to(5))
    assert np.array_equal(beginning.tokens_BT, whole.tokens_BT[:, :5])
    found = engine.logprobs(beginning.prompt_ids_per_sample(), beginning.tokens_BT, span=beginning.span)
    assert found.shape == (2, 5)
    assert np.abs(found - whole.logprobs_BT[:, :5]).max() < 1e-4


def test_what_an_engine_cannot_sample_is_refused(engine: Any, policy: Policy) -> None:
    before = engine.sample([PROMPT], 1, [1])
    with pytest.raises(UserError, match=r"a span of ids 3..10 and up to 17 tokens does not fit this policy"):
        engine.sample([PROMPT], 1, [1], span=Span(3, 11, length=policy.layout.tokens_per_image + 1))
    assert np.array_equal(engine.sample([PROMPT], 1, [1]).tokens_BT, before.tokens_BT)


def test_what_a_span_leaves_out_never_comes_and_has_no_share(torch_engine: Any, policy: Policy) -> None:
    words = Span(3, 11, max_length=9, end=9, without=(5, 8))
    found = torch_engine.sample([PROMPT], 40, range(40), span=words)
    assert set(found.tokens_BT.flatten().tolist()) == {3, 4, 8, 9, 10}
    ids, tokens_BT = found.prompt_ids_per_sample(), torch.from_numpy(found.tokens_BT)
    with torch.no_grad():
        forward = image_forward(policy.ar, words, ids, tokens_BT)
        logits_BTK = forward.hidden_BSD[:, :-1] @ policy.ar.lm_head.weight[[3, 4, 8, 9, 10]].T
    places_BT = torch.tensor([[3, 4, 8, 9, 10].index(one) for one in found.tokens_BT.flatten()]).view(tokens_BT.shape)
    by_hand_BT = logits_BTK.log_softmax(-1).gather(2, places_BT[..., None])[..., 0].numpy()
    assert np.abs(forward.logprobs_BT.numpy() - by_hand_BT).max() < 1e-5
    assert np.abs(by_hand_BT - found.logprobs_BT)[found.mask_BT].max() < 1e-4
    with pytest.raises(UserError, match="row 0, position 1 has id 6, not one of the span's"):
        torch_engine.logprobs(ids[:1], np.array([[3, 6] + [9] * 7]), span=words)


def test_words_are_all_ids_but_those_of_pictures() -> None:
    tiny = TokenLayout(255, 81, 128, 16, 78, 79, 80, (4, 4))
    assert tiny.words(254, 8) == Span(0, 255, max_length=8, end=254, without=(81, 209))
    assert replace(tiny, vocab_size=209).words(79, 8) == Span(0, 81, max_length=8, end=79)
    assert replace(tiny, image_start_id=0).words(254, 8) == Span(128, 255, max_length=8, end=254)
    assert Span(0, 255, max_length=8, end=254, without=[81, 209]) == tiny.words(254, 8)  # type: ignore[arg-type]


def test_the_beginning_of_a_span() -> None:
    assert Span(2, 9, length=7).up_to(3) == Span(2, 9, length=3)
    assert Span(2, 9, length=7).up_to(8) == Span(2, 9, length=7)
    assert Span(2, 9, max_length=7, end=4).up_to(3) == Span(2, 9, max_length=3, end=4)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({}, "a span has a length, or a max_length and the id of its end"),
        ({"length": 3, "max_length": 4, "end": 3}, "a span has a length, or a max_length"),
        ({"max_length": 4}, "a max_length and the id of its end"),
        ({"length": 0}, "at least one token"),
        ({"max_length": 4, "end": 9}, "the end of a span is one of its own ids"),
        ({"max_length": 4, "end": 5, "without": (4, 6)}, "the end of a span is one of its own ids"),
        ({"length": 4, "without": (2, 6)}, "what a span leaves out lies inside it"),
    ],
)
def test_a_span_that_means_nothing_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Span(2, 9, **wrong)
