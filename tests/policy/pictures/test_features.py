"""Questions about a picture that is read as features: what stands in the prompt, and what the language model makes of
it; and one sentence where that can't be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from policy.ar.decoding import Decoding
from policy.ar.forward import image_forward
from policy.ar.replayed import ReplayedDecoding
from policy.ask.__main__ import ask
from policy.base import Policy
from policy.json_file import read_json, write_json
from policy.pictures.inline import PLACEHOLDER
from policy.shapes.model import make_tokenizer
from policy.words import Words
from rl.data.shapes.questions.prompts import question_prompts
from rl.types import PictureFeatures, UserError
from tests.policy.reading import reading_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reading_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return Policy.load(folder)


def test_placeholders_stand_where_the_codes_would_and_their_features_beside_them(policy: Policy) -> None:
    (prompt,) = question_prompts("ask_shade", ["rl"], 1)
    read, written = policy.encode_prompt(prompt), policy.encoder_of({})(prompt)
    assert written.features is None and len(read.ids) == len(written.ids) == policy.prompt_length(prompt)
    pad, start = policy.tokenizer.convert_tokens_to_ids(PLACEHOLDER), policy.tokenizer.get_vocab()["<|vision_start|>"]
    at = read.ids.index(pad)
    assert read.ids[at - 1 : at + 16] == (start, *[pad] * 16) and read.ids.count(pad) == 16
    assert [one for one in read.ids if one != pad] == [
        one for one in written.ids if not policy.layout.image_start_id <= one < policy.layout.image_end_id
    ]
    assert read.features is not None and read.features.start == at
    pixels = prompt.pictures[0].pixels
    assert read.features.vectors_ND.equal(policy.understanding.features(pixels[None].copy())[0])
    rounded = replace(policy, features_dtype=torch.bfloat16).encode_prompt(prompt).features
    assert rounded is not None and rounded.vectors_ND.dtype == torch.bfloat16  # as the coarsest engine reads them


def test_the_language_model_sees_features_in_place_of_embeddings(policy: Policy) -> None:
    """As by transformers' own forward on embeddings; a group's prompt goes through once, another picture's apart."""
    prompts = question_prompts("ask_color", ["rl"], 2)
    first = policy.encode_prompt(prompts[0])
    other = policy.encode_prompt(replace(prompts[1], text=prompts[0].text))
    assert first.ids == other.ids and first.features != other.features
    tokens_BT = torch.tensor([[5, 6], [5, 6], [5, 7]])
    rows, words = (first, other, first), Words.of(policy.tokenizer, policy.layout, 2).span
    with torch.no_grad():
        found = image_forward(
            policy.ar, words, [row.ids for row in rows], tokens_BT, features=[row.features for row in rows]
        ).hidden_BSD
        for row, tokens_T, hidden_SD in zip(rows, tokens_BT, found, strict=True):
            embeds = policy.ar.model.embed_tokens(torch.tensor([*row.ids, *tokens_T.tolist()]))
            assert row.features is not None
            embeds[row.features.start : row.features.start + 16] = row.features.vectors_ND
            by_hand = policy.ar.model(inputs_embeds=embeds[None]).last_hidden_state[0, -3:]
            torch.testing.assert_close(hidden_SD, by_hand, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found[0, 0], found[1, 0]) and torch.allclose(found[0, :2], found[2, :2], atol=1e-6)


