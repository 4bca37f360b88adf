from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.types import Prompt, Sample, UserError

PLUGINS = "tests.rewards.plugins"


def samples(count: int = 4, group: int = 2) -> list[Sample]:
    return [
        Sample(
            id=f"s{i}",
            group=f"g{i // group}",
            prompt=Prompt(f"p{i // group}", "a red circle", {"tag": "ocr" if i < group else "colors"}),
            picture=np.full((8, 8, 3), 51 * i, np.uint8),
        )
        for i in range(count)
    ]


def reward(attr: str, **options: object) -> RewardComponent:
    return RewardComponent(use=f"{PLUGINS}:{attr}", options=options)


def failures_of(how: str, **options: float) -> tuple[list[str | None], list[float | None]]:
    with RewardPool({"bad": reward("Misbehave", how=how)}, RewardPoolConfig(**options)) as pool:  # type: ignore[arg-type]
        scores = pool.score(samples())["bad"]
    return [score.failure for score in scores], [score.value for score in scores]


def test_functions_and_classes_answer_in_order() -> None:
    rewards = {
        "bright": reward("bright", scale=0.5),
        "scaled": reward("Scaled", factor=3.0),
        "tag": reward("only_tag", tag="ocr"),
    }
    with RewardPool(rewards) as pool:
        by_reward = pool.score(samples())
        assert pool.score([]) == {"bright": [], "scaled": [], "tag": []}
    assert [score.value for score in by_reward["bright"]] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert [score.details for score in by_reward["scaled"]] == [{"id": f"s{i}"} for i in range(4)]
    assert [score.value for score in by_reward["tag"]] == [1.0, 1.0, None, None]
    assert not any(score.failed for scores in by_reward.values() for score in scores)


def test_rewards_work_at_the_same_time() -> None:
    with RewardPool({name: reward("sleep", seconds=1.5) for name in "abc"}) as pool:
        began = time.monotonic()
        pool.score(samples())
        assert time.monotonic() - began < 4.0  # one after the other it would be 4.5 s


def test_an_exception_fails_the_batch_and_keeps_the_worker() -> None:
    with RewardPool({"bad": reward("Misbehave", how="throw")}) as pool:
        before = pool.pids
        scores = pool.score(samples())["bad"]
        assert pool.pids == before
    assert all(score.value is None for score in scores)
    assert scores[0].failure is not None
    assert scores[0].failure.startswith("ValueError: no such font (plugins.py:")


def test_a_hanging_reward_is_killed_and_replaced() -> None:
    with RewardPool(
        {"bad": reward("Misbehave", how="hang"), "ok": reward("bright")}, RewardPoolConfig(timeout_s=0.5, retries=1)
    ) as pool:
        first = pool.pids["bad"]
        by_reward = pool.score(samples())
        assert pool.restarts == {"bad": 2, "ok": 0}
        assert pool.pids["bad"] != first
        assert not psutil.pid_exists(first[0])
    assert [score.failure for score in by_reward["bad"]] == ["timed out after 0.5 s (2 attempts)"] * 4
    assert [score.value for score in by_reward["bad"]] == [None] * 4
    assert [score.failed for score in by_reward["ok"]] == [False] * 4


def test_a_batch_that_hangs_once_is_scored_by_the_next_worker(tmp_path: Path) -> None:
    once = reward("Misbehave", how="hang", once=str(tmp_path / "hung"))
    with RewardPool({"bad": once}, RewardPoolConfig(timeout_s=1.0)) as pool:
        scores = pool.score(samples())["bad"]
        assert pool.restarts == {"bad": 1}
    assert [score.value for score in scores] == [1.0] * 4


def test_a_crash_is_a_failure_with_the_exit_code_and_the_last_line() -> None:
    reasons, values = failures_of("crash", retries=0)
    assert reasons == ["worker died (exit code 3); it last printed: about to fall over"] * 4
    assert values == [None] * 4


