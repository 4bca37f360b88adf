"""Signals, each in a process of its own: what is said, what is closed, and the exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STARTING = """
import time
from rl.process.interrupt import Interrupt
with Interrupt() as interrupt:
    interrupt.closing += [lambda: print("closed second"), lambda: 1 / 0, lambda: print("closed first")]
    print("ready", flush=True)
    try:
        time.sleep(60)
    except BaseException as error:  # an exception would be at the mercy of whoever catches it
        print("caught", error)
"""
RUNNING = """
import time
from rl.process.interrupt import Interrupt
with Interrupt() as interrupt:
    interrupt.finish_steps(lambda text: print("told", text, flush=True), "ended at once")
    print("ready", flush=True)
    while not interrupt.asked:
        time.sleep(0.01)
    time.sleep({more})
    print("saved")
"""


def begun(code: str) -> subprocess.Popen[str]:
    """The process, after it has said that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_while_starting_it_ends_at_once_and_closes_what_is_open(number: signal.Signals) -> None:
    process = begun(STARTING)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out == "closed first\nclosed second\n"
    assert err == "interrupted before the first step; the same command starts again\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_step_is_finished(number: signal.Signals) -> None:
    process = begun(RUNNING.format(more=0.2))
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "told interrupted: finishing this step and saving a checkpoint; once more to stop at once\n" in out
    assert "saved\n" in out


def test_a_second_signal_does_not_wait() -> None:
    process = begun(RUNNING.format(more=60))
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("told interrupted")
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "ended at once\n")
    assert time.monotonic() - start < 10


def test_a_terminal_that_nohup_ignores_stays_ignored() -> None:
    process = begun("signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + RUNNING.format(more=0))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


@pytest.mark.parametrize("code", [STARTING, RUNNING.format(more=0)])
def test_a_signal_that_answers_a_failure_tells_of_the_failure(code: str) -> None:
    code = code.replace('    print("ready"', '    interrupt.because = lambda: "rank 1 is gone"\n    print("ready"')
    process = begun(code)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (3, "rank 1 is gone\n")
    process = begun(code)
    process.send_signal(signal.SIGINT)  # Ctrl-C is somebody's wish
    assert process.communicate(timeout=30)[1] != "rank 1 is gone\n"


def test_the_last_words_are_said_though_something_does_not_close() -> None:
    code = STARTING.replace("lambda: 1 / 0", "lambda: time.sleep(60)")
    process = begun("from rl.process import interrupt\ninterrupt._PATIENCE_S = 0.2\n" + code)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted before the first step; the same command starts again\n")
