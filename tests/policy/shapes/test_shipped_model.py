"""The embedded weights are what their card says: complete, small, unspoilt, and with room to learn."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from policy.ar.forward import image_forward
from policy.base import Policy
from policy.folder import EMBEDDED
from rewards.library.details.reward import Details
from rewards.library.geneval.detectors.shapes import ShapesDetector
from rewards.library.geneval.rules import judge, parse
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.data.shapes import world
from rl.data.shapes.edits.contents import EDIT_TAGS
from rl.data.shapes.prompts import prompts
from rl.data.shapes.questions.contents import COARSE_TAGS, FINE_TAGS
from rl.registry import resolve
from rl.types import Prompt, Sample
from tests.policy.shapes.measured import answered, edits, obeyed, sampled

WEIGHTS = EMBEDDED["shapes"]
DETECTOR = ShapesDetector()
STEPS = 3


@pytest.fixture(scope="module")
def shapes() -> Policy:
    return Policy.load("shapes")


def _paint(
    policy: Policy, asked: list[Prompt], tokens: np.ndarray, steps: int = STEPS, first_seed: int = 0
) -> np.ndarray:
    pictures = []
    for start in range(0, len(asked), 64):
        ids = [policy.encode_prompt(prompt).ids for prompt in asked[start : start + 64]]
        with torch.no_grad():
            part = torch.from_numpy(tokens[start : start + 64])
            hidden = image_forward(policy.ar, policy.layout.image, ids, part).hidden_BSD
        seeds = range(first_seed + start, first_seed + start + len(ids))
        references = [next(iter(prompt.pictures), None) for prompt in asked[start : start + 64]]
        pictures.append(policy.decoder.paint(hidden, seeds, steps=steps, references=references))
    return np.concatenate(pictures)


def _strict(asked: list[Prompt], pictures: np.ndarray) -> dict[str, float]:
    passed: dict[str, list[bool]] = {}
    for prompt, found in zip(asked, DETECTOR.detect(list(pictures)), strict=True):
        requirements = parse(prompt.metadata)
        assert requirements is not None
        passed.setdefault(prompt.metadata["tag"], []).append(judge(requirements, found).strict)
    return {tag: float(np.mean(values)) for tag, values in passed.items()}


def _samples(asked: list[Prompt], pictures: np.ndarray) -> list[Sample]:
    return [Sample(str(i), p.id, p, picture) for i, (p, picture) in enumerate(zip(asked, pictures, strict=True))]


def _true_tokens(policy: Policy, asked: list[Prompt]) -> np.ndarray:
    """Tokens of a true scene for each prompt, through the image tokenizer."""
    by_caption = {
        (tag, content.caption(template)): content
        for tag in world.TAGS
        for content in world.contents(tag, "heldout")
        for template in range(24)
    }
    rng = np.random.default_rng(0)
    contents = [by_caption[p.metadata["tag"], p.text] for p in asked]
    scenes = np.stack([world.draw_scene(content, rng) for content in contents])
    looks = np.stack([world.looks_of(content, cells) for content, cells in zip(contents, scenes, strict=True)])
    return policy.image_tokenizer.encode(world.picture(scenes, looks))


def test_weights_are_complete_small_and_unspoilt() -> None:
    listed = dict(reversed(line.split("  ")) for line in (WEIGHTS / "SHA256SUMS").read_text().splitlines())
    files = {p.relative_to(WEIGHTS).as_posix(): p for p in WEIGHTS.rglob("*.safetensors")}
    assert set(listed) == set(files)
    for name, path in files.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == listed[name], name
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*")) <= 25e6


def test_the_decoder_paints_what_the_tokens_say(shapes: Policy) -> None:
    asked = prompts("heldout", 40)
    scores = _strict(asked, _paint(shapes, asked, _true_tokens(shapes, asked)))
    assert np.mean(list(scores.values())) >= 0.90, scores


def test_the_decoder_obeys_details_part_of_the_time_and_the_noise_decides_when(shapes: Policy) -> None:
    asked = prompts("heldout", 40, tags=("ground", "look", "details"))
    tokens = _true_tokens(shapes, asked)
    scores = []
    for first_seed in (0, 1000, 2000, 3000):
        pictures = _paint(shapes, asked, tokens, steps=8, first_seed=first_seed)
        scores.append([score.value for score in Details()(_samples(asked, pictures))])
    table = np.array(scores, float)
    assert 0.3 <= table.mean() <= 0.75
    assert (np.ptp(table, axis=0) > 0.2).mean() >= 0.5  # of the prompts: renders of the same tokens differ


def test_details_do_not_hide_objects(shapes: Policy) -> None:
    asked = prompts("heldout", 40, tags=("ground", "look", "details"))
    scores = _strict(asked, _paint(shapes, asked, _true_tokens(shapes, asked), steps=8))
    assert np.mean(list(scores.values())) >= 0.90, scores


def test_words_can_be_read(shapes: Policy) -> None:
    asked = prompts("heldout", 40, tags=("ocr",))
    pictures = _paint(shapes, asked, _true_tokens(shapes, asked))
    samples = _samples(asked, pictures)
    with RewardPool({"ocr": RewardComponent(use="ocr", options={"detect": False})}) as pool:
        scores = pool.score(samples)["ocr"]
    assert not [score.failure for score in scores if score.failed]
    assert np.mean([score.details["exact"] for score in scores]) >= 0.5


def test_the_base_leaves_room_to_learn(shapes: Policy, tmp_path: Path) -> None:
    asked = prompts("heldout", 100)
    sampler = resolve("samplers", "torch")(shapes.folder, shapes.layout, encode=shapes.encode_prompt)
    rollout = sampler.sample(asked, 1, range(len(asked)))
    scores = _strict(asked, _paint(shapes, asked, rollout.tokens_BT))
    assert 0.40 <= np.mean(list(scores.values())) <= 0.70, scores
    assert min(scores.values()) > 0.1, scores


def test_the_base_edits_part_of_the_time(shapes: Policy) -> None:
    asked, right = edits(shapes, EDIT_TAGS, 30)
    assert np.mean(list(obeyed(asked, _paint(shapes, asked, right)).values())) >= 0.90
    scores = obeyed(asked, _paint(shapes, asked, sampled(shapes, asked)))
    assert 0.25 <= np.mean(list(scores.values())) <= 0.60, scores
    assert min(scores.values()) > 0.05, scores


def test_the_base_answers_most_of_the_time_and_sees_details_by_features_alone(shapes: Policy) -> None:
    """Chance is 1/2 for shade and outline, 1/3 for the ground."""
    coarse = answered(shapes, COARSE_TAGS, 30, features=True)
    assert 0.70 <= np.mean(list(coarse.values())) <= 0.95, coarse
    assert np.mean(list(answered(shapes, FINE_TAGS, 60, features=False).values())) <= 0.50
    assert np.mean(list(answered(shapes, FINE_TAGS, 60, features=True).values())) >= 0.75
