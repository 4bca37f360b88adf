"""Noise seeds and micro-batches of the renderer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from policy.ar.forward import image_forward
from policy.base import Policy
from rl.data.pictures import Picture
from rl.types import Prompt, Rollout, UserError
from rollout.render import SeedMode, painted, render_seeds
from rollout.seeds import group_seeds, sample_seed

PROMPTS = (Prompt("a", "a circle"), Prompt("b", "two red stars and a blue square"))


@pytest.fixture(scope="module")
def loaded(folder: Any) -> Policy:
    return Policy.load(folder)


def make(policy: Policy, group_size: int = 2) -> tuple[Rollout, torch.Tensor]:
    batch = len(PROMPTS) * group_size
    layout = policy.layout
    tokens = np.random.default_rng(0).integers(
        layout.image_start_id, layout.image_end_id, (batch, layout.tokens_per_image)
    )
    prompt_ids = tuple(policy.text_ids(prompt.text) for prompt in PROMPTS)
    rollout = Rollout(
        PROMPTS, group_size, prompt_ids, tokens, np.zeros(tokens.shape, np.float32), tuple(range(batch)), 1.0, 0
    )
    with torch.no_grad():
        ids = rollout.prompt_ids_per_sample()
        hidden = image_forward(policy.ar, layout.image, ids, torch.from_numpy(tokens)).hidden_BSD
    return rollout, hidden


def render(
    policy: Policy,
    hidden: torch.Tensor,
    rollout: Rollout,
    *,
    steps: int,
    seed_mode: SeedMode = "group",
    renders: int = 1,
    micro_batch: int = 64,
) -> np.ndarray:
    seeds = render_seeds(rollout, seed_mode=seed_mode, renders=renders, run_seed=0, step=0)
    return np.concatenate(
        list(painted(policy.decoder, hidden, seeds, renders=renders, steps=steps, micro_batch=micro_batch))
    )


def test_seeds_of_a_group_are_shared_and_renders_differ(loaded: Policy) -> None:
    rollout, _ = make(loaded, 3)
    options: dict[str, Any] = {"renders": 2, "run_seed": 0, "step": 5}
    group = np.array(render_seeds(rollout, seed_mode="group", **options)).reshape(2, 3, 2)
    assert (group == group[:, :1]).all()  # one pair of seeds per prompt
    assert len(np.unique(group)) == 4
    sample = render_seeds(rollout, seed_mode="sample", **options)
    assert len(set(sample)) == 12
    assert render_seeds(rollout, seed_mode="group", renders=2, run_seed=0, step=6) != tuple(group.ravel().tolist())


def test_a_picture_alone_equals_the_picture_in_a_batch(loaded: Policy) -> None:
    rollout, hidden = make(loaded)
    options: dict[str, Any] = {"steps": 2, "seed_mode": "sample"}
    batch = render(loaded, hidden, rollout, **options)
    size = batch.shape[1]
    assert batch.shape == (4, size, size, 3)
    assert batch.dtype == np.uint8
    for micro_batch in (1, 3):
        pictures = render(loaded, hidden, rollout, micro_batch=micro_batch, **options).astype(int)
        assert np.abs(pictures - batch).max() <= 1  # one level of 255: rounding of float noise
    with torch.no_grad():  # a short prompt alone: no padding, other shapes everywhere
        first = image_forward(
            loaded.ar, loaded.layout.image, rollout.prompt_ids[:1], torch.from_numpy(rollout.tokens_BT[:1])
        ).hidden_BSD
    seed = render_seeds(rollout, seed_mode="sample", renders=1, run_seed=0, step=0)[0]
    alone = loaded.decoder.paint(first, [seed], steps=2, guidance=1.0).astype(int)
    assert np.abs(alone[0] - batch[0]).max() <= 1


def test_renders_stand_side_by_side_and_repeat_exactly(loaded: Policy) -> None:
    rollout, hidden = make(loaded)
    twice = render(loaded, hidden, rollout, steps=2, renders=2)
    once = render(loaded, hidden, rollout, steps=2)
    assert len(twice) == 8
    assert np.abs(twice[::2].astype(int) - once).max() <= 1
    assert (twice[0] != twice[1]).any()
    assert np.array_equal(twice, render(loaded, hidden, rollout, steps=2, renders=2))


def test_wrong_options_are_refused(loaded: Policy) -> None:
    rollout, hidden = make(loaded)
    with pytest.raises(UserError, match=r"render\.seed is 'prompt'; write 'group'"):
        render(loaded, hidden, rollout, steps=2, seed_mode="prompt")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"render\.renders is 0; it must be at least 1"):
        render(loaded, hidden, rollout, steps=2, renders=0)
    for rows in (2, 3):
        with pytest.raises(ValueError, match=f"4 seeds for 1 renders of {rows} rows of hidden states"):
            render(loaded, hidden[:rows], rollout, steps=2)


def test_sample_seeds_are_fixed_numbers_and_never_shared() -> None:
    assert sample_seed(0, 3, "p17", 2) == sample_seed(0, 3, "p17", 2) < 2**31
    keys = list(itertools.product(range(3), range(9), "abc", range(9)))
    assert len({sample_seed(*key) for key in keys}) == len(keys)
    assert sample_seed(1, 11, "p", 0) != sample_seed(11, 1, "p", 0)


def test_a_prompt_met_twice_in_a_step_gets_other_seeds() -> None:
    seeds = group_seeds(0, 0, [PROMPTS[0], PROMPTS[0], PROMPTS[1]], 2)
    assert len(set(seeds)) == 6
    assert seeds[:2] == group_seeds(0, 0, [PROMPTS[0]], 2)


class Noting:
    """A painter that notes what it is shown."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def paint(self, hidden_BSD: torch.Tensor, seeds: Any, *, steps: int, guidance: float, **more: Any) -> np.ndarray:
        self.shown.append(more)
        return np.zeros((len(seeds), 2, 2, 3), np.uint8)


def test_each_render_sees_the_picture_that_its_row_is_to_change() -> None:
    one, other = (Picture(np.full((2, 2, 3), value, np.uint8)) for value in (1, 2))
    painter, hidden = Noting(), torch.zeros(3, 1, 1)
    drawn = painted(painter, hidden, range(6), renders=2, steps=1, micro_batch=4, references=[one, None, other])  # type: ignore[arg-type]
    assert [len(part) for part in drawn] == [4, 2]
    assert painter.shown == [{"references": [one, one, None, None]}, {"references": [other, other]}]
    list(painted(painter, hidden, range(6), renders=2, steps=1))  # type: ignore[arg-type]
    assert painter.shown[-1] == {}
