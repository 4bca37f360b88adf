"""One contract, two engines: what is sampled, in which order, with which log-probs."""

from __future__ import annotations

import multiprocessing.synchronize
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.checksums import exact_sum
from policy.pictures.inline import InlineEncoder
from policy.prompt import Condition
from policy.trainable import WeightStream
from rl.data.pictures import Picture
from rl.process.progress import untold
from rl.types import Prompt, Rollout, UserError
from rollout.proof import sums_of
from rollout.samplers import vllm_sampler
from rollout.samplers.contract import EngineError

A, B, C = Prompt("a", "two red circles"), Prompt("b", "a green star left of a blue square"), Prompt("c", "a triangle")
SEEDS = (11, 22, 33, 44, 55, 66)


def trainer_logprobs(policy: Policy, rollout: Rollout) -> np.ndarray:
    with torch.no_grad():
        tokens = torch.from_numpy(rollout.tokens_BT)
        ids = rollout.prompt_ids_per_sample()
        return image_forward(
            policy.ar, policy.layout.image, ids, tokens, temperature=rollout.temperature
        ).logprobs_BT.numpy()


def sharpen(policy: Policy, factor: float = 8.0) -> Policy:
    """A freshly initialised model is almost uniform; larger head rows make its distribution matter."""
    with torch.no_grad():
        policy.ar.lm_head.weight.mul_(factor)
    return policy


@pytest.fixture
def sharp(engine: Any, policy: Policy) -> Policy:
    sharpen(policy)
    engine.load_weights("ar", WeightStream.of(policy.ar.state_dict().items()), 7)
    return policy


def test_only_image_tokens_and_exactly_the_fixed_count(engine: Any, policy: Policy) -> None:
    rollout = engine.sample([A, B], 3, SEEDS)
    assert rollout.tokens_BT.shape == rollout.logprobs_BT.shape == (6, policy.layout.tokens_per_image)
    assert rollout.tokens_BT.dtype == np.int64
    assert rollout.logprobs_BT.dtype == np.float32
    assert rollout.tokens_BT.min() >= policy.layout.image_start_id
    assert rollout.tokens_BT.max() < policy.layout.image_end_id
    assert (rollout.prompts, rollout.group_size, rollout.seeds, rollout.version) == ((A, B), 3, SEEDS, 0)
    assert rollout.prompt_ids == (policy.text_ids(A.text), policy.text_ids(B.text))


def test_a_picture_in_the_prompt_is_read_alike_by_both_engines_and_the_trainer(engine: Any, policy: Policy) -> None:
    """Edits and drawings side by side; what the picture shows decides what is written."""
    layout, tasks = policy.layout, {"edit": "{prompt} {picture} of"}
    encode = InlineEncoder(policy.tokenizer, policy.prompt_template, layout, tasks, policy.picture_tokens)
    pixels = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(2)]
    edits = [Prompt(str(i), A.text, pictures=(Picture(one),)) for i, one in enumerate(pixels)]
    plain = engine.sample([A], 2, SEEDS[:2])
    engine.encode = encode
    try:
        rollout = engine.sample([edits[0], A, edits[1]], 2, (*SEEDS[:2], *SEEDS[:2], *SEEDS[:2]))
    finally:
        engine.encode = policy.encode_prompt
    inside = policy.image_tokenizer.encode(pixels[0][None].copy())[0].tolist()
    assert list(rollout.prompt_ids[0][3:-3]) == inside
    assert rollout.prompt_ids[1] == policy.text_ids(A.text)
    assert np.array_equal(rollout.tokens_BT[2:4], plain.tokens_BT)
    assert not np.array_equal(rollout.logprobs_BT[:2], rollout.logprobs_BT[4:])
    assert np.abs(trainer_logprobs(policy, rollout) - rollout.logprobs_BT).max() < 1e-4
    taught = engine.logprobs(rollout.prompt_ids_per_sample(), rollout.tokens_BT)
    assert np.abs(taught - rollout.logprobs_BT).max() < 1e-4


