"""The decoder as a trained network: the very modules that paint, under the names of their checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from policy.base import load_decoder
from policy.decoder import Decoder
from policy.flow.network import FlowNetwork
from policy.flow.rows import FlowQuery, SharedHidden
from policy.lora.adapters import add_lora
from rl.config.sections.decoder import DecoderLora


@pytest.fixture
def decoder(tiny_policy: Path) -> Decoder:
    return load_decoder(tiny_policy, torch.float32, "cpu")


def query(decoder: Decoder, sequences: tuple[int, ...] = (0, 0, 1, 2)) -> FlowQuery:
    generator = torch.Generator().manual_seed(0)
    count, width = len(sequences), decoder.connector[0].in_features
    return FlowQuery(
        torch.randn(count, *decoder.latent_shape, generator=generator),
        torch.linspace(1000, 100, count),
        torch.tensor(sequences),
        SharedHidden(torch.randn(3, 17, width, generator=generator)),
    )


def answered(network: FlowNetwork, rows: FlowQuery) -> torch.Tensor:
    return network.outputs(network.module(*network.inputs(rows))).flow


def test_it_answers_what_painting_asks_for(decoder: Decoder) -> None:
    rows = query(decoder)
    found = answered(FlowNetwork(decoder.connector, decoder.transformer), rows)
    wanted = decoder.velocity(rows.states, rows.timestep_N, rows.hidden.values_BSD[rows.sequence_N])
    assert torch.equal(found, wanted)


def test_rows_take_the_hidden_states_that_they_point_at_and_no_others(decoder: Decoder) -> None:
    rows = query(decoder)
    part = rows.take([3, 0, 3])
    assert part.hidden.values_BSD.shape[0] == 2 and part.sequence_N.tolist() == [1, 0, 1]
    for row, source in enumerate((3, 0, 3)):
        kept, whole = part.hidden.values_BSD[part.sequence_N[row]], rows.hidden.values_BSD[rows.sequence_N[source]]
        assert torch.equal(kept, whole)


@pytest.mark.parametrize("train", ["transformer", "connector", "all"])
def test_what_is_trained(decoder: Decoder, train: Any) -> None:
    found = FlowNetwork(decoder.connector, decoder.transformer, train=train).trained()
    parts = {"transformer": [decoder.transformer], "connector": [decoder.connector]}
    wanted = [p for one in parts.get(train, [decoder.connector, decoder.transformer]) for p in one.parameters()]
    assert [id(one) for one in found] == [id(one) for one in wanted]
    names = dict(FlowNetwork(decoder.connector, decoder.transformer, train=train).weights().shapes)
    assert {name.partition(".")[0] for name in names} == {"connector", "transformer"}


def test_adapters_change_the_answer_and_leave_the_reference_alone(decoder: Decoder) -> None:
    rows = query(decoder)
    before = dict(FlowNetwork(decoder.connector, decoder.transformer).weights().tensors())
    wanted = answered(FlowNetwork(decoder.connector, decoder.transformer), rows)
    network = FlowNetwork(
        decoder.connector, decoder.transformer, lora=add_lora(decoder.transformer, DecoderLora(rank=2))
    )
    assert len(network.trained()) == 2 * 8 * len(decoder.transformer.transformer_blocks)
    with torch.no_grad():
        for parameter in network.trained():
            parameter.add_(0.1)
    assert not torch.allclose(answered(network, rows), wanted, atol=1e-3)
    assert torch.equal(network.outputs(network.reference()(*network.inputs(rows))).flow, wanted)
    merged = dict(network.weights().tensors())
    assert merged.keys() == before.keys()
    changed = {name for name, value in merged.items() if not torch.equal(value, before[name])}
    assert changed and all(".attn" in name and name.endswith(".weight") for name in changed)


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapters"])
def test_blocks_are_computed_twice_and_give_the_same_gradient(decoder: Decoder, adapted: bool) -> None:
    rows, gradients, computed = query(decoder), [], []
    lora = add_lora(decoder.transformer, DecoderLora(rank=2)) if adapted else None
    decoder.requires_grad_(False)
    blocks, seen = decoder.transformer.transformer_blocks, []
    for block in blocks:
        block.register_forward_pre_hook(lambda *_: seen.append(1))
    for recompute in (False, True):
        network = FlowNetwork(decoder.connector, decoder.transformer, recompute=recompute, lora=lora)
        parameters = [one.requires_grad_(True) for one in network.trained()]
        seen.clear()
        gradients.append(torch.autograd.grad(answered(network, rows).square().mean(), parameters))
        computed.append(len(seen))
    assert computed == [len(blocks), 2 * len(blocks)]
    assert any(one.abs().max() > 0 for one in gradients[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)
