"""Whatever is sent to a live server: a clear 4xx or a failed item, a server that lives on, and memory with a bound."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import struct
import zlib
from typing import Any

import numpy as np
import pytest

from rewards.pictures import decode
from rl.data.pictures import PictureError
from tests.rewards.serve.fuzzing import MAX_BATCH, MAX_PIXELS, ask, png, refused, request
from tests.rewards.serve.live_server import LiveServer

pytestmark = pytest.mark.usefixtures("lives_on_in_little_memory")


def png_of_size(width: int, height: int, depth: int = 8) -> bytes:
    """A PNG whose header claims this size and is otherwise in order, its checksum too."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + png()[33:]


def npy(array: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy_with_header(header: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def test_good_and_bad_items_in_one_request(server: LiveServer) -> None:
    pickled = npy(np.array([print, 1], dtype=object))
    cases: list[tuple[str, bytes | str, str | None]] = [
        ("png", png(color=(255, 255, 255)), None),
        ("png", png()[:60], "the PNG can't be read: "),
        ("png", png_of_size(65_000, 65_000), "the picture has 4,225,000,000 pixels, more than the 10,000 that are"),
        ("npy", pickled, "the .npy array has dtype '|O', it must be '|u1' (uint8)"),
        ("npy", npy(np.full((4, 4, 3), 51, np.uint8)), None),
        ("npy", npy(np.zeros((4, 4, 3), np.float32)), "the .npy array has dtype '<f4', it must be '|u1' (uint8)"),
        ("npy", npy(np.zeros((4, 4), np.uint8)), "the .npy array has shape (4, 4), it must be (height, width, 3)"),
        ("png", "!!!", "the picture's data is not base64"),
    ]
    rows = ask(server, json.dumps(request(*[(e, d) for e, d, _ in cases])).encode()).json()["scores"]
    assert [row["id"] for row in rows] == [f"s{i}" for i in range(8)]
    assert [row["value"] for row in rows] == [1.0, None, None, None, pytest.approx(0.2), None, None, None]
    for row, (_, _, reason) in zip(rows, cases, strict=True):
        assert row["failure"] is None if reason is None else row["failure"].startswith(reason), row


def with_reference(*names: str, shared: dict[str, bytes], metadata: Any = None) -> dict[str, Any]:
    """A request whose n-th prompt has the n-th name as its reference, and what the request carries."""
    asked = request(*[("png", png())] * len(names), metadata=metadata)
    for row, name in zip(asked["samples"], names, strict=True):
        row["prompt"]["pictures"] = {"reference": name}
    carried = {
        name: {"encoding": "png", "data": base64.b64encode(content).decode()} for name, content in shared.items()
    }
    return asked | {"pictures": carried}


def test_a_bad_reference_fails_only_the_samples_that_name_it(server: LiveServer) -> None:
    shared = {"good": png(), "bad": png()[:60], "huge": png_of_size(65_000, 65_000)}
    rows = ask(server, json.dumps(with_reference("good", "bad", "huge", shared=shared)).encode()).json()["scores"]
    assert [row["value"] for row in rows] == [0.0, None, None]
    assert rows[0]["failure"] is None
    assert rows[1]["failure"].startswith("prompt 'p': its 'reference': the PNG can't be read: ")
    assert rows[2]["failure"].startswith("prompt 'p': its 'reference': the picture has 4,225,000,000 pixels, more than")


def test_a_bad_picture_of_a_prompt_fails_only_the_samples_of_that_prompt(server: LiveServer) -> None:
    asked = with_reference("good", "bad", shared={"good": png(), "bad": png()[:60]})
    for row in asked["samples"]:
        row["prompt"]["images"] = ["good", row["prompt"].pop("pictures")["reference"]]
    rows = ask(server, json.dumps(asked).encode()).json()["scores"]
    assert (rows[0]["value"], rows[0]["failure"], rows[1]["value"]) == (0.0, None, None)
    assert rows[1]["failure"].startswith("prompt 'p': its picture 2: the PNG can't be read: ")
    asked["samples"][0]["prompt"]["images"] = ["good"] * (MAX_BATCH + 1)
    detail = f"the request has {MAX_BATCH + 1} images, more than the {MAX_BATCH} that are accepted"
    refused(server, json.dumps(asked).encode(), 413, detail)


def test_references_are_carried_by_the_request_and_never_files(server: LiveServer) -> None:
    refused(
        server,
        json.dumps(request(("png", png()), metadata={"reference": "/etc/passwd"})).encode(),
        422,
        "prompt 'p': `metadata` has a 'reference', which must be a picture, and a server opens no files: put it in the "
        "request's `pictures` and its name there in the prompt's",
    )
    refused(
        server,
        json.dumps(with_reference("a", shared={"b": png()})).encode(),
        422,
        "prompt 'p': its 'reference' is 'a', which the request does not carry",
    )
    both = with_reference("a", shared={"a": png()}, metadata={"reference": None})
    detail = "prompt 'p': 'reference' is in its `pictures` and in its `metadata`"
    refused(server, json.dumps(both).encode(), 422, detail)
    large = {name: png(size=(99, 99)) for name in "ab"}
    refused(
        server,
        json.dumps(with_reference("a", "b", shared=large)).encode(),
        413,
        "the pictures of the request have 19,730 pixels together, more than the 10,000 that are accepted; send fewer "
        "at a time",
    )


BAD_PICTURES: list[tuple[str, bytes, str]] = [
    ("png", b"", "the picture is not a PNG"),
    ("png", b"GIF89a", "the picture is not a PNG"),
    ("png", png()[:20], "the PNG is cut short"),
    ("png", b"\x89PNG\r\n\x1a\n" + png()[33:] * 2, "the PNG does not begin with its header"),
    ("png", png_of_size(0, 8), "the picture is 0 x 8 and has no pixels"),
    ("npy", b"\x80\x04]", "the picture is not a .npy file"),
    ("npy", b"\x93NUMPY\x01\x00\x10", "the .npy file is cut short"),
    ("npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "the .npy header is not that of a plain array"),
    ("npy", npy_with_header("(" * 900), "the .npy header is not that of a plain array"),
    (
        "npy",
        npy_with_header("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1, 1, 3), }\n"),
        "the .npy",
    ),
    (
        "npy",
        npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (99, 99, 3), }\n", b"short"),
        "the .npy file holds 5 bytes of data for shape (99, 99, 3)",
    ),
    ("npy", npy(np.zeros((0, 4, 3), np.uint8)), "the picture is 4 x 0 and has no pixels"),
    ("npy", npy(np.zeros((4, 4, 4), np.uint8)), "the .npy array has shape (4, 4, 4), it must be (height, width, 3)"),
]


def test_every_bad_picture_says_what_is_wrong_with_it() -> None:
    for encoding, content, reason in BAD_PICTURES:
        with pytest.raises(PictureError, match=re.escape(reason)):
            decode(content, encoding, MAX_PIXELS)  # type: ignore[arg-type]
    whole = png(color=(1, 2, 3))
    for length in range(len(whole) - 4):  # the last four are the checksum of the empty last chunk
        with pytest.raises(PictureError):
            decode(whole[:length], "png", MAX_PIXELS)
    for lossless in (png("L"), png("P"), png("1"), png("RGBA", color=(0, 0, 0, 255)), png("LA", color=(0, 255))):
        assert decode(lossless, "png", 64).tolist() == np.zeros((8, 8, 3)).tolist()
    turned = npy(np.asfortranarray(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)))
    assert decode(turned, "npy", 4).ravel().tolist() == list(range(12))


def test_mutated_pictures_are_read_or_refused() -> None:
    rng = random.Random(0)
    whole = {"png": [png(size=(16, 16), color=(9, 8, 7)), png("P")], "npy": [npy(np.ones((4, 4, 3), np.uint8))]}
    read = 0
    for _ in range(3000):
        encoding = rng.choice(["png", "npy"])
        content = bytearray(rng.choice(whole[encoding]))
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] = rng.randrange(256)
        try:
            picture = decode(bytes(content[: rng.choice([None, rng.randrange(len(content))])]), encoding, MAX_PIXELS)  # type: ignore[arg-type]
        except PictureError as error:
            assert str(error)
        else:
            read += 1
            assert picture.dtype == np.uint8
            assert picture.shape[2:] == (3,)
    assert 0 < read < 3000