def test_hidden_states_of_the_engine_are_those_of_the_trainer(engine: Any, policy: Policy, sharp: Policy) -> None:
    assert engine.sample([A, B], 3, SEEDS).hidden_BSD is None  # nobody has asked
    rollout = engine.sample([A, B], 3, SEEDS, hidden=True)
    if isinstance(engine, vllm_sampler.VllmSampler):
        assert rollout.hidden_BSD is None  # it keeps them to itself
        return
    with torch.no_grad():
        tokens = torch.from_numpy(rollout.tokens_BT)
        wanted = image_forward(sharp.ar, policy.layout.image, rollout.prompt_ids_per_sample(), tokens).hidden_BSD
    torch.testing.assert_close(rollout.hidden_BSD, wanted, atol=1e-4, rtol=1e-4)


def test_same_seeds_give_the_same_tokens_and_other_seeds_do_not(engine: Any) -> None:
    first, again = engine.sample([A], 4, SEEDS[:4]), engine.sample([A], 4, SEEDS[:4])
    assert np.array_equal(first.tokens_BT, again.tokens_BT)
    assert np.array_equal(first.logprobs_BT, again.logprobs_BT)
    assert len({tuple(row) for row in first.tokens_BT.tolist()}) == 4
    other = engine.sample([A], 4, [seed + 1 for seed in SEEDS[:4]])
    assert (other.tokens_BT != first.tokens_BT).any(1).all()


def test_groups_keep_their_order_and_a_sample_depends_on_its_own_seed_only(engine: Any, sharp: Policy) -> None:
    together = engine.sample([A, B, C], 2, SEEDS)
    for index, (prompt, seed) in enumerate(zip([A, A, B, B, C, C], SEEDS, strict=True)):
        alone = engine.sample([prompt], 1, [seed])
        assert np.array_equal(alone.tokens_BT[0], together.tokens_BT[index])
        assert np.abs(alone.logprobs_BT[0] - together.logprobs_BT[index]).max() < 1e-4
    swapped = engine.sample([C, A, B], 2, (*SEEDS[4:], *SEEDS[:4]))
    assert np.array_equal(swapped.tokens_BT, np.roll(together.tokens_BT, 2, axis=0))


@pytest.mark.parametrize("temperature", [1.0, 0.8])
def test_logprobs_are_those_of_the_trainer(engine: Any, sharp: Policy, temperature: float) -> None:
    rollout = engine.sample([A, B, C], 2, SEEDS, temperature=temperature)
    expected = trainer_logprobs(sharp, rollout)
    assert expected.std() > 0.1  # a uniform model would agree with anything
    assert np.abs(rollout.logprobs_BT - expected).max() < 1e-4
    scored = engine.logprobs(rollout.prompt_ids_per_sample(), rollout.tokens_BT, temperature=temperature)
    assert scored.shape == expected.shape
    assert np.abs(scored - expected).max() < 1e-4
    # scoring at another temperature leaves the engine's sampling as it was
    assert np.array_equal(engine.sample([A, B, C], 2, SEEDS, temperature=temperature).tokens_BT, rollout.tokens_BT)


def test_first_tokens_follow_the_models_distribution(engine: Any, sharp: Policy) -> None:
    draws, layout = 1500, sharp.layout
    tokens = engine.sample([A], draws, range(draws)).tokens_BT[:, 0] - layout.image_start_id
    ids = torch.tensor([sharp.text_ids(A.text)])
    with torch.no_grad():
        logits = sharp.ar(ids).logits[0, -1, layout.image_start_id : layout.image_end_id]
    expected = logits.double().softmax(-1).numpy() * draws
    common = expected >= 5  # the test's rule of thumb; the rest is one class
    observed = np.bincount(tokens, minlength=layout.num_image_tokens)
    table = [np.append(count[common], count[~common].sum()) for count in (observed, expected)]
    assert common.sum() > 10
    assert chisquare(table[0], table[1]).pvalue > 1e-3
    # and the test can fail: the same draws do not follow a flat distribution
    assert chisquare(observed, np.full_like(expected, draws / len(expected))).pvalue < 1e-6


