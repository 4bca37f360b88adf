"""``python -m rl.check``: built-in functions pass, each fault is one sentence; a run ends with the same sentence."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from examples.custom_algorithm.dual_clip import dual_clip
from examples.custom_algorithm.raft import raft
from examples.custom_algorithm.ranks import ranks
from rl.algorithm import losses
from rl.algorithm.answers import CHECKS, Answering
from rl.algorithm.objective import PolicyObjective
from rl.algorithm.terms import Term
from rl.check.__main__ import main
from rl.check.kinds import CREDIT, KINDS
from rl.registry import BUILT_IN
from rl.types import UserError
from tests.rl.check import wrong
from tests.rl.trainer.trainer_case import make_batch, make_trainer, weights

HERE = "tests.rl.check.wrong"
NEEDED = {"refreshed": ["every=50"], "target": ["goal=2"]}
"""Options without a default."""


@pytest.mark.parametrize(
    ("key", "name"), [(key, name) for key, kind in KINDS.items() if key != CREDIT for name in BUILT_IN[kind]]
)
def test_what_we_ship_is_fit(key: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"--option={one}" for one in NEEDED.get(name, ())]
    assert main([name, "--as", key, *options]) == 0
    told = capsys.readouterr().out
    assert told.endswith(f"{name} as {key}: fit for a run\n")
    assert ("warning" in told) == (name == "k1")  # whose gradient does not depend on the reference, as its page says


def test_the_decoders_advantages_are_told_from_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    use = "rl.algorithm.flow.credit:decoder_advantages"
    assert main([use]) == 0
    assert capsys.readouterr().out.endswith(f"{use} as decoder_advantages: fit for a run\n")
    assert main(["batch_norm", "--as", "decoder_advantages"]) == 1  # which compares pictures of other tokens
    assert "not 0: the decoder is praised or blamed for its tokens" in capsys.readouterr().out


@pytest.mark.parametrize("use", ["dual_clip:dual_clip", "ranks:ranks", "raft:raft"])
def test_the_examples_are_fit_without_a_warning(use: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"examples.custom_algorithm.{use}"]) == 0
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "bare",
            r"loss: '.*:bare' answered Tensor of shape \(6, 5\); it must be a SurrogateLoss of rl.algorithm.losses",
        ),
        ("flat_loss", r"answered loss_BT of shape \(6,\); it must be one per token, \(6, 5\)"),
        ("detached", "answered loss_BT without a gradient, so it would train nothing; compute it from the policy's"),
        ("climbs", "samples with a positive advantage become less likely, or the reverse: is a minus missing?"),
        ("batch_mean", "row 0 alone gets another answer than in the batch: results would depend on train.micro_batch"),
        ("raises", r"loss: '.*:raises' raised TypeError: .* \(wrong.py:\d+\)"),
        ("changes", r"it changes what it was given, which others read; work on a copy \(.clone\(\)\)"),
        ("as_list", r"answered list; the advantages must be a tensor, one per sample, \(4, 6\)"),
        ("no_std_floor", r"answered nan for a group with the rewards 0.5, 0.5, .*; divide by std \+ eps"),
        ("unmasked", r"gave a sample without a valid reward an advantage; it must be 0 there \(masked_fill"),
        ("reversed_sign", "a sample with a higher reward gets a lower advantage: is the sign right?"),
        ("over_all", r"depend on other prompts' rewards: compare inside each row, or declare it with @declares"),
        ("by_place", "samples in another order get other advantages"),
        ("plain_kl", r"kl: '.*:plain_kl' answered Tensor of shape \(6, 5\); it must be a Term of rl.algorithm.terms"),
        ("infinite_mean", "with other inputs: aggregation: .* answered a weight of nan; clamp the denominator to"),
        ("everywhere", "gave a masked token a weight; multiply by mask_BT"),
        ("negative", "answered a negative weight, -1, which would turn the loss round"),
        ("uncapped", "answered a weight that is not a finite number of 0 or more; give it a cap"),
        ("trained", r"the weights carry a gradient; they weigh the loss and must not be trained: .detach\(\)"),
        ("constant_term", "answered its loss without a gradient, so it would train nothing"),
        ("wide_term", r"terms.terms: loss has shape \(6, 6\); it must be one number per token, \(6, 5\), or one per"),
        ("one_total", r"answered float; it must be an array of one total per sample, \(6,\)"),
        ("not_finite", "answered a total that is not finite for a sample that has rewards"),
        ("forgets_applies", "a reward that does not apply to a sample changes its total: look at applies_KB"),
        ("upside_down", "a sample whose rewards all rise gets no higher total, with weights above 0"),
        ("undeclared_mask", r"it takes mask_BT, .*: write @declares\(sequences=True\) of rl.config.declared above it"),
        ("declared_without_mask", "it declares sequences=True, and must then take mask_BT as its last argument before"),
        ("forgets_mask", r"tokens that were not sampled \(mask_BT\) change what the others get"),
        ("mean_of_all", r"decoder.loss: loss has shape \(\); it must be one number per row, \(6,\)"),
        ("leads_away", "leads away from pictures with a positive advantage: is a minus missing?"),
        ("flow_detached", "answered its loss without a gradient, so it would train nothing"),
        ("at_old", "0 for every picture where old and new are the same, as in the first update: nothing is learnt"),
        ("over_neighbours", "row 0 alone .* results would depend on decoder.micro_batch and on the number of GPUs"),
        ("mean_ratio_off", "ratio_mean is off by 0.01 where old and new are the same; it must be exactly 1"),
        ("ratio_off", "ratio_deviation is off by 1e-07 where old and new are the same; it must be exactly 0"),
        ("undeclared_window", r"write @declares\(window=True\) of rl.config.declared above it"),
        ("declared_on_pictures", r"it declares window=True, and must then take \(steps, index, state_next, mean, old"),
        ("window_reversed", "leads away from pictures with a positive advantage: is a minus missing?"),
        ("first_step_only", "with other inputs: decoder.loss: '.*:first_step_only' raised KeyError: 1"),
        ("not_centred", r"token sequence add up to 3(\.\d+)?, not 0: the decoder is praised or blamed for its tokens"),
        ("worse_is_better", "a picture with a higher reward gets a lower advantage: is the sign right?"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_fault_is_one_sentence(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--as", "decoder.loss"] if name == "declared_on_pictures" else []
    assert main([f"{HERE}:{name}", *given]) == 1
    errors = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert re.search(sentence, errors[0]), errors[0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("halved", "at ratio 1 it is 0.5 to 0.5 times that of the policy gradient, -A"),
        ("graph_kept", "ratio_BT carries the gradient; it is for the log only: .detach() it"),
        ("raw", "a group whose rewards are all equal is moved, though no sample was better"),
        ("offset_kl", "1 where policy and reference are the same, not 0"),
        ("summed", "the weights add up to 30 over a whole batch, to 23 where tokens are masked"),
        ("entropy_bonus", "what it shows carries the gradient; .detach() it"),
        ("weighted_regression", "leads to pictures with a negative advantage as well"),
        ("weighted_regression", "pictures with an advantage of 0 are moved too"),
        ("by_exponent", "not finite 20 away from the decoder that painted; clamp before exp()"),
    ],
)
def test_what_may_be_meant_is_a_warning(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{HERE}:{name}"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning")]
    assert any(sentence in line for line in told), told


@pytest.mark.parametrize(
    ("name", "option", "sentence"),
    [
        ("nft", "beta=-1", "beta must be a number above 0, got -1"),
        (
            "flow_grpo",
            "weights=gard",
            "weights must be 'equal' or 'tempflow' or 'guard', got 'gard' (text), did you mean 'guard'?",
        ),
        ("flow_grpo", "kl_mask=.nan", "kl_mask must be a number that is not negative, got nan"),
    ],
)
def test_an_option_that_a_run_refuses_is_refused(
    name: str, option: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--option", option]) == 1
    assert sentence in capsys.readouterr().out


def test_options_reach_the_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{HERE}:halved", "--option", "scale=1.0"]) == 0
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["grpo"], "error: 'grpo' is the name of loss and advantage: say which with --as, for example --as loss\n"),
        (["nonsense"], "error: 'nonsense' is the name of none of loss, advantage,"),
        ([f"{HERE}:telling_nothing"], "which does not tell what it is for: say it with --as, or name its arguments"),
        ([f"{HERE}:absent"], "has no 'absent'"),
        (["no_such_module:f"], "error: there is no module 'no_such_module'"),
        ([f"{HERE}:halved", "--option", "scale"], "is not of the form key=value"),
        (
            [f"{HERE}:halved", "--option", "scal=1"],
            f"error: loss.options.scal: '{HERE}:halved' takes no such option, did you mean 'scale'? (it takes: scale)",
        ),
        (["k3", "--as", "kl", "--option", "x=1"], "kl.options.x: 'k3' takes no such option (it takes: beta)"),
        (["grop", "--as", "loss"], "error: there is no 'grop' among the losses, did you mean 'grpo'?"),
    ],
)
def test_what_cannot_be_tried(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert sentence in capsys.readouterr().err


def test_a_run_ends_with_the_same_sentence_and_its_weights_as_they_were() -> None:
    loss = Answering("loss", "mine:detached", wrong.detached, CHECKS["losses"])
    aggregation = Answering(
        "aggregation", "token_mean", lambda mask_BT: mask_BT.float() / mask_BT.sum(), CHECKS["aggregations"]
    )
    trainer = make_trainer(objective=PolicyObjective(loss, aggregation))
    before = weights(trainer)
    with pytest.raises(UserError, match="^loss: 'mine:detached' answered loss_BT without a gradient"):
        trainer.update(make_batch(trainer))
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def test_a_loss_that_is_not_finite_is_blamed_on_its_part() -> None:
    penalties = {"mine": lambda outputs, rows: Term(outputs.logprobs_BT * math.inf)}
    trainer = make_trainer(objective=PolicyObjective(losses.grpo, losses.token_mean, penalties=penalties))
    with pytest.raises(UserError, match=r"the loss is (nan|-?inf) \(its part 'mine'\), so the weights were left"):
        trainer.update(make_batch(trainer))


def test_dual_clip_by_hand() -> None:
    """Of A = -1: ratio 5 is held at 3, ratio 2 is not, and neither is A = 2, which PPO's own clip holds at 1.2."""
    old_BT = torch.full((2, 2), -9.0)
    now_BT = (old_BT + torch.tensor([[5.0, 2.0], [5.0, 1.1]]).log()).requires_grad_()
    found = dual_clip(now_BT, old_BT, torch.tensor([-1.0, 2.0]))
    torch.testing.assert_close(found.loss_BT, torch.tensor([[3.0, 2.0], [-2.4, -2.2]]))
    assert found.clipped_BT.tolist() == [[True, False], [True, False]]
    (slope_BT,) = torch.autograd.grad(found.loss_BT.sum(), now_BT)
    assert torch.equal(slope_BT == 0, found.clipped_BT)


