from __future__ import annotations

import asyncio
import gc
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from contextlib import ExitStack

import httpx
import psutil
import pytest
import uvicorn
from fastapi import FastAPI

from rewards.remote.wire import RequestLimits, parse_request
from rewards.serve.__main__ import RewardServer, bind
from rewards.serve.metrics import ServerMetrics
from rewards.serve.service import RewardService
from rl.config.schema import RewardComponent
from rl.types import UserError
from tests.rewards.pool.test_pool import samples
from tests.rewards.serve.live_server import BRIGHT, SLEEP, body, head, metric, post, read_answer, serving, wait_for


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_request_whose_client_has_gone_is_not_begun() -> None:
    with serving("--reward", SLEEP, "--option", "seconds=1.2") as server:
        content = body("sleep", samples())
        connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(6)]
        for connection in connections:
            connection.sendall(head(len(content)) + content)
        wait_for(server.url, 'easel_reward_queued{reward="sleep"}', 6)
        for connection in connections:
            connection.close()
        wait_for(server.url, 'easel_reward_queued{reward="sleep"}', 0)
        assert metric(server.url, 'easel_reward_pictures_total{reward="sleep"}') == 8  # the two that were begun


def test_a_request_given_up_while_it_waits_is_not_kept_in_memory() -> None:
    content = body("sleep", samples())
    spec = RewardComponent(use=SLEEP, options={"seconds": 1.0})
    gc.freeze()  # what other tests have left would make each collection longer than the first request
    with RewardService("sleep", spec, RequestLimits(), ServerMetrics(), queue=8, timeout_s=60) as service:
        requests = [parse_request(content, RequestLimits()) for _ in range(4)]
        futures = [service.submit(request) for request in requests]
        waiting = weakref.ref(requests.pop())
        del requests
        gc.collect()
        assert waiting() is not None
        assert futures[3].cancel()
        gc.collect()
        assert waiting() is None
        assert service.queued == 3
        assert b'"failure": null' in futures[2].result()
    gc.unfreeze()


def test_a_port_is_kept_from_others_while_the_rewards_load() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        with bind("127.0.0.1", other.getsockname()[1]), pytest.raises(OSError, match="in use"):
            other.listen()


def test_a_port_that_another_program_took_at_the_last_moment() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with bind("127.0.0.1", port) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.listen()
            config = uvicorn.Config(FastAPI(), lifespan="off", log_level="critical")
            config.load()
            server = RewardServer(config, {}, f"http://127.0.0.1:{port}", 1)
            server.lifespan = config.lifespan_class(config)
            with pytest.raises(UserError, match=f"--port: can't listen at http://127.0.0.1:{port}: "):
                asyncio.run(server.startup([listener]))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stops_on_a_signal_and_reaps_its_workers(number: int) -> None:
    with serving("--reward", BRIGHT) as server:
        children = [child.pid for child in psutil.Process(server.process.pid).children()]
        assert len(children) == 1
        assert server.stop(number) == 0
        assert server.errors == ""
        assert all(gone(pid) for pid in children)


def test_a_request_under_way_is_answered_before_the_server_stops() -> None:
    with serving("--reward", SLEEP, "--option", "seconds=1") as server:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(post(server, body("sleep", samples()))))
        asking.start()
        wait_for(server.url, 'easel_reward_queued{reward="sleep"}', 1)
        assert server.stop() == 0
        asking.join()
        assert [row["value"] for row in answers[0].json()["scores"]] == [1.0] * 4


def test_after_the_grace_a_hung_request_and_a_waiting_one_and_an_unfinished_one_are_ended() -> None:
    with serving("--reward", SLEEP, "--option", "seconds=600", "--grace", "1") as server, ExitStack() as stack:
        children = [child.pid for child in psutil.Process(server.process.pid).children()]
        content = body("sleep", samples())
        asking = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(5)]
        for connection in asking[:4]:  # two are in the pool's hands, two wait
            connection.sendall(head(len(content)) + content)
        asking[4].sendall(head(len(content)) + content[:100])
        wait_for(server.url, 'easel_reward_queued{reward="sleep"}', 4)
        assert server.stop() == 0
        assert [read_answer(connection).split(b"\r\n")[0] for connection in asking[:4]] == [
            b"HTTP/1.1 503 Service Unavailable"
        ] * 4
        assert server.errors == ""
        assert all(gone(pid) for pid in children)


def test_no_traceback_when_interrupted_while_loading() -> None:
    command = [sys.executable, "-m", "rewards.serve", "--port", "0", "--reward", "x=tests.rewards.plugins:Misbehave"]
    process = subprocess.Popen(
        [*command, "--option", "how=nan", "--option", "start_s=60"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not (children := [child.pid for child in psutil.Process(process.pid).children()]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")
    assert len(children) == 1
    assert all(gone(pid) for pid in children)