def test_nan_fails_only_its_sample() -> None:
    reasons, values = failures_of("nan")
    assert [str(reason)[:12] for reason in reasons] == ["None", "returned nan", "None", "None"]
    assert values == [0.5, None, 0.5, 0.5]


def test_wrong_length_and_wrong_type_fail_the_batch() -> None:
    assert failures_of("short") == (["returned 3 values for 4 samples"] * 4, [None] * 4)
    assert failures_of("text") == (["returned str ('good') instead of a list of 4 values"] * 4, [None] * 4)


def test_a_slow_start_is_awaited_up_to_its_own_time_out() -> None:
    slow = RewardComponent(use=f"{PLUGINS}:Misbehave", options={"how": "nan", "start_s": 1.0})
    with RewardPool({"slow": slow}, RewardPoolConfig(timeout_s=0.5)) as pool:
        assert pool.score(samples())["slow"][0].value == 0.5
    with pytest.raises(UserError) as caught:
        RewardPool(
            {"slow": RewardComponent(use=slow.use, options={"how": "nan", "start_s": 60.0})},
            RewardPoolConfig(start_timeout_s=1.0),
        )
    assert str(caught.value) == (
        f"rewards.slow: the worker process of '{PLUGINS}:Misbehave' did not start within 1 s; "
        "try it alone in a Python shell, or raise reward_pool.start_timeout_s"
    )


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (RewardComponent(use="nowhere:f"), "rewards.x.use: there is no module 'nowhere' for 'nowhere:f'"),
        (RewardComponent(use="geneva"), ", did you mean 'geneval'?"),
        (reward("brigth"), "rewards.x.use: module 'tests.rewards.plugins' has no 'brigth', did you mean 'bright'?"),
        (
            reward("bright", scal=1),
            "rewards.x.options.scal: 'tests.rewards.plugins:bright' takes no such option, did you mean 'scale'? (it",
        ),
        (reward("pid", scale=1), "takes no such option (it takes none at all)"),
        (
            reward("only_tag"),
            "rewards.x.options: 'tests.rewards.plugins:only_tag' needs the option `tag`; add `tag: ...`",
        ),
        (
            reward("Scaled", factor=-1),
            "with options {'factor': -1} raised ValueError: factor must not be negative (plug",
        ),
        (
            reward("NUMBER"),
            "rewards.x.use: 'tests.rewards.plugins:NUMBER' is a int; name a function or a class instead",
        ),
        (reward("NotCallable"), "rewards.x.use: objects of class 'NotCallable' cannot be called; give it a `__call__("),
    ],
)
def test_a_reward_that_cannot_be_loaded_is_the_users_to_repair(bad: RewardComponent, message: str) -> None:
    with pytest.raises(UserError) as caught:
        RewardPool({"x": bad})
    assert message in str(caught.value)
    assert str(caught.value).startswith("rewards.x")
    assert "\n" not in str(caught.value)


def test_all_rewards_that_cannot_be_loaded_are_named_at_once() -> None:
    with pytest.raises(UserError) as caught:
        RewardPool({"x": reward("bright", scal=1), "y": reward("only_tag"), "z": reward("bright")})
    assert [line.split(":")[0] for line in str(caught.value).split("\n")] == [
        "rewards.x.options.scal",
        "rewards.y.options",
    ]


def test_workers_are_recycled_by_count() -> None:
    with RewardPool({"pid": reward("pid")}, RewardPoolConfig(recycle_after=6)) as pool:
        seen = [pool.score(samples())["pid"][0].value for _ in range(4)]
        assert seen[0] == seen[1] != seen[2] == seen[3]
        assert (pool.restarts, pool.recycled) == ({"pid": 0}, {"pid": 2})


def test_several_workers_share_a_batch_between_groups(tmp_path: Path) -> None:
    meet = RewardComponent(use=f"{PLUGINS}:meet", options={"folder": str(tmp_path), "workers": 2}, workers=2)
    with RewardPool({"b": RewardComponent(use=f"{PLUGINS}:bright", workers=2), "m": meet}) as pool:
        by_reward = pool.score(samples())
    assert [score.value for score in by_reward["b"]] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert len({score.value for score in by_reward["m"]}) == 2


