"""What the choices of an algorithm must keep among each other: each mistake is one sentence that names its key."""

from __future__ import annotations

import pytest

from rl.config.load import load
from rl.config.rules import notes
from rl.types import UserError

REWARD = "rewards.geneval=geneval"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["kl=null", "kl_reference.use=ema"],
            "kl_reference: is 'ema', and kl is null, so nothing is compared with it; write kl: k3, or kl_reference:",
        ),
        (
            ["kl_reference=ema", "train.zero_stage=3"],
            r"train.zero_stage: 3 cuts the weights up, and a slow copy of them \(kl_reference\) needs the whole; use",
        ),
        (
            ["train.ema=0.9", "eval.policy=ema", "train.zero_stage=3"],
            r"train.zero_stage: 3 cuts the weights up, and a slow copy of them \(train.ema\) needs the whole; use",
        ),
        (
            ["eval.policy=ema"],
            "eval.policy: is ema, and train.ema is null, so there is no such copy; give train.ema",
        ),
        (
            ["eval.policy=ema", "train.ema=0.9", "trainers=[decoder]", "render.renders=2"],
            "eval.policy: is ema, and the language model stays as it is, so it has no slow copy; write live",
        ),
        (["eval.policy=emma"], "eval.policy: must be 'live' or 'ema', got 'emma'"),
        (["train.ema=1.0"], "train.ema: must be less than 1, got 1.0"),
        (["kl_reference.use=refreshed"], "kl_reference.options.every: is missing; 'refreshed' needs it"),
        (
            ["kl_reference.use=refreshed", "kl_reference.options.every=0"],
            "kl_reference.options.every: must be a number above 0, got 0",
        ),
        (
            ["kl_reference.use=refreshed", "kl_reference.options.every=2.5"],
            "kl_reference.options.every: must be a whole number, got 2.5",
        ),
        (
            ["kl_reference.use=ema", "kl_reference.options.decay=1.5"],
            "kl_reference.options.decay: must be a number from 0 to 1, got 1.5",
        ),
        (["kl_reference=emma"], "kl_reference: there is no 'emma' among the kl_references, did you mean 'ema'?"),
        (["entropy=target"], "entropy.options.goal: is missing; 'target' needs it"),
        (
            ["entropy.use=bonus", "entropy.options.beta=-1"],
            "entropy.options.beta: must be a number that is not negative",
        ),
        (["terms.entropy=tests.rl.check.wrong:entropy_bonus"], "terms.entropy: 'entropy' is the name of a term that"),
        (
            ["advantage=max_rl", "combine=gdpo"],
            "advantage.use: max_rl needs rewards of 0 or more, .* write combine:",
        ),
        (
            ["loss=reinforce", "train.updates_per_rollout=2"],
            "train.updates_per_rollout: loss 'reinforce' has no ratio, so it must be 1, got 2; or use loss: grpo",
        ),
        (
            ["correction.use=token_mis", "correction.options.high=0"],
            "correction.options.high: must be a number above",
        ),
        (
            ["loss.use=sapo", "loss.options.tau_positive=0"],
            "loss.options.tau_positive: must be a number above 0, got 0",
        ),
    ],
)
def test_a_mistake_is_told_by_its_key(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load(None, [REWARD, *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ["kl_reference.use=ema", "train.zero_stage=2", "train.ema=0.9", "eval.policy=ema"],
        ["kl_reference.use=refreshed", "kl_reference.options.every=10", "train.lora.rank=4"],
        ["entropy.use=target", "entropy.options.goal=2", "correction=sequence_mis", "loss=gspo", "advantage=max_rl"],
    ],
)
def test_what_goes_together_is_taken(overrides: list[str]) -> None:
    load(None, [REWARD, *overrides])


def test_a_slow_copy_that_nobody_looks_at_is_told() -> None:
    told = list(notes(load(None, [REWARD, "train.ema=0.99"])))
    assert "train.ema: the slow copy is kept and not used, because eval.policy is live; write ema there" in told
    assert not any("train.ema" in note for note in notes(load(None, [REWARD, "train.ema=0.9", "eval.policy=ema"])))


def test_bounds_between_which_nothing_lies_are_refused() -> None:
    bounds = [REWARD, "correction.use=token_mis", "correction.options.low=6"]
    with pytest.raises(UserError, match=r"correction.options.low: is 6, above high \(5.0\), so that nothing lies"):
        load(None, bounds)
    load(None, [*bounds, "correction.options.high=6"])


def test_what_offloading_does_not_move_is_told() -> None:
    given = [REWARD, "train.offload_reference=cpu"]
    [told] = [note for note in notes(load(None, [*given, "kl_reference=ema"])) if "offload" in note]
    assert told == (
        "train.offload_reference: moves the fixed reference policy alone, if a term asks it; the copy that "
        "kl_reference 'ema' carries along stays where the training is"
    )
    assert not any("offload" in note for note in notes(load(None, given)))


def test_the_defaults_are_as_before() -> None:
    config = load(None, [REWARD])
    assert (config.kl_reference.use, config.entropy, config.train.ema, config.eval.policy) == (
        "fixed",
        None,
        None,
        "live",
    )
