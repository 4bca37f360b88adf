"""Scoring while painting gives what scoring afterwards gives."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rewards.combine import mean
from rewards.pool.pool import RewardPool
from rewards.pool.submission import gather
from rewards.scoring import Scoring
from rl.collect import Collect, Noise, RewardWatch, paint, sample
from rl.config.schema import RenderConfig, RewardComponent, RolloutConfig
from rl.config.sections.schedule import ScheduleConfig
from rl.described.step import describe_pictures, detail_means
from rl.tracking.guards.pictures import Fidelity
from rl.types import Forward, Prompt, Renders, Rollout, Sample, Score, Scores, Sequences, UserError
from tests.rl.rollouts import a_rollout

PLUGINS = "tests.rewards.pool_plugins"


class SeedPainter:
    """A picture is the low byte of its seed; ``finished`` holds the time of each batch."""

    def __init__(self) -> None:
        self.finished: list[float] = []

    def paint(self, hidden_BSD: Tensor, seeds: Sequence[int], *, steps: int, guidance: float) -> NDArray[np.uint8]:
        time.sleep(0.5)
        self.finished.append(time.time())
        return np.stack([np.full((4, 4, 3), seed % 256, np.uint8) for seed in seeds])


@pytest.mark.parametrize("renders", [1, 2])
def test_groups_are_scored_while_the_next_pictures_are_painted(renders: int, tmp_path: Path) -> None:
    log, rollout = tmp_path / "calls", a_rollout(prompts=4, group_size=3)
    spec = RewardComponent(use=f"{PLUGINS}:calls", options={"log": str(log)})
    with RewardPool({"c": spec}) as pool:
        painter = SeedPainter()
        hidden_BSD = torch.zeros(12, 3, 2)
        options = RenderConfig(steps=1, renders=renders, micro_batch=5 * renders)
        painted, waiting = paint(painter, hidden_BSD, rollout, options, Noise("sample", 0, 7), pool, "step7")
        pictures = painted.pictures
        first_scored = [json.loads(line)[1] for line in log.read_text().splitlines()]
        found = gather(waiting)["c"]
        calls = [json.loads(line)[1] for line in log.read_text().splitlines()]
        afterwards = pool.score(
            [
                Sample(f"step7-{i}", f"p{i // (3 * renders)}", rollout.prompts[i // (3 * renders)], picture)
                for i, picture in enumerate(pictures)
            ]
        )["c"]
    assert len(painter.finished) == 3
    assert found == afterwards
    assert [score.value for score in found] == [float(picture[0, 0, 0]) / 255 for picture in pictures]
    # 5, 10 and 12 sequences were done: one, three and four whole groups
    ids = [f"step7-{i}" for i in range(12 * renders)]
    cuts = [0, 3 * renders, 9 * renders, 12 * renders]
    assert calls == [ids[a:b] for a, b in pairwise(cuts)]
    assert first_scored[:1] == calls[:1]  # before the last pictures were painted


class Zeros:
    """An image tokenizer that reads 0 everywhere; counts the pictures that it is given."""

    def __init__(self) -> None:
        self.pictures = 0

    def encode(self, pictures_BHW3: NDArray[np.uint8], /) -> NDArray[np.int64]:
        self.pictures += len(pictures_BHW3)
        return np.zeros((len(pictures_BHW3), 2), np.int64)


@pytest.mark.parametrize(("share", "looked_at"), [(1.0, 12), (0.3, 4), (0.0, 0)])
def test_a_step_re_tokenises_a_share_of_its_pictures(share: float, looked_at: int) -> None:
    rollout, tokenizer = a_rollout(prompts=4, group_size=3), Zeros()
    renders = Renders(np.zeros((24, 4, 4, 3), np.uint8), tuple(range(24)), per_sample=2)
    metrics = describe_pictures(rollout, renders, Fidelity(tokenizer, share))  # type: ignore[arg-type]
    assert tokenizer.pictures == looked_at
    assert metrics.get("guard/render_fidelity") == (1.0 if looked_at else None)
    assert metrics["guard/ink_fraction"] == 0


def test_means_of_the_details_that_a_reward_shows() -> None:
    found = [Score(1.0, details={"kept": 0.5, "done": True}), Score(0.0, details={"kept": 1.0, "done": False})]
    scores = Scores({"edit": [*found, Score(None)], "ink": []}, *np.zeros((3, 3), np.float32))  # type: ignore[arg-type]
    shown = {"edit": ("done", "kept", "lost"), "ink": ("kept",), "gone": ("kept",)}
    assert detail_means(scores, shown) == {"detail/edit/done": 0.5, "detail/edit/kept": 0.75}


def test_a_reward_that_varied_in_the_base_evaluation_may_be_constant_in_the_first_step() -> None:
    rewards = {"easy": RewardComponent(use="a:b"), "dull": RewardComponent(use="a:b")}
    watch = RewardWatch(rewards, 0.05, ["easy", "dull"])
    half = [Score(0.5)] * 40
    watch.check({"easy": [*half, Score(1.0)], "dull": half[:20]}, first=True)
    assert watch.unprobed == {"dull"}
    watch.check({"easy": half, "dull": half[:20]}, first=True)
    watch.check({"easy": half, "dull": half}, first=False)
    with pytest.raises(UserError, match=r"rewards\.dull gives 0\.5 to all of the first 40 pictures"):
        watch.check({"easy": half, "dull": half}, first=True)


class Writer:
    """A sampler that may have hidden states; ``asked`` holds what it was told."""

    def __init__(self, hidden_BSD: Tensor | None) -> None:
        self.hidden_BSD, self.asked = hidden_BSD, []

    def sample(self, prompts: Sequence[Prompt], group_size: int, seeds: Sequence[int], **options: object) -> Rollout:
        self.asked.append(options["hidden"])
        return replace(a_rollout(len(prompts), group_size), hidden_BSD=self.hidden_BSD)


def test_a_run_may_paint_the_trainers_own_hidden_states() -> None:
    writer = Writer(None)
    for whose in ("sampler", "trainer"):
        sample(writer, [Prompt("a", "x")], 2, [0, 1], RolloutConfig(group_size=2, hidden_states=whose))
    assert writer.asked == [True, False]


class Sleepy(Writer):
    """Says when it lends its memory."""

    def __init__(self, said: list[str]) -> None:
        super().__init__(torch.ones(4, 3, 2))
        self.said = said

    def sleep(self, level: int) -> None:
        self.said.append(f"sleep {level}")


@pytest.mark.parametrize(("level", "step", "until_asked"), [(0, 0, 0), (1, 0, 1), (2, 0, 2), (2, 1, 1)])
def test_the_engine_lends_its_memory_to_the_decoder_which_comes_to_paint(
    level: int, step: int, until_asked: int
) -> None:
    """In step 1 the decoder alone learns: no weights will come for an engine that drops its own."""
    said: list[str] = []

    @contextmanager
    def painting() -> Iterator[None]:
        said.append("decoder comes")
        yield
        said.append("decoder goes")

    @contextmanager
    def showing() -> Iterator[None]:
        said.append("by the ODE")
        yield
        said.append("as ever")

    components = {"c": RewardComponent(use=f"{PLUGINS}:declares")}
    with RewardPool(components) as pool:
        collect = Collect(
            sampler=Sleepy(said),
            forward=lambda rows: Forward(torch.zeros(4, 3, 2), torch.zeros(4, 2), torch.zeros(4, 2)),
            painter=SeedPainter(),
            rewards=pool,
            scoring=Scoring(components, mean),
            fidelity=Fidelity(None, 0.0),  # type: ignore[arg-type]
            watch=RewardWatch(components, 0.5, []),
            rollout=RolloutConfig(group_size=2, sleep=level),
            render=RenderConfig(steps=1, seed="sample"),
            painting=painting,
            showing=showing,
            schedule=ScheduleConfig(order="alternate"),
        )
        prompts = [Prompt("a", "x"), Prompt("b", "y")]
        collect(step, prompts, seed=0)
        collect.held_out("e", prompts, 2, [1, 2, 3, 4], seed=0)
    around = ["decoder comes", "decoder goes"]
    in_a_step = [f"sleep {until_asked}"] * (level > 0)
    asked_again_as_it_is = ["sleep 1"] * (level > 0)  # an evaluation brings no new weights
    assert said == [*in_a_step, *around, *asked_again_as_it_is, "by the ODE", *around, "as ever"]


@pytest.mark.parametrize("given", [True, False])
def test_a_forward_is_made_only_where_the_engine_has_no_hidden_states(given: bool) -> None:
    said: list[str] = []
    kept = Forward(torch.zeros(4, 3, 2), torch.zeros(4, 2), torch.zeros(4, 2))

    def forward(rows: Sequences) -> Forward:
        said.append("forward")
        return kept

    def reference(rows: Sequences) -> Forward:
        said.append("reference")
        return kept

    class Codes:
        def encode(self, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
            return np.zeros((len(pictures), 2), np.int64)

    components = {"c": RewardComponent(use=f"{PLUGINS}:declares")}
    with RewardPool(components) as pool:
        collect = Collect(
            sampler=Writer(torch.ones(4, 3, 2) if given else None),
            forward=forward,
            painter=SeedPainter(),
            rewards=pool,
            scoring=Scoring(components, mean),
            fidelity=Fidelity(Codes(), 1.0),
            watch=RewardWatch(components, 0.5, []),
            rollout=RolloutConfig(group_size=2),
            render=RenderConfig(steps=1, seed="sample"),
            reference=reference,
            tell=said.append,
        )
        experience = collect(0, [Prompt("a", "x"), Prompt("b", "y")], seed=0)
    assert collect.sampler.asked == [True]
    assert (experience.forward is None) is given
    assert experience.reference is kept
    # the reference is asked, and the guards look, before anybody waits for the rewards
    before = [] if given else ["forward", "forward"]
    assert said == ["sample", *before, "paint", "forward", "reference", "guards", "score"]


def test_painting_tells_its_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    told: list[tuple[int, int, str]] = []
    rollout, options = a_rollout(prompts=2, group_size=2), RenderConfig(renders=2, micro_batch=3)
    with RewardPool({}) as pool:
        paint(
            SeedPainter(), torch.zeros(4, 3, 2), rollout, options, Noise("group", 0, 0), pool, "s",
            lambda *far: told.append(far),
        )  # fmt: skip
    assert told == [(done, 8, "pictures") for done in (0, 3, 6, 8)]


@pytest.mark.parametrize("decoder", [False, True])
def test_what_a_decoder_learns_from_is_made_and_logged_where_it_is_trained(decoder: bool, tmp_path: Path) -> None:
    components = {"c": RewardComponent(use=f"{PLUGINS}:calls", options={"log": str(tmp_path / "calls")})}
    with RewardPool(components) as pool:
        collect = Collect(
            sampler=Writer(torch.ones(4, 3, 2)),
            forward=lambda rows: Forward(torch.zeros(4, 3, 2), torch.zeros(4, 2), torch.zeros(4, 2)),
            painter=SeedPainter(),
            rewards=pool,
            scoring=Scoring(components, mean, ("ar", "decoder") if decoder else ("ar",)),
            fidelity=Fidelity(None, 0.0),  # type: ignore[arg-type]
            watch=RewardWatch(components, 0.5, []),
            rollout=RolloutConfig(group_size=2),
            render=RenderConfig(steps=1, renders=2, seed="group"),
            grid_period=2 if decoder else None,
        )
        experience = collect(3, [Prompt("a", "x"), Prompt("b", "y")], seed=0)
    renders, logged = experience.scores.renders, set(experience.metrics)
    of_the_decoder = {"decoder/score", "guard/grid_pattern"} | {
        f"var/{name}" for name in ("unlike_renders", "tokens", "noise", "interaction", "decoder_share")
    }
    if not decoder:
        assert renders is None
        assert not logged & of_the_decoder
        return
    assert renders is not None and renders.total_BK.shape == (4, 2)
    assert experience.scores.total_B == pytest.approx(renders.total_BK.mean(1))
    assert experience.metrics["decoder/score"] == pytest.approx(renders.total_BK.mean())
    assert logged >= of_the_decoder
