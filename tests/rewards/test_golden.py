"""The golden probe stops a dead reward before a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewards.golden import Golden, check_varied, probe
from rewards.load import build, load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.types import Prompt, Sample, Score, UserError


def picture(value: int) -> Sample:
    return Sample(f"gray-{value}", "golden", Prompt("golden", "gray"), np.full((8, 8, 3), value, np.uint8))


GOLDEN = [Golden(picture(255), at_least=0.9), Golden(picture(0), at_most=0.1)]


def bright(samples: Sequence[Sample]) -> list[float]:
    return [float(sample.picture.mean()) / 255 for sample in samples]


def dead(samples: Sequence[Sample]) -> list[float]:
    return [0.0 for _ in samples]


bright.golden = dead.golden = lambda: GOLDEN  # type: ignore[attr-defined]


def without_any(samples: Sequence[Sample]) -> list[float]:
    return bright(samples)


without_any.golden = list  # type: ignore[attr-defined]


class Holder:
    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def golden(self) -> list[Golden]:
        return GOLDEN

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return [self.gain * value for value in bright(samples)]


def test_a_live_reward_passes() -> None:
    probe(bright, GOLDEN)
    assert load_reward("r", f"{__name__}:Holder", {})([picture(255)]) == [1.0]


def test_one_picture_must_be_preferred_to_another() -> None:
    rising = [Golden(picture(10)), Golden(picture(20), above_previous=True)]
    probe(bright, rising)
    with pytest.raises(UserError, match=r"it prefers its reference picture 'gray-10' \(0.9\) to 'gray-20' \(0.8\);"):
        probe(lambda samples: [0.9, 0.8], rising)


def raises(samples: Sequence[Sample]) -> list[float]:
    raise RuntimeError("wrong weights")


@pytest.mark.parametrize(
    ("reward", "golden", "reason"),
    [
        (dead, GOLDEN, "on its reference picture 'gray-255' it scores 0, a working one at least 0.9"),
        (lambda s: [1.0] * len(s), GOLDEN, "on its reference picture 'gray-0' it scores 1, a working one at most 0.1"),
        (lambda s: [0.3] * len(s), [Golden(picture(1)), Golden(picture(2))], "it gives 0.3 to all 2 of its reference"),
        (lambda s: [None] * len(s), GOLDEN, "on its reference picture 'gray-255' it answers 'not applicable'"),
        (lambda s: [float("nan")] * 2, GOLDEN, "on its reference picture 'gray-255' it fails: returned nan"),
        (lambda s: [1.0], GOLDEN, "on its reference picture 'gray-255' it fails: returned 1 values for 2 samples"),
        (raises, GOLDEN, "it raised RuntimeError: wrong weights (test_golden.py:"),
    ],
)
def test_a_dead_reward_is_named(reward: Any, golden: list[Golden], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        probe(reward, golden)
    assert str(caught.value).startswith(f"the golden probe found it dead or wrong: {reason}")
    assert str(caught.value).endswith("; check its weights and versions, or set `probe: false` on it")


class Asked:
    """Counts in a file how often it is asked for its reference pictures."""

    def __init__(self, log: str, wrong: bool = False) -> None:
        self.log, self.wrong = Path(log), wrong

    def golden(self) -> Iterator[Golden]:
        with self.log.open("a") as file:
            file.write("x")
        yield from GOLDEN
        if self.wrong:
            raise EOFError("no such picture")

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        return bright(samples)


def test_reference_pictures_are_asked_for_once_and_may_be_generated(tmp_path: Path) -> None:
    with RewardPool({"r": RewardComponent(use=f"{__name__}:Asked", options={"log": str(tmp_path / "log")})}) as pool:
        assert pool.unprobed == set()
    assert (tmp_path / "log").read_text() == "x"


def test_golden_itself_may_raise(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        RewardPool(
            {"r": RewardComponent(use=f"{__name__}:Asked", options={"log": str(tmp_path / "log"), "wrong": True})}
        )
    assert str(caught.value).startswith("rewards.r: its golden() raised EOFError: no such picture (test_golden.py:")
    assert str(caught.value).endswith("; repair it, or set `probe: false` on it")


def pairs(samples: Sequence[Sample]) -> list[float]:
    return bright(samples)


pairs.golden = lambda: [(GOLDEN[0].sample, 0.9)]  # type: ignore[attr-defined]


def test_golden_gives_something_else() -> None:
    with pytest.raises(UserError) as caught:
        load_reward("r", f"{__name__}:pairs", {})
    assert str(caught.value) == (
        "rewards.r: its golden() gives a tuple; it must give a list of rewards.golden.Golden(sample)"
    )


def test_the_pool_refuses_a_dead_reward() -> None:
    with pytest.raises(UserError) as caught:
        RewardPool({"ink": RewardComponent(use=f"{__name__}:Holder", options={"gain": 0.5})})
    assert str(caught.value) == (
        "rewards.ink: the golden probe found it dead or wrong: on its reference picture 'gray-255' it scores 0.5, "
        "a working one at least 0.9; check its weights and versions, or set `probe: false` on it"
    )


def test_the_probe_can_be_left_out() -> None:
    assert load_reward("r", f"{__name__}:dead", {}, probe=False)([picture(3)]) == [0.0]


def test_the_first_scores_of_a_reward_without_reference_pictures_must_differ() -> None:
    same, other, none = Score(0.5), Score(0.25), Score(None)
    assert check_varied("r", [*[same] * 40, other]) is True
    for open_still in ([same] * 31, [*[same] * 31, none], [Score(None, failure="x")] * 40):
        assert check_varied("r", open_still) is False
    with pytest.raises(UserError) as caught:
        check_varied("r", [none, *[same] * 32])
    assert str(caught.value) == (
        "rewards.r gives 0.5 to all of the first 32 pictures: it is dead or constant, and nothing can be learned from "
        "it; repair it, give it a `golden()` that shows it alive, or set rewards.r.probe=false"
    )


def test_the_pool_knows_which_rewards_nobody_has_proven_alive() -> None:
    plain = RewardComponent(use="tests.rl.run_case:constant")
    specs = {
        "ink": RewardComponent(use="tests.rl.run_case:ink"),
        "plain": plain,
        "off": RewardComponent(use=plain.use, probe=False),
    }
    specs["empty"] = RewardComponent(use=f"{__name__}:without_any")
    with RewardPool(specs) as pool:
        assert pool.unprobed == {"plain", "empty"}


class Picky:
    """Knows its own name alone, as the rewards of the library do."""

    def __init__(self, said: str) -> None:
        raise UserError(said)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("picky.options.size is 3: it must be 4", "rewards.r.options.size is 3: it must be 4"),
        ("picky.options.a: bad; set picky.options.b", "rewards.r.options.a: bad; set rewards.r.options.b"),
        ("no lamp; set picky.options.lamp", "rewards.r: no lamp; set rewards.r.options.lamp"),
        ("unpicky.options.size is 3", "rewards.r: unpicky.options.size is 3"),
    ],
)
def test_keys_in_messages_are_those_to_type(said: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        build(Picky, {"said": said}, where="rewards.r", options_at="rewards.r.options", use="picky")
    assert str(caught.value) == told
