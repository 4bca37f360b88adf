"""Prompts with a picture inside: its own tokens, in the policy's template for edits; text alone stays as it was."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from policy.base import Policy
from policy.folder import read_task_templates
from policy.pictures.view import square_view
from policy.prompt_length import require_room_in_template
from policy.shapes.vocabulary import SPECIALS, extended_tokenizer, instruction_words, with_answers, with_editing
from rl.data.pictures import Picture
from rl.data.shapes.edits.contents import EDIT_TAGS, PROBE_TAGS
from rl.data.shapes.edits.prompts import edit_examples
from rl.data.shapes.prompts import prompts
from rl.data.shapes.questions.contents import QUESTION_TAGS
from rl.data.shapes.questions.prompts import questions
from rl.types import Prompt, UserError
from tests.policy.editing import editing_policy


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return Policy.load(editing_policy(tmp_path_factory.mktemp("policy") / "edits"))


def test_a_prompt_of_text_alone_has_the_ids_that_it_had(policy: Policy, tiny_policy: Path) -> None:
    before = Policy.load(tiny_policy)
    for prompt in prompts("heldout", 3):
        assert policy.encode_prompt(prompt) == before.encode_prompt(prompt)
        assert policy.prompt_length(prompt) == before.prompt_length(prompt) == len(before.text_ids(prompt.text))


def test_the_picture_stands_in_the_prompt_as_its_own_tokens(policy: Policy) -> None:
    picture = Picture(next(edit_examples("edit_move", ["rl"], 1)).before)
    prompt = Prompt("e", "move the circle up", pictures=(picture,))
    ids = policy.encode_prompt(prompt).ids
    words = [policy.tokenizer.convert_tokens_to_ids(word) for word in ("move", "the", "circle", "up")]
    marks = [policy.tokenizer.convert_tokens_to_ids(mark) for mark in SPECIALS[:2]]
    tokens = policy.image_tokenizer.encode(picture.pixels[None].copy())[0].tolist()
    layout = policy.layout
    assert ids == (*words, marks[0], *tokens, marks[1], layout.im_start_id, layout.scale_id)
    assert policy.prompt_length(prompt) == len(ids)
    # each answered token is as far from the one in whose place it comes as any other
    assert ids.index(tokens[0]) - len(ids) == -(layout.tokens_per_image + 3)


def test_tokens_of_a_picture_are_made_once(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    encode = policy.image_tokenizer.encode

    def counted(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
        asked.append(len(pictures))
        return encode(pictures)

    monkeypatch.setattr(policy.image_tokenizer, "encode", counted)
    own = replace(policy)
    picture = Picture(np.full((64, 64, 3), 7, np.uint8))
    both = [own.encode_prompt(Prompt("e", text, pictures=(picture,))).ids for text in ("make it red", "make it blue")]
    assert len(asked) == 1 and both[0][-20:] == both[1][-20:]
    assert own.prompt_length(Prompt("f", "make it red", pictures=(Picture(np.zeros((9, 9, 3), np.uint8)),)))
    assert len(asked) == 1


def test_any_picture_is_seen_as_the_square_in_its_middle() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 200
    view = square_view(wide, 64)
    assert view.shape == (64, 64, 3) and view.min() == 200
    same = np.zeros((64, 64, 3), np.uint8)
    assert square_view(same, 64) is same


def test_every_word_of_an_instruction_is_known_and_no_token_moves(policy: Policy, tiny_policy: Path) -> None:
    before, after = Policy.load(tiny_policy).tokenizer, policy.tokenizer
    assert {name: index for name, index in after.get_vocab().items() if index < len(before)} == before.get_vocab()
    for prompt in prompts("train", 40, (*EDIT_TAGS, *PROBE_TAGS)):
        assert policy.encode_prompt.unknown_words(prompt.text) == []
    assert policy.encode_prompt.unknown_words("paint the house") == ["paint", "house"]
    assert [after.convert_tokens_to_ids(mark) for mark in SPECIALS] == list(range(len(after) - 4, len(after)))
    assert "swap" in instruction_words() and after.convert_tokens_to_ids("yes") != after.unk_token_id
    assert extended_tokenizer(before).get_vocab() == after.get_vocab()


@pytest.mark.parametrize("tied", [False, True])
def test_new_rows_begin_at_the_mean_of_the_old(tied: bool, tmp_path: Path) -> None:
    policy = Policy.load(editing_policy(tmp_path / "p", tied=tied, extended=False))
    rows = {name: value.clone() for name, value in policy.ar.state_dict().items()}
    larger = with_editing(policy)
    larger.save(tmp_path / "q")
    again = Policy.load(tmp_path / "q")
    assert again.layout.vocab_size == len(again.tokenizer) == again.ar.config.vocab_size
    assert (again.ar.lm_head.weight is again.ar.model.embed_tokens.weight) == tied
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        old, new = rows[name], again.ar.state_dict()[name]
        assert (new[: len(old)] == old).all()
        assert np.allclose(new[len(old) :].numpy(), old.mean(0).numpy(), atol=1e-6)


def test_prompts_that_cannot_be_read_are_told(policy: Policy, tmp_path: Path) -> None:
    one, two = Picture(np.zeros((64, 64, 3), np.uint8)), Picture(np.ones((64, 64, 3), np.uint8))
    (tmp_path / "no.png").write_bytes(b"no picture")
    for prompt, words in (
        (
            Prompt("e", "make it red", pictures=(one, two), source="p.jsonl:2"),
            "prompt 'e' ('make it red', p.jsonl:2) holds 2 pictures, and this policy edits one; leave one in the "
            "prompt's line or choose a policy that reads several",
        ),
        (Prompt("e", "make it red", {"task": "edit"}, source="p.jsonl:2"), "and holds no picture; name the picture"),
        (
            Prompt("e", "make it red", pictures=(Picture(tmp_path / "no.png"),)),
            f"the picture '{tmp_path}/no.png' can't be read",
        ),
    ):
        with pytest.raises(UserError) as caught:
            policy.encode_prompt(prompt)
        assert words in str(caught.value)


def test_a_question_is_followed_by_words(policy: Policy) -> None:
    able, picture = with_answers(policy), Picture(next(edit_examples("edit_move", ["rl"], 1)).before)
    prompt = Prompt("q", "how many red circles?", {"task": "answer"}, (picture,))
    ids = able.encode_prompt(prompt).ids
    marks = [able.tokenizer.convert_tokens_to_ids(mark) for mark in SPECIALS[:2]]
    words = able.tokenizer.convert_tokens_to_ids(["how", "many", "red", "circles", "?", "answer", ":"])
    assert ids == (*words[:5], marks[0], *able.picture_tokens(picture), marks[1], *words[5:])
    assert able.prompt_length(prompt) == len(ids)
    edit = Prompt("e", "move the circle up", pictures=(picture,))
    assert able.encode_prompt(edit) == policy.encode_prompt(edit)


def test_every_word_of_a_question_and_its_answer_is_known(policy: Policy) -> None:
    for question in (one for tag in QUESTION_TAGS for one in questions(tag, ["rl"], 40)):
        words = " ".join(question.answer) if question.tag == "ask_read" else question.answer
        assert not policy.encode_prompt.unknown_words(f"{question.text} {words}"), question.text


def test_questions_to_a_policy_that_does_not_answer_are_told(policy: Policy, tiny_policy: Path) -> None:
    picture = Picture(np.zeros((64, 64, 3), np.uint8))
    prompt = Prompt("q", "how many circles?", {"task": "answer"}, (picture,), "q.jsonl:4")
    sentence = (
        "prompt 'q' ('how many circles?', q.jsonl:4) is a question, and this policy does not answer in words (its "
        "policy.json has no task_templates with answer); leave the questions out, or choose a policy that was trained "
        "to answer"
    )
    for ask in (
        lambda: policy.encode_prompt(prompt),
        lambda: Policy.load(tiny_policy).encode_prompt(prompt),
        lambda: require_room_in_template([prompt], str(policy.folder)),
        lambda: require_room_in_template([prompt], str(tiny_policy)),
    ):
        with pytest.raises(UserError) as caught:
            ask()
        assert str(caught.value) == sentence
    with pytest.raises(UserError, match="is a question about a picture .* and holds no picture"):
        with_answers(policy).encode_prompt(replace(prompt, pictures=()))
    with pytest.raises(UserError, match="holds 2 pictures, and this policy answers about one"):
        with_answers(policy).encode_prompt(replace(prompt, pictures=(picture, picture)))


def test_edits_too_long_are_found_before_a_policy_is_loaded(policy: Policy, tmp_path: Path) -> None:
    picture = Picture(np.zeros((64, 64, 3), np.uint8))
    room = 128 - 16 - 1
    for number, fits in ((room - 16 - 4, True), (room - 16 - 3, False)):
        prompt = Prompt("e", " ".join(["red"] * number), pictures=(picture,))
        assert (policy.prompt_length(prompt) <= room) == fits
        if fits:
            require_room_in_template([prompt], str(policy.folder))
        else:
            with pytest.raises(UserError, match=f"has {room + 1} tokens, and the policy .* has room for {room}"):
                require_room_in_template([prompt], str(policy.folder))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task_templates": {"edit": "{picture} {prompt}"}}, "task_templates.edit must hold {prompt} and, behind it,"),
        ({"task_templates": {"edit": "{prompt}"}}, "task_templates.edit must hold {prompt} and, behind it, {picture}"),
        (
            {"task_templates": {"edit": "{prompt} {picture}", "answer": "{picture}"}},
            "task_templates.answer must hold {prompt} and {picture}; say where they go",
        ),
        ({"task_templates": {"sing": "{prompt}"}}, "it may hold templates for edit and answer"),
        ({"task_templates": {}}, "prompt_encoder inline needs task_templates with a template for edit; add it"),
        ({"prompt_encoder": "template"}, "task_templates are for prompts with pictures; write prompt_encoder: inline"),
    ],
)
def test_templates_that_do_not_fit_are_told(
    policy: Policy, change: dict[str, object], words: str, tmp_path: Path
) -> None:
    shutil.copyfile(policy.folder / "policy.json", tmp_path / "policy.json")
    content = json.loads((tmp_path / "policy.json").read_text()) | change
    (tmp_path / "policy.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        read_task_templates(tmp_path)
    assert words in str(caught.value) and str(tmp_path / "policy.json") in str(caught.value)


def test_a_picture_on_disk_and_the_same_pixels_are_one_prompt(policy: Policy, tmp_path: Path) -> None:
    pixels = next(edit_examples("edit_add", ["rl"], 1)).before
    Image.fromarray(pixels).save(tmp_path / "scene.png")
    ids = [
        policy.encode_prompt(Prompt("e", "add a red circle", pictures=(Picture(source),))).ids
        for source in (pixels, tmp_path / "scene.png")
    ]
    assert ids[0] == ids[1]