def test_decoding_reads_them_too(policy: Policy) -> None:
    row = policy.encode_prompt(question_prompts("ask_color", ["rl"], 1)[0])
    span, tokens = Words.of(policy.tokenizer, policy.layout, 2).span, torch.tensor([[5, 6]])
    owner = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        wanted = image_forward(policy.ar, span, [row.ids], tokens, features=[row.features]).hidden_BSD[0]
        plain = Decoding(policy.ar, [row.ids], owner, 2, features=[row.features])
        replayed = ReplayedDecoding(policy.ar, batch=1, slots=64)
        begun = replayed.begin([row.ids], owner, [row.features])
        for hidden_BD in (plain.first_hidden_BD, begun):
            torch.testing.assert_close(hidden_BD[0], wanted[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(plain.step(tokens[:, 0])[0], wanted[1], atol=1e-5, rtol=1e-4)


def test_asking_by_codes_or_by_features_is_a_choice(folder: Path) -> None:
    """Which the folder makes and a run may make otherwise."""
    (prompt,) = question_prompts("ask_count", ["rl"], 1)
    said = {}
    for reads in (None, "features", "codes"):
        policy = Policy.load(folder, reads=reads)
        with torch.no_grad():
            policy.ar.lm_head.weight.mul_(8)
        said[reads] = ask(policy, prompt.pictures[0], prompt.text, most=8)
        assert (policy.encode_prompt(prompt).features is None) == (reads == "codes")
    assert said[None] == said["features"]


def test_gradients_reach_the_adapter_through_the_prompt(policy: Policy) -> None:
    (prompt,) = question_prompts("ask_color", ["rl"], 1)
    row, tokens = policy.encode_prompt(prompt), torch.tensor([[5, 6]])
    assert row.features is not None
    vectors_ND = row.features.vectors_ND.clone().requires_grad_(True)
    features = PictureFeatures(row.features.start, row.features.digest, vectors_ND)
    span = Words.of(policy.tokenizer, policy.layout, 2).span
    image_forward(policy.ar, span, [row.ids], tokens, features=[features]).logprobs_BT.sum().backward()
    assert vectors_ND.grad is not None and bool((vectors_ND.grad.abs().sum(1) > 0).all())
    policy.ar.zero_grad()


def _changed(folder: Path, tmp_path: Path, file: str, **keys: object) -> Path:
    import shutil

    shutil.copytree(folder, tmp_path / "policy")
    path = tmp_path / "policy" / file
    write_json(path, {**read_json(path), **keys})
    return tmp_path / "policy"


def test_a_policy_without_the_branch(folder: Path) -> None:
    with pytest.raises(UserError) as told:
        Policy.load(folder.parent / "edits", reads="features")
    assert str(told.value) == (
        f"{folder.parent / 'edits'}: this policy has no understanding branch (its image_tokenizer is of kind patch_vq, "
        "not hybrid), so questions can't read a picture's features; let them read codes (policy.reads: codes), or "
        "choose a policy that has one."
    )
    with pytest.raises(UserError, match="no understanding branch"):
        Policy.load(folder.parent / "edits").picture_vectors(question_prompts("ask_color", ["rl"], 1)[0].pictures[0])


@pytest.mark.parametrize(
    ("file", "keys", "sentence"),
    [
        ("policy.json", {"reads": {"edit": "features"}}, r"policy.json: reads is \{'edit': 'features'\}; write \{"),
        ("policy.json", {"reads": "features"}, r"policy.json: reads is 'features'; write \{\"answer\": \"codes\"\} or"),
        (
            "image_tokenizer/config.json",
            {"reads": 64},
            r"reads of image_tokenizer is 64 but hidden_size of ar is 96; use parts of the same model",
        ),
        (
            "image_tokenizer/config.json",
            {"codes": 64},
            r"codes of image_tokenizer is 64 but num_image_tokens is 128; use parts of the same model",
        ),
    ],
)
def test_folders_that_do_not_fit(
    folder: Path, tmp_path: Path, file: str, keys: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        Policy.load(_changed(folder, tmp_path, file, **keys))


def test_a_tokenizer_without_a_placeholder(folder: Path) -> None:
    policy = Policy.load(folder)
    (prompt,) = question_prompts("ask_color", ["rl"], 1)
    short = replace(policy, tokenizer=make_tokenizer())
    with pytest.raises(UserError, match=r"has no <\|image_pad\|>, in whose places a picture's features stand"):
        short.encode_prompt(prompt)
