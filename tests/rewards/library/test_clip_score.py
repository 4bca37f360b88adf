from __future__ import annotations

from pathlib import Path

import pytest

from rewards.library.clip_score import ClipScore
from rewards.library.models.clip import load_clip
from rewards.library.models.weights import runtime
from rl.registry import BUILT_IN
from rl.types import UserError
from tests.rewards.library.tiny_models import PROMPTS, hf_clip, pictures, samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(hf_clip(tmp_path_factory.mktemp("clip")))


def test_two_and_a_half_times_the_cosine_to_the_prefixed_prompt(folder: str) -> None:
    scores = ClipScore(folder, device="cpu")(samples())
    clip = load_clip(folder, runtime("clip_score.options", "cpu", "float32", 3))
    cosines = clip.cosines(pictures(), [f"A photo depicts {prompt}" for prompt in PROMPTS])
    assert [score.details["cosine"] for score in scores] == pytest.approx(cosines, abs=1e-6)
    assert [score.value for score in scores] == pytest.approx([2.5 * max(c, 0) for c in cosines], abs=1e-5)
    assert all(score.passed is None for score in scores)


def test_without_a_prefix_the_prompt_itself(folder: str) -> None:
    scores = ClipScore(folder, prefix="", device="cpu")(samples())
    cosines = load_clip(folder, runtime("clip_score.options", "cpu", "float32", 3)).cosines(pictures(), PROMPTS)
    assert [score.details["cosine"] for score in scores] == pytest.approx(cosines, abs=1e-6)


def test_negative_cosines_score_zero(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reward = ClipScore(folder, device="cpu")
    monkeypatch.setattr(reward.clip, "cosines", lambda pictures, texts: [-0.2, 0.3, 0.0])
    scores = reward(samples())
    assert [score.value for score in scores] == pytest.approx([0.0, 0.75, 0.0])
    assert [score.details["cosine"] for score in scores] == [-0.2, 0.3, 0.0]


def test_alone_or_in_a_batch_the_same(folder: str) -> None:
    reward = ClipScore(folder, device="cpu", batch_size=2)
    together = [score.value for score in reward(samples(5))]
    assert [reward([sample])[0].value for sample in samples(5)] == pytest.approx(together, abs=1e-5)
    assert reward([]) == []


def test_nothing_downloaded_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as caught:
        ClipScore("openai/never-there")
    assert "type `hf download openai/never-there`, or set clip_score.options.checkpoint" in str(caught.value)


def test_the_registry_knows_it() -> None:
    assert BUILT_IN["rewards"]["clip_score"] == "rewards.library.clip_score:ClipScore"
