from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from rewards.library.similarity import Similarity
from rewards.pictures import decode
from rewards.remote.client import Remote
from rewards.remote.request_pictures import PromptPictures, RequestPictures
from rewards.remote.wire import RequestError, RequestLimits, encode_sample, parse_request, to_sample
from rl.data.pictures import Picture
from rl.types import Prompt, Sample, Score
from tests.rewards.pool.test_pool import samples
from tests.rewards.remote.network import A, Wire, echo, many, offer, remote
from tests.rewards.serve.live_server import serving


def test_groups_stay_whole_in_requests_that_keep_to_the_limits() -> None:
    sent: list[list[str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/score":
            return offer(**limits)
        sent.append([row["id"] for row in json.loads(request.content)["samples"]])
        return echo(request)

    given = many(7)
    one = len(encode_sample(given[0], "npy", PromptPictures())) + 2
    for batch_size, limits, expected in (
        (4, {}, [4, 3]),
        (1, {}, [2, 2, 2, 1]),
        (32, {"max_batch": 3}, [3, 2, 2]),
        (32, {"max_pixels": 4 * 64}, [4, 3]),
        (32, {"max_bytes": 1024 + 5 * one}, [4, 3]),
        (32, {}, [7]),
    ):
        sent.clear()
        scores = remote(Wire(handler), A, batch_size=batch_size)(given)
        assert [score.value for score in scores] == [float(i) for i in range(7)]
        assert sorted(map(len, sent), reverse=True) == expected, (batch_size, limits)
    assert remote(Wire(handler), A)([]) == []


def test_metadata_that_is_no_json_fails_its_sample_only() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    given = [
        Sample("s1", "g", Prompt("p", "x", {"box": np.zeros(2)}), picture),
        Sample("s2", "g", Prompt("p", "x", {"n": float("nan")}), picture),
        Sample("s3", "g", Prompt("p", "x", {"n": [1, None, "é"]}), picture),
    ]
    first, second, third = remote(Wire(echo), A)(given)
    assert first.failure == "prompt 'p' can't be sent as JSON: Object of type ndarray is not JSON serializable"
    assert second.failure is not None
    assert second.failure.startswith("prompt 'p' can't be sent as JSON: Out of range float values")
    assert third.value == 3.0


def test_pictures_in_the_metadata_are_sent_once_and_references_by_path_too(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/score":
            bodies.append(json.loads(request.content))
        return echo(request)

    picture, other = np.zeros((8, 8, 3), np.uint8), np.full((4, 6, 3), 200, np.uint8)
    Image.fromarray(other).save(tmp_path / "before.png")
    by_path = Prompt("p", "x", {"reference": str(tmp_path / "before.png"), "n": 1})
    by_array = Prompt("q", "x", {"reference": other, "mask": picture, "n": 2})
    none = Prompt("r", "x", {"reference": None})
    given = [
        *(Sample(f"s{i}", "g", by_path, picture) for i in range(3)),
        Sample("s3", "h", by_array, picture),
        Sample("s4", "i", none, picture),
    ]
    assert [score.value for score in remote(Wire(handler), A)(given)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    (sent,) = bodies
    assert len(sent["pictures"]) == 2  # the file and the array are the same picture
    prompts = [row["prompt"] for row in sent["samples"]]
    assert prompts[0] == prompts[1] == prompts[2]
    assert [prompt["metadata"] for prompt in prompts[2:]] == [{"n": 1}, {"n": 2}, {"reference": None}]
    assert prompts[4]["pictures"] == {}
    assert prompts[3]["pictures"]["reference"] == prompts[0]["pictures"]["reference"] != prompts[3]["pictures"]["mask"]


def test_shared_pictures_count_towards_the_limits() -> None:
    sent: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/score":
            return offer(**limits)
        sent.append(len(json.loads(request.content)["samples"]))
        return echo(request)

    shared = {"reference": np.zeros((16, 16, 3), np.uint8)}
    given = [replace(sample, prompt=replace(sample.prompt, metadata=shared)) for sample in many(6)]
    (shared,) = RequestPictures("npy").of(given[0].prompt).all
    one = len(encode_sample(given[0], "npy", PromptPictures({"reference": shared}))) + 2
    for limits, expected in (
        ({"max_pixels": 4 * 64 + 256}, [4, 2]),
        ({"max_pixels": 4 * 64 + 255}, [2, 2, 2]),
        ({"max_bytes": 1024 + 4 * one + len(shared.data) + 128}, [4, 2]),
        ({"max_bytes": 1024 + 4 * one + len(shared.data)}, [2, 2, 2]),
    ):
        sent.clear()
        remote(Wire(handler), A)(given)
        assert sorted(sent, reverse=True) == expected, limits


def test_the_pictures_of_prompts_travel_once_and_arrive_in_order(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/score":
            bodies.append(request.content)
        return echo(request)

    rng = np.random.default_rng(0)
    cat, hat = (rng.integers(0, 256, (4, 6, 3), np.uint8) for _ in range(2))
    Image.fromarray(cat).save(tmp_path / "cat.png")
    edit = Prompt("p", "x", {"n": 1}, (Picture(tmp_path / "cat.png"), Picture(hat)), "p.jsonl:4")
    lost = Prompt("q", "x", pictures=(Picture(tmp_path / "dog.png"),))
    given = [*(Sample(f"s{i}", "g", edit, cat) for i in range(3)), Sample("s3", "h", lost, cat), *many(5)[4:]]
    scores = remote(Wire(handler), A)(given)
    assert [score.value for score in scores] == [0.0, 1.0, 2.0, None, 4.0]
    assert str(scores[3].failure).startswith(f"prompt 'q': the picture '{tmp_path}/dog.png' can't be read: [Errno 2]")
    (sent,) = (parse_request(body, RequestLimits()) for body in bodies)
    assert len(sent.pictures) == 2 and "images" not in json.loads(bodies[0])["samples"][3]["prompt"]
    decoded = {name: decode(one.content(), one.encoding, 100) for name, one in sent.pictures.items()}
    back = to_sample(sent.samples[1], cat, decoded).prompt
    assert [one.pixels.tolist() for one in back.pictures] == [cat.tolist(), hat.tolist()]
    assert [one.digest for one in back.pictures] == [one.digest for one in edit.pictures]
    assert (back.id, back.text, back.metadata, back.source) == ("p", "x", {"n": 1}, "")
    row = json.loads(bodies[0])
    row["samples"][0]["prompt"]["images"] = ["nowhere"]
    with pytest.raises(RequestError) as caught:
        parse_request(json.dumps(row).encode(), RequestLimits())
    assert (caught.value.status, str(caught.value)) == (
        422, "prompt 'p': its `images` name 'nowhere', which the request does not carry"
    )  # fmt: skip


def test_a_reference_that_cannot_be_read_fails_its_sample_only() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    wrong: list[object] = ["nowhere.png", np.zeros((2, 2), np.uint8), 7]
    given = [Sample(f"s{i}", f"g{i}", Prompt("p", "x", {"reference": one}), picture) for i, one in enumerate(wrong)]
    scores = remote(Wire(echo), A)([*given, Sample("s3", "g3", Prompt("p", "x"), picture)])
    assert [score.failure for score in scores] == [
        "prompt 'p': there is no reference file 'nowhere.png'",
        "prompt 'p': reference is a uint8 array of 2 x 2, it must be uint8 of H x W x 3",
        "prompt 'p': reference is of type int, it must be a path or a uint8 array",
        None,
    ]
    assert scores[3].value == 3.0


def test_an_edit_is_compared_with_its_reference_at_a_real_server(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, 256, (12, 12, 3), np.uint8) for _ in range(2))
    Image.fromarray(before).save(tmp_path / "before.png")
    given = [
        Sample("same", "g", Prompt("p", "x", {"reference": str(tmp_path / "before.png")}), before),
        Sample("other", "h", Prompt("q", "x", {"reference": before}), after),
        Sample("none", "i", Prompt("r", "x"), after),
    ]
    with serving("--reward", "similarity", "--option", "measure=ssim") as server:
        there = Remote([server.url], "similarity")(given)
    here = Similarity("ssim")(given)
    assert [score.value for score in there] == [score.value for score in here]
    assert there[0].value == 1.0 and there[2] == Score(None)


def test_an_edit_is_compared_with_its_prompts_picture_at_a_real_server(tmp_path: Path) -> None:
    before, after = (np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8) for seed in range(2))
    Image.fromarray(before).save(tmp_path / "before.png")
    edit = Prompt("p", "x", pictures=(Picture(tmp_path / "before.png"),))
    given = [Sample("same", "g", edit, before), Sample("other", "g", edit, after), *samples(1)]
    with serving("--reward", "similarity", "--option", "reference=picture") as server:
        there = Remote([server.url], "similarity")(given)
    here = Similarity(reference="picture")(given)
    assert [score.value for score in there] == [score.value for score in here]
    assert there[0].value == 1.0 and there[2] == Score(None)
