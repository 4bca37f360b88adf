"""The judge of edits sees both pictures: the one that was to be changed, then the answer."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rewards.golden import prove
from rewards.library.vlm_judge.reward import VlmJudge
from rl.data.pictures import Picture
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.library.vlm_judge.vlm_server import MODEL, Answer, FakeEndpoint, chat


def _even(level: int) -> np.ndarray:
    return np.full((8, 12, 3), level, np.uint8)


def _seen(body: dict[str, Any]) -> list[int]:
    """The levels of the pictures in a request, in order."""
    parts = [part["image_url"]["url"] for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    found = [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in parts]
    return [int(one.mean()) for one in found]


def _changed(number: int, body: dict[str, Any]) -> Answer:
    """A judge that says yes to what differs."""
    before, after = _seen(body)
    p = 0.9 if before != after else 0.1
    return chat("Yes", [{"Yes": p, "No": 1 - p}])


def _sample(level: int, *before: int) -> Sample:
    pictures = tuple(Picture(_even(one)) for one in before)
    return Sample(f"s{level}", "g", Prompt("p", "make it bright", {"requirement": "brighter"}, pictures), _even(level))


def test_it_asks_about_the_first_picture_and_the_second() -> None:
    with FakeEndpoint(_changed) as server:
        judge = VlmJudge(server.url, MODEL, source=True)
        scores = judge([_sample(200, 40), _sample(40, 40)])
        asked = server.asked
    assert [one.value for one in scores] == pytest.approx([0.9, 0.1])
    assert sorted(map(_seen, asked)) == [[40, 40], [40, 200]]
    assert asked[0]["messages"][0]["content"][2]["text"].startswith(
        "The first picture was to be changed as follows: make"
    )


def test_words_of_your_own_and_a_requirement() -> None:
    with FakeEndpoint(_changed) as server:
        judge = VlmJudge(server.url, MODEL, source=True, question="{prompt}: {requirement}? Answer yes or no.")
        judge([_sample(200, 40)])
        (body,) = server.asked
    assert body["messages"][0]["content"][2]["text"] == "make it bright: brighter? Answer yes or no."


def test_without_a_picture_to_be_changed_it_is_not_applicable_and_a_broken_one_fails(tmp_path: Path) -> None:
    (tmp_path / "no.png").write_text("none")
    broken = Prompt("p", "make it bright", pictures=(Picture(tmp_path / "no.png"),))
    with FakeEndpoint(_changed) as server:
        scores = VlmJudge(server.url, MODEL, source=True)([_sample(200), Sample("s", "g", broken, _even(3))])
        assert not server.asked
    assert scores[0] == Score(None)
    assert str(scores[1].failure).startswith(f"prompt 'p': the picture '{tmp_path}/no.png' can't be read")


def test_the_cache_knows_the_source(tmp_path: Path) -> None:
    with FakeEndpoint(_changed) as server:
        judge = VlmJudge(server.url, MODEL, source=True, cache=str(tmp_path / "cache"))
        first, second, again = (judge([one])[0] for one in (_sample(200, 40), _sample(200, 200), _sample(200, 40)))
    assert [first.value, second.value] == pytest.approx([0.9, 0.1])
    assert (again.value, again.details["cached"]) == (first.value, True)


def test_its_reference_pictures_find_a_judge_that_does_not_look() -> None:
    with FakeEndpoint(_changed) as server:
        assert prove(VlmJudge(server.url, MODEL, source=True))
    with FakeEndpoint(lambda number, body: chat("Yes", [{"Yes": 0.9, "No": 0.1}])) as server:
        judge = VlmJudge(server.url, MODEL, source=True)
        with pytest.raises(UserError, match="on its reference picture 'nothing' it scores 0.9"):
            prove(judge)
    with pytest.raises(UserError, match="source is 1: it must be true or false"):
        VlmJudge("http://localhost:1/v1", MODEL, source=1)  # type: ignore[arg-type]