def test_a_reward_cannot_edit_the_picture() -> None:
    with RewardPool({"edit": reward("edit")}) as pool:
        assert "read-only" in str(pool.score(samples())["edit"][0].failure)


def test_a_worker_killed_between_batches_is_replaced() -> None:
    with RewardPool({"b": reward("bright")}) as pool:
        psutil.Process(pool.pids["b"][0]).kill()
        time.sleep(0.2)
        assert [score.failed for score in pool.score(samples())["b"]] == [False] * 4


def test_close_leaves_no_process_even_while_a_reward_hangs() -> None:
    pool = RewardPool({"bad": reward("Misbehave", how="hang"), "ok": reward("bright")})
    processes = [psutil.Process(pid) for pids in pool.pids.values() for pid in pids]
    scoring = threading.Thread(target=pool.score, args=(samples(),))
    scoring.start()
    time.sleep(0.3)
    began = time.monotonic()
    pool.close()
    pool.close()
    scoring.join(5)
    assert not scoring.is_alive()
    assert time.monotonic() - began < 5
    assert not any(process.is_running() for process in processes)


CTRL_C = """
import os, signal, threading
from rewards.pool.pool import RewardPool
from tests.rewards.pool.test_pool import samples, reward
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with it ignored
with RewardPool({"slow": reward("sleep", seconds=2.0), "ok": reward("pid")}) as pool:
    print(*[pid for pids in pool.pids.values() for pid in pids], flush=True)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        pool.score(samples())
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    print(pool.score(samples())["slow"][0].value, flush=True)
"""


def test_ctrl_c_reaches_the_parent_only_and_the_pool_can_go_on() -> None:
    done = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True, timeout=60)
    pids, *rest = done.stdout.split("\n")
    assert rest == ["interrupted", "1.0", ""], done.stderr
    assert done.stderr == ""
    assert not any(psutil.pid_exists(int(pid)) for pid in pids.split())


ORPHAN = """
import time
from rewards.pool.pool import RewardPool
from tests.rewards.pool.test_pool import samples, reward
pool = RewardPool({"bad": reward("Misbehave", how="hang")})
print(pool.pids["bad"][0], flush=True)
pool.score(samples())
"""


def test_workers_die_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(worker) and psutil.Process(worker).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its parent"
        time.sleep(0.1)


def test_prompts_are_routed_by_tag_and_by_metadata() -> None:
    asked = ({"tag": "ocr", "text": "CAT"}, {"tag": "colors"}, {"text": "DOG"}, {"tag": "ocr"})
    batch = [
        Sample(f"s{i}", f"g{i}", Prompt(f"p{i}", "x", m), np.full((2, 2, 3), 255, np.uint8))
        for i, m in enumerate(asked)
    ]
    rewards = {
        "all": RewardComponent(use=f"{PLUGINS}:bright"),
        "tagged": RewardComponent(use=f"{PLUGINS}:bright", tags=("ocr",)),
        "worded": RewardComponent(use=f"{PLUGINS}:bright", metadata=("text",)),
        "both": RewardComponent(use=f"{PLUGINS}:bright", tags=("ocr",), metadata=("text",)),
        "none": RewardComponent(use=f"{PLUGINS}:Misbehave", options={"how": "throw"}, tags=("position",)),
    }
    with RewardPool(rewards) as pool:
        found = pool.score(batch)
    values = {name: [score.value for score in scores] for name, scores in found.items()}
    assert values == {
        "all": [1.0] * 4,
        "tagged": [1.0, None, None, 1.0],
        "worded": [1.0, None, 1.0, None],
        "both": [1.0, None, None, None],
        "none": [None] * 4,
    }
    assert not any(score.failed for score in found["none"])  # it was never asked
