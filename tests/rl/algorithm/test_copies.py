"""Old, evaluated and reference weights: the decays of the papers, float32, lent and given back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rl.algorithm.copies import Decay, WeightCopy, constant, nft_old, nft_old_late, warmed
from tests.rl.algorithm.flow.golden import GOLDEN

EMA = GOLDEN["ema"]


@pytest.mark.parametrize(
    ("rule", "key"),
    [(warmed(0.9), "flow_grpo"), (nft_old, "nft1"), (nft_old_late, "nft2")],
    ids=["flow_grpo", "nft1", "nft2"],
)
def test_decays_are_those_of_the_papers(rule: Decay, key: str) -> None:
    assert [rule(updates) for updates in EMA["n"]] == pytest.approx(EMA[key], abs=1e-9)


def network(value: float, dtype: torch.dtype = torch.float32) -> nn.Linear:
    layer = nn.Linear(2, 2, bias=False).to(dtype)
    with torch.no_grad():
        layer.weight.fill_(value)
    return layer


def test_a_copy_follows_by_hand_computed_steps() -> None:
    live = network(1.0)
    copy = WeightCopy(live.named_parameters(), lambda updates: 0.75 if updates else 0.0)
    with torch.no_grad():
        live.weight.fill_(2.0)
    assert copy.follow(1) == 0.75
    assert copy.state()["weight"].eq(1.25).all()
    copy.follow(1)
    assert copy.state()["weight"].eq(1.4375).all()
    copy.follow(0)  # decay 0: the live weights to the last bit
    assert torch.equal(copy.state()["weight"], live.weight)


def test_a_reference_never_moves() -> None:
    live = network(1.0)
    copy = WeightCopy(live.named_parameters(), constant(1.0))
    with torch.no_grad():
        live.weight.fill_(7.0)
    copy.follow(100)
    assert copy.state()["weight"].eq(1.0).all()


def test_small_steps_are_not_swallowed_where_the_weights_are_bfloat16() -> None:
    live = network(1.0, torch.bfloat16)
    copy = WeightCopy(live.named_parameters(), lambda _: 0.999)
    with torch.no_grad():
        live.weight.fill_(2.0)
    for _ in range(10):
        copy.follow(1)
    assert copy.state()["weight"].dtype == torch.float32
    assert copy.state()["weight"][0, 0].item() == pytest.approx(2 - 0.999**10, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_lends_its_weights_and_gives_the_networks_own_back(dtype: torch.dtype) -> None:
    live = network(1.0, dtype)
    copy = WeightCopy(live.named_parameters(), constant(1.0))
    with torch.no_grad():
        live.weight.fill_(3.0)
    address, given = live.weight.data_ptr(), torch.ones(1, 2, dtype=dtype)
    with copy.lent():
        assert live(given).tolist() == [[2.0, 2.0]] and not live(given).requires_grad
    assert live.weight.data_ptr() == address and live(given).tolist() == [[6.0, 6.0]]
    with pytest.raises(RuntimeError), copy.lent():
        raise RuntimeError
    assert live.weight.data_ptr() == address


def test_it_comes_back_from_a_checkpoint_bit_for_bit_and_refuses_another() -> None:
    live = network(1.0)
    copy, again = (WeightCopy(live.named_parameters(), nft_old) for _ in range(2))
    with torch.no_grad():
        live.weight.normal_()
    copy.follow(300)
    again.restore({name: value.clone() for name, value in copy.state().items()})
    assert torch.equal(again.state()["weight"], copy.state()["weight"])
    with pytest.raises(ValueError, match=r"of other weights: bias, weight"):
        copy.restore({"bias": torch.ones(2), "weight": torch.ones(3, 2)})