def test_top_k_and_top_p_keep_only_the_likely_tokens(engine: Any, sharp: Policy) -> None:
    layout = sharp.layout
    with torch.no_grad():
        logits = sharp.ar(torch.tensor([sharp.text_ids(A.text)])).logits[0, -1]
    probs = logits[layout.image_start_id : layout.image_end_id].double().softmax(-1)
    best = set((probs.topk(2).indices + layout.image_start_id).tolist())
    rollout = engine.sample([A], 64, range(64), top_k=2)
    assert set(rollout.tokens_BT[:, 0].tolist()) == best
    pair = np.exp(np.unique(rollout.logprobs_BT[:, 0].round(5)))
    assert abs(pair.sum() - 1) < 1e-3  # renormalised over the two that are left
    nucleus = engine.sample([A], 64, range(64), top_p=float(probs.max()) * 0.5)
    assert set(nucleus.tokens_BT[:, 0].tolist()) == {int(probs.argmax()) + layout.image_start_id}
    assert np.abs(nucleus.logprobs_BT).max() < 1e-5


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"group_size": 2, "seeds": [1]}, "1 seeds for 2 samples"),
        ({"group_size": 0, "seeds": []}, "nothing to sample"),
        ({"group_size": 1, "seeds": [2**31]}, "seed 2147483648 is not an integer in 0..2^31-1"),
        (
            {"group_size": 1, "seeds": [1], "temperature": 0.0},
            "rollout.temperature is 0.0; it must be a pos",
        ),
        ({"group_size": 1, "seeds": [1], "top_p": 0.0}, "rollout.top_p is 0.0"),
        ({"group_size": 1, "seeds": [1], "top_k": -1}, "rollout.top_k is -1"),
    ],
)
def test_a_wrong_call_is_refused_and_the_engine_lives(engine: Any, call: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence.replace("^", r"\^")):
        engine.sample([A], **call)
    assert engine.sample([A], 1, [1]).tokens_BT.shape[0] == 1


def test_ids_outside_the_vocabulary_are_refused_by_us_and_the_engine_lives(engine: Any, policy: Policy) -> None:
    layout, good = policy.layout, engine.sample([A], 1, [1])
    for ids, sentence in [
        ((1, layout.vocab_size), f"token 1 has id {layout.vocab_size}, outside the vocabulary of {layout.vocab_size}"),
        ((-1,), "token 0 has id -1"),
        ((1.5,), "token 0 is 1.5, not an integer"),
        ((), "the prompt has no tokens"),
        ((1,) * (engine.max_prompt_tokens + 1), "raise rollout.options.max_prompt_tokens"),
    ]:
        with pytest.raises(UserError, match=sentence):
            engine.logprobs([ids], good.tokens_BT)
        engine.encode = lambda _prompt, ids=ids: Condition(ids)
        try:
            with pytest.raises(UserError, match=f"prompt 'a'.*{sentence}"):
                engine.sample([A], 1, [1])
        finally:
            engine.encode = policy.encode_prompt
    wrong = good.tokens_BT.copy()
    wrong[0, 3] = 5
    with pytest.raises(UserError, match="row 0, position 3 has id 5, not one of the span's"):
        engine.logprobs(good.prompt_ids, wrong)
    with pytest.raises(UserError, match="expected integers of shape"):
        engine.logprobs(good.prompt_ids, good.tokens_BT[:, :-1])
    # numpy integers become plain ints on the way, and the engine answers as before
    numpy_ids = [tuple(np.int64(token) for token in good.prompt_ids[0])]
    assert np.abs(engine.logprobs(numpy_ids, good.tokens_BT) - good.logprobs_BT).max() < 1e-4
    assert np.array_equal(engine.sample([A], 1, [1]).tokens_BT, good.tokens_BT)


