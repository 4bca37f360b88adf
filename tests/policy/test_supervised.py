"""The whole policy behind one call: what learns, on which span, and where the flow's gradient goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.lora.adapters import add_lora
from policy.supervised.network import PictureQuery, SupervisedNetwork
from policy.trainable import LanguageModel
from rl.config.sections.lora import LoraSettings
from rl.types import Sequences, UserError


@pytest.fixture
def policy(tiny_policy: Path) -> Policy:
    return Policy.load(tiny_policy)


def network(
    policy: Policy, *, lora: bool = False, trained: tuple[str, ...] = ("ar", "connector"), **options: Any
) -> SupervisedNetwork:
    adapters = add_lora(policy.ar, LoraSettings(rank=2), without=("lm_head",)) if lora else None
    language = LanguageModel(policy.ar, policy.layout.image, lora=adapters)
    decoder = policy.decoder
    return SupervisedNetwork(language, decoder.connector, decoder.transformer, trained=trained, **options)


def rows(policy: Policy, keep: tuple[float, ...] = (1.0, 0.0)) -> PictureQuery:
    generator = torch.Generator().manual_seed(0)
    image, shape = policy.layout.image, (len(keep), *policy.decoder.latent_shape)
    return PictureQuery(
        prompt_ids=[policy.text_ids("a red circle"), policy.text_ids("two blue stars")],
        tokens_BT=torch.randint(image.start, image.stop, (len(keep), image.most), generator=generator),
        temperature=1.0,
        states=torch.randn(shape, generator=generator),
        timestep_B=torch.tensor([300.0, 700.0]),
        keep_B=torch.tensor(keep),
    )


def learnt(one: SupervisedNetwork) -> dict[str, Tensor]:
    one.module.requires_grad_(False)
    for parameter in one.trained():
        parameter.requires_grad_(True)
    return {name: value for name, value in one.module.named_parameters() if value.requires_grad}


def test_the_decoder_learns_on_the_span_that_it_paints_from(policy: Policy) -> None:
    """And a dropped condition is zeros before the connector, as painting with guidance asks."""
    query = rows(policy)
    answer = network(policy).outputs(network(policy).module(*network(policy).inputs(query)))
    hidden_BSD = image_forward(policy.ar, policy.layout.image, query.prompt_ids, query.tokens_BT).hidden_BSD
    assert hidden_BSD.shape[1] == policy.layout.image.most + 1  # <S0> and every token
    hidden_BSD[1] = 0.0
    painted = policy.decoder.velocity(query.states, query.timestep_B, hidden_BSD)
    assert answer.flow is not None
    torch.testing.assert_close(answer.flow, painted)


def test_plain_sequences_get_the_language_models_answer(policy: Policy) -> None:
    one, query = network(policy, vocabulary=policy.ar.config.vocab_size), rows(policy)
    plain = one.outputs(one.module(*one.inputs(Sequences(query.prompt_ids, query.tokens_BT, 1.0))))
    of_image = image_forward(policy.ar, policy.layout.image, query.prompt_ids, query.tokens_BT)
    assert plain.flow is None and plain.forward.logprobs_BT.equal(of_image.logprobs_BT)
    among_all = one.outputs(one.module(*one.inputs(query))).forward.logprobs_BT
    assert (among_all < plain.forward.logprobs_BT).all()  # words take their share of the probability


def test_words_are_predicted_from_what_stands_before_them(policy: Policy) -> None:
    query = rows(policy)
    found = network(policy, prompts=True).module(*network(policy).inputs(query))
    ids = query.prompt_ids[0]
    logits = policy.ar(input_ids=torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    expected = logits.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    of_prompts = network(policy, prompts=True).outputs(
        network(policy, prompts=True).module(*network(policy).inputs(query))
    )
    assert of_prompts.forward.prompt_logprobs_BL is not None and len(found) == 5
    torch.testing.assert_close(
        of_prompts.forward.prompt_logprobs_BL[0, : len(expected)], expected, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("detach", "reached"), [(False, True), (True, False)])
def test_the_flow_reaches_the_language_model_unless_it_is_kept_out(policy: Policy, detach: bool, reached: bool) -> None:
    one = network(policy, detach=detach)
    parameters = learnt(one)
    answer = one.outputs(one.module(*one.inputs(rows(policy, (1.0, 1.0)))))
    assert answer.flow is not None
    answer.flow.square().mean().backward()
    assert (parameters["ar.model.norm.weight"].grad is not None) == reached
    assert parameters["connector.0.weight"].grad is not None


def test_what_learns_is_named_by_the_beginnings_of_weights(policy: Policy) -> None:
    one = network(policy, trained=("connector", "transformer.caption_projection"), heads={"place": 16})
    names = set(learnt(one))
    assert {name.split(".")[0] for name in names} == {"connector", "transformer", "heads"}
    assert all("caption_projection" in name for name in names if name.startswith("transformer"))
    assert one.trained_parts == {"decoder"} and one.module.through_language is False  # type: ignore[comparison-overlap]
    with pytest.raises(UserError) as caught:
        network(policy, trained=("conector",))
    assert str(caught.value) == "supervised.trained: no weight begins with 'conector', did you mean 'connector'?"


def test_with_adapters_the_weights_themselves_stay(policy: Policy) -> None:
    one = network(policy, lora=True)
    names = set(learnt(one))
    assert any(".lora_A." in name for name in names)
    assert all(".lora_" in name for name in names if name.startswith("ar."))
    assert {name for name, _ in one.weights().shapes} == set(Policy.load(policy.folder).ar.state_dict())


def test_heads_read_every_image_token(policy: Policy) -> None:
    one = network(policy, heads={"code": 128, "place": 16})
    logits = one.outputs(one.module(*one.inputs(rows(policy)))).head_logits
    assert {name: tuple(value.shape) for name, value in logits.items()} == {"code": (2, 16, 128), "place": (2, 16, 16)}
