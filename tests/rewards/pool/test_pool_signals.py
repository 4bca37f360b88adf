"""Signals that a scheduler sends to every process of a job, and what a worker leaves when its parent is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil

from rewards.pool.pool import RewardPool
from rewards.pool.worker_handle import kill_workers
from rl.config.schema import RewardComponent
from tests.rewards.pool.test_pool import samples

STARTS_A_PROGRAM = RewardComponent(use="tests.rewards.pool_plugins:StartsAProgram")
PARENT = """
import os, signal, time
from rewards.pool.pool import RewardPool
from tests.rewards.pool.test_pool import samples
from tests.rewards.pool.test_pool_signals import STARTS_A_PROGRAM
pool = RewardPool({"one": STARTS_A_PROGRAM})
print(pool.pids["one"][0], int(pool.score(samples())["one"][0].value), flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def wait_gone(*pids: int) -> None:
    deadline = time.monotonic() + 10
    while left := [pid for pid in pids if not gone(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def test_a_worker_leaves_the_signals_of_a_job_to_its_parent_but_not_its_programs() -> None:
    with RewardPool({"one": STARTS_A_PROGRAM}) as pool:
        (worker,) = pool.pids["one"]
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT):
            os.kill(worker, number)
        program = int(pool.score(samples())["one"][0].value or 0)
        assert pool.pids["one"] == [worker]
        os.kill(program, signal.SIGTERM)  # would be ignored if the worker ignored it
        wait_gone(program)


def test_an_idle_worker_and_its_programs_end_with_a_killed_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker, program = map(int, parent.stdout.readline().split())
        parent.send_signal(signal.SIGKILL)
    wait_gone(worker, program)


def test_kill_workers_ends_all_of_them_and_their_programs() -> None:
    pool = RewardPool({"one": STARTS_A_PROGRAM, "two": STARTS_A_PROGRAM})
    try:
        programs = [int(scores[0].value or 0) for scores in pool.score(samples()).values()]
        workers = [pid for pids in pool.pids.values() for pid in pids]
        kill_workers()
        wait_gone(*workers, *programs)
    finally:
        pool.close()