def test_sampling_leaves_the_hosts_random_state_alone(engine: Any) -> None:
    before, python = torch.get_rng_state(), np.random.get_state()[1].copy()
    engine.sample([A], 2, [1, 2])
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(python, np.random.get_state()[1])


def test_nan_logits_raise_and_new_weights_heal_the_engine(engine: Any, policy: Policy) -> None:
    good = engine.sample([A], 2, [1, 2])
    with torch.no_grad():
        policy.ar.model.norm.weight.fill_(1e38)  # finite weights, but the products overflow
        policy.ar.lm_head.weight.mul_(1e10)
    engine.load_weights("ar", WeightStream.of(policy.ar.state_dict().items()), 3)
    with pytest.raises(EngineError, match="logits of weights version 3 are NaN"):
        engine.sample([A], 2, [1, 2])
    with pytest.raises(EngineError, match="logits of weights version 3 are NaN"):
        engine.logprobs(good.prompt_ids_per_sample(), good.tokens_BT)
    engine.load_weights("ar", WeightStream.of(Policy.load(policy.folder).ar.state_dict().items()), 4)
    assert np.array_equal(engine.sample([A], 2, [1, 2]).tokens_BT, good.tokens_BT)


def test_more_samples_than_sequences_at_once(policy: Policy, engine: Any) -> None:
    expected = engine.sample([A, B, C], 4, range(12))
    if hasattr(engine, "max_num_seqs"):
        before, engine.max_num_seqs = engine.max_num_seqs, 5
        try:
            assert np.array_equal(engine.sample([A, B, C], 4, range(12)).tokens_BT, expected.tokens_BT)
        finally:
            engine.max_num_seqs = before
    many = engine.sample([A, B, C], 100, range(300))  # 300 > 256, the default
    assert len({tuple(row) for row in many.tokens_BT.tolist()}) > 290


def test_without_semaphores_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(multiprocessing.synchronize, "Lock", read_only)
    with pytest.raises(UserError, match=r"/dev/shm cannot \(Read-only file system\): mount it .* or use engine: torch"):
        vllm_sampler._check_semaphores()


def test_an_engine_tells_how_many_tokens_it_has_drawn(engine: Any, policy: Policy) -> None:
    told: list[tuple[int, int, str]] = []
    engine.progress = lambda *far: told.append(far)
    try:
        rollout = engine.sample([A, B], 3, SEEDS)
        heard = len(told)
        engine.logprobs(rollout.prompt_ids_per_sample(), rollout.tokens_BT)
    finally:
        engine.progress = untold
    wanted = 6 * policy.layout.tokens_per_image
    assert heard >= policy.layout.tokens_per_image
    assert [done for done, _, _ in told[:heard]] == sorted(done for done, _, _ in told[:heard])
    assert told[heard - 1] == (wanted, wanted, "tokens")
    assert {total for _, total, _ in told[heard:]} <= {0}  # scoring given tokens is not sampling


def test_an_engine_sums_up_what_it_computes_with_unless_it_keeps_it_in_an_order_of_its_own(
    engine: Any, sharp: Policy
) -> None:
    found = engine.live_sums("ar")
    if engine.__class__.__name__ == "VllmSampler" and not torch.cuda.is_available():
        assert found is None
        found = engine._on_model(lambda model: sums_of(model.live_parameters()))
        found = [one for one in found if not one.names[0].endswith("proj.weight")]  # its matrices are packed away
    expected = {name: exact_sum(value) for name, value in sharp.ar.state_dict().items()}
    assert {name for one in found for name in one.names} >= {"lm_head.weight", "model.norm.weight"}
    assert all(one.total == sum(expected[name] for name in one.names) % 2**64 for one in found)
