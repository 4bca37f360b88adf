"""Each thing that goes wrong in a worker, injected: nothing is lost and nothing becomes 0. See also ``test_pool``."""

from __future__ import annotations

import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from rewards.pool import memory
from rewards.pool.memory import Growth
from rewards.pool.messages import WorkerReply, checked_reply
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.types import Prompt, Sample, Score, UserError
from tests.rewards.pool.test_pool_batches import PLUGINS, levels, samples, values


def faulty(samples: list[Sample], *faults: str) -> list[Sample]:
    """The first sample's batch meets ``faults``, one per attempt; the others are sound."""
    return [
        Sample(s.id, s.group, Prompt(s.prompt.id, "x", {"faults": faults if i == 0 else ()}), s.picture)
        for i, s in enumerate(samples)
    ]


def reward(tmp_path: Path, **needs: int) -> RewardComponent:
    return RewardComponent(use=f"{PLUGINS}:Faulty", options={"counts": str(tmp_path)}, batch_size=2, **needs)  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", ["crash", "killed", "leave", "hang"])
def test_a_lost_worker_loses_no_sample(fault: str, tmp_path: Path) -> None:
    with RewardPool({"f": reward(tmp_path)}, RewardPoolConfig(timeout_s=2.0)) as pool:
        before = pool.pids["f"]
        assert values(pool.score(faulty(samples(6), fault))["f"]) == levels(6)
        assert pool.restarts == {"f": 1}
        assert pool.pids["f"] != before
    assert (tmp_path / "s0").stat().st_size == 2  # tried again
    assert (tmp_path / "s2").stat().st_size == 1  # and nothing else was


def test_a_batch_that_loses_two_workers_fails_alone(tmp_path: Path) -> None:
    with RewardPool({"f": reward(tmp_path, workers=2)}, RewardPoolConfig(timeout_s=2.0)) as pool:
        found = pool.score(faulty(samples(6), "crash", "leave"))["f"]
        assert pool.restarts == {"f": 2}
        assert values(pool.score(faulty(samples(4, first=6)))["f"]) == [i / 255 for i in range(6, 10)]
    assert [score.failure for score in found[:2]] == ["worker died (exit code 5) (2 attempts)"] * 2
    assert values(found) == [None, None, *levels(6)[2:]]


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        ("throw", ["RuntimeError: thrown on purpose (pool_plugins.py:"] * 2),
        ("nan", [None, "returned nan for the prompt "]),
        ("short", ["returned 1 values for 2 samples"] * 2),
        ("nothing", ["returned None instead of a list of 2 values"] * 2),
    ],
)
def test_a_wrong_answer_fails_its_batch_and_is_not_asked_for_again(
    fault: str, reasons: list[str | None], tmp_path: Path
) -> None:
    with RewardPool({"f": reward(tmp_path)}) as pool:
        found = pool.score(faulty(samples(4), fault, "crash"))["f"]
        assert pool.restarts == {"f": 0}
    for score, reason in zip(found, [*reasons, None, None], strict=True):
        assert (score.failure or "").startswith(reason or "") and score.failed == (reason is not None)
        assert (score.value is None) == (reason is not None)


def test_a_leaking_worker_is_replaced_before_it_is_large() -> None:
    leaks = RewardComponent(use=f"{PLUGINS}:Leaks", options={"mb": 60}, batch_size=2)
    with RewardPool({"l": leaks}, RewardPoolConfig(recycle_growth_mb=100)) as pool:
        found = pool.score(samples(16))["l"]
        assert (pool.restarts, pool.recycled) == ({"l": 0}, {"l": 2})
    assert values(found) == levels(16)
    assert [score.details["calls"] for score in found[::2]] == [1, 2, 3, 1, 2, 3, 1, 2]


def test_a_worker_with_a_large_model_is_kept() -> None:
    large = RewardComponent(use=f"{PLUGINS}:Large", options={"mb": 300}, batch_size=2)
    with RewardPool({"l": large}, RewardPoolConfig(recycle_growth_mb=100)) as pool:
        found = pool.score(samples(16))["l"]
        assert pool.recycled == {"l": 0}
    assert len({score.value for score in found}) == 1


