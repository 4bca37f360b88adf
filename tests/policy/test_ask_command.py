"""``python -m policy.ask``: a picture, a question, words; and one sentence where that can't be."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from policy.ar.forward import image_forward
from policy.ar.span import rows_of
from policy.ask.__main__ import ask, main
from policy.base import Policy
from policy.shapes.vocabulary import with_answers
from policy.words import END, Words
from rl.data.pictures import Picture
from rl.data.shapes.questions.prompts import question_prompts
from rl.types import Span, UserError, WrittenAnswer
from tests.policy.editing import editing_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("policy")
    with_answers(Policy.load(editing_policy(base / "edits"))).save(base / "answers")
    return base / "answers"


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    Image.fromarray(question_prompts("ask_count", ["rl"], 1)[0].pictures[0].pixels).save(tmp_path / "scene.png")
    return tmp_path / "scene.png"


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["policy.ask", *map(str, arguments)])
    return main()


def test_the_answer_is_the_likeliest_words(folder: Path) -> None:
    policy = Policy.load(folder)
    (prompt,) = question_prompts("ask_color", ["rl"], 1)
    answer = ask(policy, prompt.pictures[0], prompt.text, most=6)
    words = Words.of(policy.tokenizer, policy.layout, 6)
    written = list[int]()
    while len(written) < 6 and words.span.end not in written:  # the whole sequence anew for each word
        tokens = torch.tensor([[*written, 0]])
        with torch.no_grad():
            forward = image_forward(policy.ar, words.span, [policy.encode_prompt(prompt).ids], tokens)
        logits = forward.hidden_BSD[0, -2] @ rows_of(words.span, policy.ar.lm_head.weight).T
        places = [one for one in range(words.span.stop) if words.span.holds(one)]
        written.append(places[int(logits.argmax())])
    assert words.read([written]) == [answer]
    assert not any("<I" in word for word in answer.text.split())


def test_an_answer_is_read_up_to_its_end(folder: Path) -> None:
    policy = Policy.load(folder)
    words = Words.of(policy.tokenizer, policy.layout, 8)
    left, of, end = policy.tokenizer.convert_tokens_to_ids(["left", "of", END])
    assert words.span == Span(0, policy.layout.vocab_size, max_length=8, end=end, without=(81, 209))
    found = words.read([[left, of, end, end], [left, of, left, of], [end, left, left, left]])
    assert found == [WrittenAnswer("left of"), WrittenAnswer("left of left of", complete=False), WrittenAnswer("")]


def test_a_policy_without_an_end_is_told(tiny_policy: Path) -> None:
    policy = Policy.load(tiny_policy)
    with pytest.raises(UserError, match=r"this policy's tokenizer has no <\|im_end\|>, with which an answer"):
        Words.of(policy.tokenizer, policy.layout, 8)


def test_it_prints_the_answer(
    folder: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, scene, "how many pink circles?", "--policy", folder, "--tokens", 1) == 0
    printed = capsys.readouterr()
    assert "does not know the words pink" in printed.err
    answer = ask(Policy.load(folder), Picture(scene), "how many pink circles?", most=1)
    assert printed.out.strip() == answer.text
    assert ("the answer has no end within 1 tokens; raise --tokens" in printed.err) == (not answer.complete)


def test_a_policy_without_an_understanding_branch_is_not_asked_by_features(
    folder: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, scene, "how many?", "--policy", folder, "--reads", "features") == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.out == ""
    assert f"{folder}: this policy has no understanding branch (its image_tokenizer is of kind patch_vq" in printed.err


def test_a_policy_that_does_not_answer_is_told(
    tiny_policy: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(monkeypatch, scene, "how many?", "--policy", tiny_policy) == 2
    sentence = f"--policy {tiny_policy}: this policy does not answer questions, it makes pictures alone"
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none.png",), "there is no picture 'none.png'; name the one that you ask about"),
        (("text.png",), "the picture 'text.png' can't be read"),
        (("scene.png", "--tokens", 0), "--tokens is 0; an answer has at least one"),
        (("scene.png", "--policy", "nowhere"), "there is no policy folder at 'nowhere'"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: tuple[object, ...],
    sentence: str,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(scene.parent)
    Path("text.png").write_text("words")
    picture, *rest = arguments
    assert _run(monkeypatch, picture, "how many?", *rest) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err and "Traceback" not in printed.err and printed.out == ""
