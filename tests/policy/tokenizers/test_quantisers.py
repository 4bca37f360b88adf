"""Each quantiser against numbers worked out by hand, and the gradients that go straight through."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from policy.tokenizers.quantisers import Fsq, NearestCode, Quantiser, SimVq


def test_fsq_rounds_each_number_and_spells_the_code() -> None:
    fsq = Fsq((3, 5))
    assert (fsq.size, fsq.width) == (15, 2)
    # 3 levels: tanh(x) * 1.001 -> -1, 0, 1; 5 levels: tanh(x) * 2.002 -> -2..2
    given = torch.tensor([[0.0, 0.0], [-9.0, -9.0], [9.0, 9.0], [0.4, 0.6], [0.6, 1.2]])
    # by hand: (1, 2) -> 1 + 2 * 3; (0, 0); (2, 4) -> 2 + 4 * 3; .38 -> 0, 1.07 -> 1; .54 -> 1, 1.67 -> 2
    assert fsq(given).codes.tolist() == [7, 0, 14, 1 + 3 * 3, 2 + 4 * 3]
    assert fsq(given).vectors.tolist() == [[0, 0], [-1, -1], [1, 1], [0, 0.5], [1, 1]]


def test_fsq_of_an_even_number_of_levels_uses_them_all() -> None:
    fsq = Fsq((4,))
    reach, even = 1.5015, 0.5
    for x in (-3.0, -0.4, 0.0, 0.3, 3.0):
        by_hand = round(math.tanh(x + math.atanh(even / reach)) * reach - even)
        assert fsq(torch.tensor([x])).codes.item() == by_hand + 2
    assert fsq(torch.tensor([0.0])).vectors.item() == 0.0  # 0 stays 0
    assert set(fsq(torch.linspace(-5, 5, 200)[:, None]).codes.tolist()) == {0, 1, 2, 3}


def test_every_code_of_fsq_can_be_reached() -> None:
    grid = torch.tensor(list(itertools.product([-4.0, -0.8, 0.0, 0.8, 4.0], repeat=3)))
    assert sorted(set(Fsq((3, 2, 5))(grid).codes.tolist())) == list(range(30))


def test_the_nearest_code_and_its_loss() -> None:
    vq = NearestCode(3, 2, pull=0.25)
    vq.table.weight.data = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    found = vq(torch.tensor([[1.0, 0.0], [3.0, 2.0]]))
    assert found.codes.tolist() == [0, 1]  # distances 1, 3, 4.1 and 3.6, 2.2, 3.6
    assert found.vectors.tolist() == [[0.0, 0.0], [4.0, 0.0]]
    # squares: 1, 0, 1, 4 -> mean 1.5, once for the codes and a quarter of it for the vectors
    assert found.loss.item() == pytest.approx(1.5 * 1.25)


def test_simvq_is_the_largest_cosine_with_the_mapped_table() -> None:
    quantiser = SimVq(2, 2)
    quantiser.table.weight.data = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    quantiser.map.weight.data, quantiser.map.bias.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.zeros(2)
    found = quantiser(torch.tensor([[0.0, 5.0], [3.0, 1.0]]))  # the map swaps the axes: codes are (0, 1) and (1, 0)
    assert found.codes.tolist() == [0, 1]
    assert found.vectors.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    apart = (torch.tensor([3.0, 1.0]) / math.sqrt(10) - torch.tensor([1.0, 0.0])).square().sum().item() / 4
    assert found.loss.item() == pytest.approx(1.25 * apart, rel=1e-5)
    assert not quantiser.table.weight.requires_grad  # only its map learns


@pytest.mark.parametrize("quantiser", [NearestCode(8, 3), SimVq(8, 3), Fsq((5, 5, 5))])
def test_gradients_go_straight_through(quantiser: Quantiser) -> None:
    torch.manual_seed(0)
    given = (torch.randn(6, 3) * 0.5).requires_grad_()
    found = quantiser(given)
    weights = torch.randn(6, 3)
    (found.vectors * weights).sum().backward()
    assert given.grad is not None
    if isinstance(quantiser, Fsq):  # the slope of the bound, over half of the levels
        expected = weights * (1 - given.detach().tanh() ** 2) * 2.002 / 2
    elif isinstance(quantiser, SimVq):  # through the length 1
        unit = torch.nn.functional.normalize(given.detach(), dim=-1)
        along = (weights * unit).sum(-1, keepdim=True)
        expected = (weights - along * unit) / given.detach().norm(dim=-1, keepdim=True)
    else:
        expected = weights
    assert torch.allclose(given.grad, expected, atol=1e-5)


@pytest.mark.parametrize("quantiser", [NearestCode(8, 3), SimVq(8, 3)])
def test_the_loss_draws_codes_and_vectors_together(quantiser: NearestCode | SimVq) -> None:
    torch.manual_seed(0)
    given = torch.randn(32, 3).requires_grad_()
    learnt = [one for one in quantiser.parameters() if one.requires_grad]
    optimizer = torch.optim.SGD([given, *learnt], lr=1.0)
    first = quantiser(given).loss.item()
    for _ in range(20):
        optimizer.zero_grad()
        quantiser(given).loss.backward()
        optimizer.step()
    assert quantiser(given).loss.item() < 0.7 * first
