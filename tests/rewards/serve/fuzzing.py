"""What is sent to a live server of small limits."""

from __future__ import annotations

import base64
import io
from typing import Any

import httpx
from PIL import Image

from tests.rewards.serve.live_server import LiveServer

TOKEN = "correct-horse"
MAX_BYTES, MAX_PIXELS, MAX_BATCH, READ_TIMEOUT_S, MAX_CONNECTIONS = 300_000, 10_000, 8, 1.0, 12
GROWTH_LIMIT = 48 * 2**20  # bytes; a single one of the pictures that are sent would unpack to 12 GB


def ask(server: LiveServer, content: bytes, token: str | None = TOKEN, **headers: str) -> httpx.Response:
    given = {"content-type": "application/json"} | headers
    if token is not None:
        given["authorization"] = f"Bearer {token}"
    return httpx.post(f"{server.url}/score", content=content, headers=given, trust_env=False, timeout=20)


def refused(server: LiveServer, content: bytes, status: int, detail: str) -> None:
    answer = ask(server, content)
    assert (answer.status_code, answer.json()["detail"]) == (status, detail)


def request(*pictures: tuple[str, bytes | str], metadata: Any = None) -> dict[str, Any]:
    """A request with these pictures: (encoding, file bytes or the text to put in place of their base64)."""
    return {
        "reward": "bright",
        "samples": [
            {
                "id": f"s{i}",
                "group": "g",
                "prompt": {"id": "p", "text": "x", "metadata": metadata or {}},
                "picture": {
                    "encoding": encoding,
                    "data": data if isinstance(data, str) else base64.b64encode(data).decode(),
                },
            }
            for i, (encoding, data) in enumerate(pictures)
        ],
    }


def png(mode: str = "RGB", size: tuple[int, int] = (8, 8), color: object = None) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")  # type: ignore[arg-type]
    return buffer.getvalue()
