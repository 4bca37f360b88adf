"""The understanding branch while it learns: its features are made in the forward, and it redraws what it has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from policy import export as export_module
from policy.base import Policy
from policy.export import export
from policy.supervised.network import PictureQuery, SupervisedNetwork
from policy.tokenizers.hybrid import HybridTokenizer
from policy.trainable import LanguageModel
from rl.data.shapes.questions.prompts import question_prompts
from rl.types import PictureFeatures, UserError
from tests.policy.reading import reading_policy
from tests.policy.tokenizers import tiny_ta_tok as tiny
from tests.policy.tokenizers.test_hybrid import OF_TA_TOK

WHOLE = ("understanding",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reading_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def policy(folder: Path) -> Policy:
    return Policy.load(folder)


def network(policy: Policy, trained: tuple[str, ...], **options: bool) -> SupervisedNetwork:
    language, decoder = LanguageModel(policy.ar, policy.layout.image), policy.decoder
    branch = policy.understanding.encoder
    one = SupervisedNetwork(
        language, decoder.connector, decoder.transformer, trained=trained, flow=False, understanding=branch, **options
    )
    one.module.requires_grad_(False)
    for parameter in one.trained():
        parameter.requires_grad_(True)
    return one


def rows(policy: Policy, reads: tuple[bool, bool]) -> PictureQuery:
    """Two questions; those that read by features hold vectors that are yet to be made."""
    prompts = question_prompts("ask_shade", ["rl"], 2)
    nothing = torch.zeros(16, 0)
    encoders = policy.encoder_of({}), policy.encoder_of({"answer": lambda picture: nothing})
    read = [encoders[one](prompt) for one, prompt in zip(reads, prompts, strict=True)]
    pictures = np.stack([prompt.pictures[0].pixels for prompt in prompts])
    return PictureQuery(
        prompt_ids=[one.ids for one in read],
        tokens_BT=torch.full((2, 16), policy.layout.image_start_id),
        temperature=1.0,
        features=tuple(one.features for one in read) if any(reads) else None,
        states=torch.zeros(2, *policy.decoder.latent_shape),
        timestep_B=torch.zeros(2),
        keep_B=torch.ones(2),
        pixels_B3HW=policy.understanding.pixels(pictures),
    )


def test_the_forward_makes_the_features_that_the_policy_would_give(policy: Policy) -> None:
    one, query = network(policy, WHOLE), rows(policy, (True, False))
    found = one.outputs(one.module(*one.inputs(query))).forward.logprobs_BT
    given = policy.encode_prompt(question_prompts("ask_shade", ["rl"], 1)[0])
    codes = query.take([1])
    assert given.features is not None and codes.features == (None,)
    ready = replace(query, pixels_B3HW=None, features=(given.features, None))
    torch.testing.assert_close(found, one.outputs(one.module(*one.inputs(ready))).forward.logprobs_BT)
    found.sum().backward()
    learns = {name: value.grad for name, value in one.module.understanding.named_parameters()}  # type: ignore[union-attr]
    assert all(learns[name] is not None for name in learns if name.startswith(("encoder", "continuous")))
    assert float(learns["continuous.2.weight"].abs().sum()) > 0 and learns["discrete.0.weight"] is None


def test_rows_of_codes_alone_have_gradients_of_zero(policy: Policy) -> None:
    """Other ranks wait for them."""
    one, query = network(policy, ("understanding.continuous",)), rows(policy, (False, False))
    before = one.outputs(one.module(*one.inputs(replace(query, pixels_B3HW=None)))).forward.logprobs_BT
    found = one.outputs(one.module(*one.inputs(query))).forward.logprobs_BT
    assert found.equal(before)
    found.sum().backward()
    for parameter in one.trained():
        assert parameter.grad is not None and not parameter.grad.any()


def test_a_token_redraws_its_own_square(policy: Policy) -> None:
    branch = policy.understanding.encoder
    pixels = torch.arange(64 * 64.0).view(1, 1, 64, 64).expand(1, 3, 64, 64)
    tokens = branch.pixels_of_tokens(pixels)
    assert tokens.shape == (1, 16, 768)
    square = tokens[0, 6].view(3, 16, 16)  # second row, third column
    assert square[0, 0, 0] == 16 * 64 + 32 and square[2, 15, 15] == 31 * 64 + 47


def test_what_both_views_know_is_told_by_redrawing(policy: Policy) -> None:
    one, query = network(policy, WHOLE, redraw=True), rows(policy, (True, False))
    known = one.outputs(one.module(*one.inputs(query))).redrawn
    assert known is not None
    seen = policy.understanding.encoder(query.pixels_B3HW)
    target = policy.understanding.encoder.pixels_of_tokens(query.pixels_B3HW)  # type: ignore[arg-type]
    drawn = one.module.redraw["features"](seen.read_BTD)  # type: ignore[index]
    torch.testing.assert_close(known.from_features_B, (drawn - target).abs().mean((1, 2)))
    torch.testing.assert_close(known.quantiser_B, seen.written.loss.expand(2))
    sum(value.sum() for value in known).backward()  # type: ignore[union-attr]
    assert all(parameter.grad is not None for parameter in one.trained())
    names = {name for name, value in one.module.named_parameters() if value.requires_grad}
    assert {name.partition(".")[0] for name in names} == {"understanding", "redraw"}
    unseen = replace(query, pixels_B3HW=None, features=None)
    assert one.outputs(one.module(*one.inputs(unseen))).redrawn is None


def test_it_is_exported_as_the_image_tokenizer(policy: Policy, folder: Path, tmp_path: Path) -> None:
    one = network(policy, ("understanding.continuous",))
    with torch.no_grad():
        policy.understanding.encoder.continuous[2].bias.add_(1.0)
    export(folder, one.streams(), tmp_path / "out")
    pixels = question_prompts("ask_shade", ["rl"], 1)[0].pictures[0].pixels[None].copy()
    before, after = Policy.load(folder), Policy.load(tmp_path / "out")
    torch.testing.assert_close(after.understanding.features(pixels), before.understanding.features(pixels) + 1.0)
    assert (after.image_tokenizer.encode(pixels) == before.image_tokenizer.encode(pixels)).all()
    assert one.trained_parts == {"understanding"} and one.streams().keys() == {"understanding"}


def test_a_name_that_no_weight_begins_with(policy: Policy) -> None:
    with pytest.raises(UserError, match=r"no weight begins with 'understanding.continous', did you mean"):
        network(policy, ("understanding.continous",))


def test_rows_are_the_same_prompt_only_with_the_same_picture() -> None:
    one = PictureFeatures(1, "a", torch.zeros(2, 3))
    assert one == PictureFeatures(1, "a", torch.ones(2, 3)) and one != PictureFeatures(1, "b", torch.zeros(2, 3))
    assert len({one, PictureFeatures(1, "a", torch.ones(2, 3)), PictureFeatures(2, "a", torch.ones(2, 3))}) == 2


def test_what_rests_is_exported_as_it_was_however_it_was_rounded_in_between(
    policy: Policy, folder: Path, tmp_path: Path
) -> None:
    one = network(policy, ("understanding.continuous",))
    one.module.to(torch.bfloat16)
    export(folder, one.streams(), tmp_path / "out")
    old, new = (load_file(where / "image_tokenizer" / "model.safetensors") for where in (folder, tmp_path / "out"))
    assert old.keys() == new.keys() and all(new[name].dtype == old[name].dtype for name in old)
    same = {name for name in old if old[name].equal(new[name])}
    assert {name for name in old if not name.startswith("continuous.")} <= same
    assert "continuous.0.weight" not in same


def test_a_ta_tok_is_exported_with_the_adapter_that_it_did_not_have(tmp_path: Path) -> None:
    part = tmp_path / "image_tokenizer"
    part.mkdir()
    tiny.write(part, tiny.tensors())
    new = {"continuous.0.weight": torch.ones(40, 8), "quantiser.map.bias": torch.zeros(24)}
    found = export_module._of_tokenizer(part, iter(new.items()))
    wanted = HybridTokenizer.load(part / "model.safetensors", OF_TA_TOK, tiny.layout()).encoder.state_dict()
    assert found.keys() >= {name for name in wanted if not name.startswith("continuous.")} | new.keys()
    assert not any(name.startswith("vision_tower.") for name in found)
    assert found["encoder.embeddings.patch_embedding.weight"].equal(wanted["encoder.embeddings.patch_embedding.weight"])
    assert not found["quantiser.map.bias"].any()
