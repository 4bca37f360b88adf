from __future__ import annotations

from collections.abc import Iterator

import pytest

from rewards.serve.metrics import rss_bytes
from tests.rewards.pool.test_pool import samples
from tests.rewards.serve.fuzzing import (
    GROWTH_LIMIT,
    MAX_BATCH,
    MAX_BYTES,
    MAX_CONNECTIONS,
    MAX_PIXELS,
    READ_TIMEOUT_S,
    TOKEN,
    ask,
)
from tests.rewards.serve.live_server import BRIGHT, LiveServer, body, serving


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    limits = {
        "--max-bytes": MAX_BYTES,
        "--max-pixels": MAX_PIXELS,
        "--max-batch": MAX_BATCH,
        "--read-timeout": READ_TIMEOUT_S,
        "--max-connections": MAX_CONNECTIONS,
    }
    given = [text for name, value in limits.items() for text in (name, str(value))]
    with serving("--reward", BRIGHT, "--token-env", "TEST_REWARD_TOKEN", *given, token=TOKEN) as live:
        yield live


@pytest.fixture
def lives_on_in_little_memory(server: LiveServer) -> Iterator[None]:
    ask(server, body("bright", samples()))  # what a first request brings into memory is no growth
    before = rss_bytes(server.process.pid)
    yield
    answer = ask(server, body("bright", samples()))
    assert [row["value"] for row in answer.json()["scores"]] == pytest.approx([0.0, 0.2, 0.4, 0.6])
    assert rss_bytes(server.process.pid) - before < GROWTH_LIMIT
    assert "Traceback" not in server.errors