def test_memory_that_is_kept_for_the_next_call_is_no_leak_and_is_not_paid_for_again() -> None:
    with RewardPool(
        {"b": RewardComponent(use=f"{PLUGINS}:bulky", batch_size=2)}, RewardPoolConfig(recycle_growth_mb=100)
    ) as pool:
        found = pool.score([*samples(2, mb=1), *samples(6, first=2, mb=400)])["b"]
        assert pool.recycled == {"b": 0}
    faults = [score.value for score in found[::2]]
    page = os.sysconf("SC_PAGE_SIZE")
    assert faults[1] is not None and faults[1] * page > 300 * 2**20  # the first 400 MiB come from the system
    assert faults[3] is not None and faults[3] * page < 40 * 2**20


def test_growth_is_judged_without_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"used": 1000.0, "kept": 500.0}
    monkeypatch.setattr(memory, "resident_mb", lambda: sum(held.values()))
    monkeypatch.setattr(memory, "give_back", lambda: held.update(kept=0.0))
    growth = Growth(100)
    assert not growth.exceeded() and held["kept"] == 0
    found = []
    for used, kept in ((1050, 0), (1050, 400), (1050, 400), (1090, 450), (1101, 500)):
        held.update(used=used, kept=kept)
        found.append((growth.exceeded(), held["kept"]))
    # 1450 was looked into and found to be mostly kept: it is looked into again above 1550
    assert found == [(False, 0), (False, 0), (False, 400), (False, 450), (True, 0)]


def test_a_slow_restart_is_awaited_and_the_batch_scored(tmp_path: Path) -> None:
    slow = RewardComponent(use=f"{PLUGINS}:SlowRestart", options={"marker": str(tmp_path / "started"), "seconds": 2.0})
    with RewardPool({"s": slow}, RewardPoolConfig(timeout_s=1.5)) as pool:  # loading does not count against the batch
        assert values(pool.score(samples(4))["s"]) == levels(4)
        assert pool.restarts == {"s": 1}


def test_a_reward_that_cannot_be_restarted_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "vanishing.py"
    module.write_text("import os\ndef reward(samples):\n    os._exit(1)\n")
    with RewardPool({"v": RewardComponent(use="vanishing:reward", batch_size=2)}) as pool:
        module.unlink()
        found = pool.score(samples(4))["v"]
    reasons = {str(score.failure) for score in found}
    assert all("vanishing" in reason and reason.endswith("(2 attempts)") for reason in reasons), reasons
    assert values(found) == [None] * 4


def test_an_answer_for_other_samples_is_refused() -> None:
    asked = ("s0", "s2")
    good = WorkerReply(7, asked, [Score(1.0)] * 2, grown=False)
    assert checked_reply(good, 7, asked) is good
    for other in (replace(good, number=6), replace(good, ids=("s2", "s0")), "good"):
        with pytest.raises(ValueError, match="^answered for other samples than it was asked about$"):
            checked_reply(other, 7, asked)
    with pytest.raises(ValueError, match="^answered 1 scores for 2 samples$"):
        checked_reply(replace(good, scores=good.scores[:1]), 7, asked)


def no_room(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The next ``times`` workers find no room in the machine."""
    left = iter(range(times))

    def popen(*given: object, **options: object) -> subprocess.Popen[bytes]:
        if next(left, None) is not None:
            raise OSError(24, "Too many open files")
        return real(*given, **options)  # type: ignore[call-overload,no-any-return]

    real = subprocess.Popen
    monkeypatch.setattr("rewards.pool.worker_handle.subprocess.Popen", popen)


def test_a_worker_without_room_in_the_machine_is_a_loss_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RewardPool({"f": reward(tmp_path)}, RewardPoolConfig(timeout_s=2.0)) as pool:
        no_room(monkeypatch, 1)  # for the worker after the crash; the next one finds some
        found = pool.score(faulty(samples(4), "crash"))["f"]
        assert values(found) == [None, None, *levels(4)[2:]]
        assert found[0].failure == "could not be started: [Errno 24] Too many open files (2 attempts)"
        no_room(monkeypatch, 100)
        found = pool.score(faulty(samples(4, first=4), "crash"))["f"]
        assert all(str(score.failure).startswith("could not be started: [Errno 24]") for score in found)


def test_no_room_for_the_first_worker_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_room(monkeypatch, 100)
    with pytest.raises(UserError, match=r"rewards\.f: the worker process .* could not be started: \[Errno 24\]"):
        RewardPool({"f": reward(tmp_path)})


def test_a_fault_of_ours_in_a_slot_is_raised_to_whoever_waits_or_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RewardPool({"f": reward(tmp_path)}) as pool:
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        monkeypatch.setattr("rewards.pool.queue.WorkerSlot._attempt", lambda *_: 1 / 0)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="the reward pool broke: division by zero"):
                pool.score(samples(4))
