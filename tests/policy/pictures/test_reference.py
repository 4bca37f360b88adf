"""What a decoder that learns makes of rows with references and without: what it paints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from policy.base import Policy
from policy.conditions import ATTENDED, BESIDE_NOISE, CHANNELS
from policy.decoder import Decoder
from policy.export import export
from policy.flow.network import FlowNetwork
from policy.flow.rows import FlowQuery, SharedHidden, SharedReferences
from policy.pictures.reference import ReferenceLatents
from policy.references.untrained import with_references
from policy.supervised.network import PictureQuery, SupervisedNetwork
from policy.trainable import LanguageModel
from rl.data.pictures import Picture
from rl.types import UserError

WAYS = [(ATTENDED,), (CHANNELS,), (BESIDE_NOISE,), (ATTENDED, BESIDE_NOISE), (ATTENDED, CHANNELS)]


def seeing(folder: Path, ways: tuple[str, ...]) -> Policy:
    """One for which a reference makes a difference."""
    policy = with_references(Policy.load(folder), ways)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        reference = policy.decoder.reference
        if reference is not None and reference.connector is not None:
            reference.connector[3].weight.data.fill_(2.0)
        policy.decoder.transformer.patch_embed.proj.weight.data.normal_(std=0.2)
    return policy


def latents(decoder: Decoder, rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, *decoder.latent_shape, generator=torch.Generator().manual_seed(seed))


def rows_of(decoder: Decoder) -> FlowQuery:
    """Of three token sequences, the second of which changes nothing."""
    width = decoder.connector[0].in_features
    return FlowQuery(
        latents(decoder, 5),
        torch.linspace(1000, 100, 5),
        torch.tensor([0, 0, 1, 1, 2]),
        SharedHidden(torch.randn(3, 17, width, generator=torch.Generator().manual_seed(1))),
        SharedReferences(
            latents(decoder, 3, 2) * torch.tensor([1.0, 0, 1])[:, None, None, None], torch.tensor([1, 0, 1]) > 0
        ),
    )


def painted(decoder: Decoder, rows: FlowQuery) -> Tensor:
    """Row by row, as painting asks."""
    found = []
    assert rows.references is not None
    for row, sequence in enumerate(rows.sequence_N.tolist()):
        seen = rows.references.values_BChw[sequence, None] if rows.references.has_B[sequence] else None
        hidden, at = rows.hidden.values_BSD[sequence, None], slice(row, row + 1)
        found.append(decoder.velocity(rows.states[at], rows.timestep_N[at], hidden, seen))
    return torch.cat(found)


def answered(network: FlowNetwork, rows: FlowQuery) -> Tensor:
    return network.outputs(network.module(*network.inputs(rows))).flow


@pytest.mark.parametrize("ways", WAYS, ids="+".join)
def test_a_decoder_that_learns_answers_what_it_paints(tiny_policy: Path, ways: tuple[str, ...]) -> None:
    decoder = seeing(tiny_policy, ways).decoder
    rows = rows_of(decoder)
    network = FlowNetwork(decoder.connector, decoder.transformer, decoder.reference)
    found = answered(network, rows)
    torch.testing.assert_close(found, painted(decoder, rows), atol=2e-5, rtol=1e-4)
    part = rows.take([4, 2])  # with the references that these rows point at
    torch.testing.assert_close(answered(network, part), found[[4, 2]], atol=2e-5, rtol=1e-4)
    with torch.no_grad():
        assert rows.references is not None
        other = SharedReferences(rows.references.values_BChw.roll(1, 0), rows.references.has_B)
    changed = answered(network, FlowQuery(rows.states, rows.timestep_N, rows.sequence_N, rows.hidden, other))
    assert (changed - found)[[0, 1, 4]].abs().amax((1, 2, 3)).min() > 1e-3  # it sees them


@pytest.mark.parametrize("ways", WAYS, ids="+".join)
def test_rows_to_learn_from_drop_the_reference_as_guidance_does(tiny_policy: Path, ways: tuple[str, ...]) -> None:
    policy = seeing(tiny_policy, ways)
    decoder, image = policy.decoder, policy.layout.image
    network = SupervisedNetwork(
        LanguageModel(policy.ar, image), decoder.connector, decoder.transformer, decoder.reference, trained=("ar",)
    )
    generator = torch.Generator().manual_seed(0)
    query = PictureQuery(
        prompt_ids=[policy.text_ids("a red circle")] * 3,
        tokens_BT=torch.randint(image.start, image.stop, (3, image.most), generator=generator),
        temperature=1.0,
        states=latents(decoder, 3),
        timestep_B=torch.tensor([300.0, 700.0, 500.0]),
        keep_B=torch.tensor([1.0, 1.0, 0.0]),
        references_BChw=latents(decoder, 3, 2) * torch.tensor([1.0, 0, 1])[:, None, None, None],
        has_reference_B=torch.tensor([True, False, True]),
        keep_reference_B=torch.tensor([1.0, 1.0, 0.0]),
    )
    answer = network.outputs(network.module(*network.inputs(query)))
    assert answer.flow is not None and query.references_BChw is not None
    hidden = answer.forward.hidden_BSD
    wanted = [
        decoder.velocity(query.states[:1], query.timestep_B[:1], hidden[:1], query.references_BChw[:1]),
        decoder.velocity(query.states[1:2], query.timestep_B[1:2], hidden[1:2]),
        decoder.velocity(
            query.states[2:], query.timestep_B[2:], hidden[2:] * 0, query.references_BChw[2:], unconditional=True
        ),
    ]
    torch.testing.assert_close(answer.flow, torch.cat(wanted), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("ways", [(CHANNELS,), (ATTENDED,)], ids="+".join)
def test_new_eyes_change_no_picture_before_they_have_learnt(tiny_policy: Path, ways: tuple[str, ...]) -> None:
    """As channels; where a reference is attended to, its vectors are the zeros that guidance has."""
    policy = Policy.load(tiny_policy)
    seen = with_references(policy, ways).decoder
    hidden, noisy = torch.randn(2, 17, policy.ar.config.hidden_size), latents(seen, 2)
    step, reference = torch.tensor([500.0, 100.0]), latents(seen, 2, 5)
    before = policy.decoder.velocity(noisy, step, hidden)
    torch.testing.assert_close(seen.velocity(noisy, step, hidden), before, atol=1e-6, rtol=1e-5)
    after = seen.velocity(noisy, step, hidden, reference)
    if ways == (CHANNELS,):
        torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5)
    else:
        torch.testing.assert_close(after, seen.velocity(noisy, step, hidden, reference, unconditional=True))
    network = FlowNetwork(seen.connector, seen.transformer, seen.reference, train="all")
    learning = {id(one) for one in network.trained()}
    new = (
        seen.transformer.patch_embed.proj.weight
        if seen.reference.connector is None
        else seen.reference.connector[3].weight
    )  # type: ignore[union-attr]
    assert id(new) in learning
    for parameter in network.trained():
        parameter.requires_grad_(True)
    answered(network, rows_of(seen)).square().mean().backward()
    assert new.grad is not None and new.grad.abs().max() > 0


@pytest.mark.parametrize("ways", [(CHANNELS,), (ATTENDED,), (ATTENDED, CHANNELS)], ids="+".join)
def test_what_it_has_learnt_is_saved_and_exported(tmp_path: Path, tiny_policy: Path, ways: tuple[str, ...]) -> None:
    policy = with_references(Policy.load(tiny_policy), ways)
    policy.save(tmp_path / "start")
    decoder = Policy.load(tmp_path / "start").decoder
    assert decoder.reference is not None and decoder.reference.ways == ways
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.01)
    network = FlowNetwork(decoder.connector, decoder.transformer, decoder.reference)
    out = export(tmp_path / "start", {"decoder": network.weights()}, tmp_path / "out")
    again = Policy.load(out).decoder
    hidden, noisy, reference = (
        torch.randn(1, 17, decoder.connector[0].in_features),
        latents(decoder, 1),
        latents(decoder, 1, 5),
    )
    asked = (noisy, torch.tensor([500.0]), hidden, reference)
    assert torch.equal(again.velocity(*asked), decoder.velocity(*asked))


def test_a_decoder_with_eyes_gets_no_others(tiny_policy: Path) -> None:
    policy = with_references(Policy.load(tiny_policy))
    with pytest.raises(ValueError, match="sees references already: channels"):
        with_references(policy, (ATTENDED,))
    with pytest.raises(ValueError, match="beside its noise or as channels of it"):
        ReferenceLatents(None, beside_noise=True, channels=True)


def test_a_policy_folder_names_its_ways(tmp_path: Path, tiny_policy: Path) -> None:
    with_references(Policy.load(tiny_policy)).save(tmp_path)
    text = (tmp_path / "policy.json").read_text()
    (tmp_path / "policy.json").write_text(text.replace('"channels"', '"channels", "beside_noise"'))
    with pytest.raises(UserError, match=r"reference has beside_noise and channels, which are two places .* keep one\."):
        Policy.load(tmp_path)
    (tmp_path / "policy.json").write_text(text.replace('"channels"', '"attended"'))
    with pytest.raises(UserError, match="lacks reference_connector/config.json"):
        Policy.load(tmp_path)
    del_reference = text[: text.index('"reference"')].rstrip().rstrip(",") + "}"
    (tmp_path / "policy.json").write_text(del_reference)
    with pytest.raises(UserError, match="in_channels of transformer is 64 but latent_channels of vae is 32"):
        Policy.load(tmp_path)


def test_painting_shows_each_row_its_own_reference(tiny_policy: Path) -> None:
    decoder = seeing(tiny_policy, (CHANNELS,)).decoder
    pictures = [Picture(np.full((64, 64, 3), grey, np.uint8)) for grey in (20, 220)]
    hidden = torch.randn(1, 17, decoder.connector[0].in_features, generator=torch.Generator().manual_seed(0)).expand(
        4, -1, -1
    )
    found = decoder.paint(hidden, [7] * 4, steps=2, references=[pictures[0], None, pictures[1], pictures[0]])
    assert np.array_equal(found[0], found[3])
    assert all(np.abs(found[0].astype(int) - found[row]).mean() > 0.5 for row in (1, 2))