def test_ranks_by_hand() -> None:
    rewards_PG = torch.tensor([[0.1, 0.9, 0.4, 0.4], [1e30, 0.0, torch.nan, 0.5]])
    valid_PG = torch.tensor([[True] * 4, [True, True, False, True]])
    torch.testing.assert_close(ranks(rewards_PG, valid_PG), torch.tensor([[-1.0, 1, 0, 0], [1, -1, 0, 0]]))


def test_a_combination_may_answer_what_numpy_understands() -> None:
    check = CHECKS["combinations"]
    values_KB, applies_KB = np.zeros((1, 2)), np.array([[True, False]])
    assert check([1.0, math.nan], values_KB, applies_KB) is None  # the second has no reward
    assert check(["a", "b"], values_KB, applies_KB) == "answered an array of <U1; it must hold numbers"


def test_raft_by_hand() -> None:
    """Errors 1 and 2 in every number, at t .5 and 1: .25 * 1 * A and 1 * 4 * A, for A > 0 only and at most the cap."""
    target = torch.zeros(3, 1, 2, 2)
    flow = torch.stack([target[0] + 1, target[0] + 2, target[0] + 2])
    found = raft(flow, flow, target, torch.tensor([0.5, 1, 1]), torch.tensor([2.0, -3, 9]), advantage_cap=5)
    torch.testing.assert_close(found.loss, torch.tensor([0.5, 0.0, 20.0]))


@pytest.mark.parametrize(
    ("use", "told"),
    [("nft", "shows none (ratio_mean, ratio_deviation)"), ("awm", "exactly 1 where old and new are the same")],
)
def test_a_ratio_that_is_shown_is_looked_at(use: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([use]) == 0
    assert re.search(rf"^ok +ratio +{re.escape(told)}$", capsys.readouterr().out, re.MULTILINE)


def test_the_module_is_where_one_looks_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_me.py").write_text("from rl.algorithm.losses import grpo as mine\n")
    monkeypatch.chdir(tmp_path)
    assert main(["beside_me:mine"]) == 0
