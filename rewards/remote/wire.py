"""What a reward server and its client say to each other: JSON, with pictures inside as base64 of a PNG or a .npy file.

``POST /score`` takes a ``ScoreRequest`` and answers a ``ScoreAnswer`` with the same ids in the same order. Both sides
check what they receive with these models; a float is always finite. ``GET /rewards`` answers an ``Offer``. The prompts'
pictures, and those in their metadata, are sent once beside the samples (``rewards.remote.request_pictures``).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rewards import pictures
from rewards.pictures import Encoding
from rewards.reference import REFERENCE
from rewards.remote.request_pictures import PromptPictures, RequestPicture
from rl.data.pictures import Picture, PictureError
from rl.types import Prompt, Sample, Score, WrittenAnswer


def _finite(value: JsonValue) -> JsonValue:
    """``value`` itself, if no number in it is nan or inf."""
    if isinstance(value, float) and not math.isfinite(value):
        raise PydanticCustomError("not_finite", "holds a number that is not finite")
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _finite(item)
    return value


def _few(value: object, info: ValidationInfo) -> object:
    """``value`` itself, if a request may have that many samples or pictures. Raises ``RequestError`` 413."""
    assert info.context is not None  # `parse_request` gives the limits
    most = info.context.max_batch
    if isinstance(value, (list, dict)) and len(value) > most:
        raise RequestError(
            413, f"the request has {len(value)} {info.field_name}, more than the {most} that are accepted"
        )
    return value


Text = Annotated[str, Field(min_length=1)]
JsonObject = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
_MOST_VALUES = 2**20  # JSON values in a body: each takes some 100 bytes of memory and may be 2 bytes long


class RequestError(Exception):
    """A request that cannot be answered: the HTTP status and one sentence for its sender."""

    def __init__(self, status: int, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.retry_after_s = status, detail, retry_after_s


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        """One error for any number of unknown keys; pydantic keeps one for each."""
        unknown = next((key for key in value if key not in cls.model_fields), None) if isinstance(value, dict) else None
        if unknown is not None:
            raise PydanticCustomError("unknown_key", "has an unknown key {key}", {"key": repr(unknown[:80])})
        return value


class PromptIn(_Message):
    id: Text
    text: str
    metadata: JsonObject = Field(default_factory=dict)
    pictures: Annotated[dict[Text, Text], BeforeValidator(_few)] = Field(
        default_factory=dict,
        description="metadata entries that are pictures, such as `reference`: the names they have in the request",
    )
    images: Annotated[list[Text], BeforeValidator(_few)] = Field(
        default_factory=list, description="the prompt's own pictures, in order: the names they have in the request"
    )


class PictureIn(_Message):
    encoding: Encoding
    data: str = Field(description="base64 of a PNG file, or of a .npy file with a uint8 array (height, width, 3)")

    def content(self) -> bytes:
        """The file's bytes. Raises ``PictureError`` if ``data`` is not base64."""
        try:
            return base64.b64decode(self.data, validate=True)
        except ValueError as error:
            raise PictureError("the picture's data is not base64") from error


class AnswerIn(_Message):
    text: str
    complete: bool = Field(default=True, description="false: cut off before it said that it had ended")


class SampleIn(_Message):
    id: Text
    group: Text = Field(description="samples of one group belong to one prompt and are scored together")
    prompt: PromptIn
    picture: PictureIn
    answer: AnswerIn | None = Field(default=None, description="words that were written; absent for pictures")


class ScoreRequest(_Message):
    reward: Text
    samples: Annotated[list[SampleIn], Field(fail_fast=True), BeforeValidator(_few)]
    pictures: Annotated[dict[Text, PictureIn], BeforeValidator(_few)] = Field(
        default_factory=dict, description="pictures that prompts share, by any names that the request gives them"
    )


class ScoreOut(_Message):
    """A value; or not applicable (neither value nor failure); or a failure with its reason, never a 0 for it."""

    id: str
    value: float | None
    passed: float | None
    failure: str | None
    details: JsonObject


class ScoreAnswer(_Message):
    reward: str
    scores: list[ScoreOut] = Field(fail_fast=True)


class RequestLimits(_Message):
    """What one request may hold: bytes of its body, pixels of all its pictures together, samples."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 64 * 2**20
    max_batch: int = 256


class Offered(_Message):
    use: str
    options: JsonObject


class Offer(_Message):
    """The rewards that a server has, by name, and its limits."""

    rewards: dict[str, Offered]
    limits: RequestLimits


def parse_request(body: bytes | bytearray, limits: RequestLimits) -> ScoreRequest:
    """Raises ``RequestError``: 400 not JSON, 422 not the schema or an id twice, 413 more than is accepted."""
    values = 1 + sum(body.count(sign) for sign in (b",", b"[", b"{"))  # at least as many as there are
    if values > _MOST_VALUES:
        raise RequestError(413, f"the body may have {values:,} JSON values, more than the {_MOST_VALUES:,} accepted")
    try:
        request = ScoreRequest.model_validate_json(body, context=limits)
    except ValidationError as error:
        kind, sentence = _first(error)
        status = 400 if kind == "json_invalid" else 422
        raise RequestError(status, f"the body is not a request for scores: {sentence}") from None
    ids = set[str]()
    for sample in request.samples:
        if sample.id in ids:
            raise RequestError(422, f"two samples of the request have the id {sample.id[:80]!r}")
        ids.add(sample.id)
        _check_pictures(sample.prompt, request.pictures)
    return request


def _check_pictures(prompt: PromptIn, pictures: Mapping[str, PictureIn]) -> None:
    where = f"prompt {prompt.id[:80]!r}"
    if prompt.metadata.get(REFERENCE) is not None:
        raise RequestError(
            422,
            f"{where}: `metadata` has a {REFERENCE!r}, which must be a picture, and a server opens no files: put it in "
            f"the request's `pictures` and its name there in the prompt's",
        )
    for key, name in prompt.pictures.items():
        if name not in pictures:
            raise RequestError(422, f"{where}: its {key[:80]!r} is {name[:80]!r}, which the request does not carry")
        if key in prompt.metadata:
            raise RequestError(422, f"{where}: {key[:80]!r} is in its `pictures` and in its `metadata`")
    for name in prompt.images:
        if name not in pictures:
            raise RequestError(422, f"{where}: its `images` name {name[:80]!r}, which the request does not carry")


def encode_sample(sample: Sample, encoding: Encoding, shared: PromptPictures) -> bytes:
    """One element of ``ScoreRequest.samples``; ``shared``: the pictures of its prompt, carried beside it.

    Raises ``ValueError`` if the other metadata cannot be written as JSON.
    """
    prompt: dict[str, object] = {
        "id": sample.prompt.id,
        "text": sample.prompt.text,
        "metadata": {key: value for key, value in sample.prompt.metadata.items() if key not in shared.metadata},
        "pictures": {key: picture.name for key, picture in shared.metadata.items()},
    }
    if shared.images:  # an older server, which takes text alone, does not know the key
        prompt["images"] = [picture.name for picture in shared.images]
    row: dict[str, object] = {
        "id": sample.id,
        "group": sample.group,
        "prompt": prompt,
        "picture": {
            "encoding": encoding,
            "data": base64.b64encode(pictures.encode(sample.picture, encoding)).decode("ascii"),
        },
    }
    if sample.answer is not None:  # as above
        row["answer"] = {"text": sample.answer.text, "complete": sample.answer.complete}
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # a numpy array, NaN, half a surrogate pair
        raise ValueError(f"prompt {sample.prompt.id!r} can't be sent as JSON: {error}") from error


def join_request(reward: str, rows: Sequence[bytes], shared: Collection[RequestPicture], encoding: Encoding) -> bytes:
    """The body of a ``ScoreRequest`` from encoded samples and the pictures that their prompts share."""
    pictures = {picture.name: {"encoding": encoding, "data": picture.data} for picture in shared}
    return b'{"reward": %s, "samples": [%s], "pictures": %s}' % (
        json.dumps(reward).encode(),
        b", ".join(rows),
        json.dumps(pictures).encode(),
    )


def answer_json(reward: str, ids: Sequence[str], scores: Sequence[Score]) -> bytes:
    """The body of a ``ScoreAnswer``. Numbers in the details that JSON has no word for become null."""
    rows = [
        {
            "id": identity,
            "value": score.value,
            "passed": score.passed,
            "failure": json_safe(score.failure),
            "details": json_safe(score.details),
        }
        for identity, score in zip(ids, scores, strict=True)
    ]
    return json.dumps({"reward": reward, "scores": rows}, allow_nan=False).encode()


def parse_answer(body: bytes, ids: Sequence[str]) -> list[Score]:
    """The scores of ``ids``, in order. Raises ``ValueError`` if it is no answer or one for other samples."""
    try:
        answer = ScoreAnswer.model_validate_json(body)
    except ValidationError as error:
        raise ValueError(f"is no answer of a reward server: {_first(error)[1]}") from None
    got = [score.id for score in answer.scores]
    if got != list(ids):
        raise ValueError(f"is for other samples than were sent ({_difference(got, ids)})")
    return [_score(row) for row in answer.scores]


def parse_offer(body: bytes) -> Offer:
    """Raises ``ValueError`` if it is not what a reward server says at ``/rewards``."""
    try:
        return Offer.model_validate_json(body)
    except ValidationError as error:
        raise ValueError(f"is not that of a reward server: {_first(error)[1]}") from None


def to_sample(sample: SampleIn, picture: NDArray[np.uint8], shared: Mapping[str, NDArray[np.uint8]]) -> Sample:
    """The live sample, with its decoded picture and those that its prompt names."""
    asked = sample.prompt
    metadata = asked.metadata | {key: shared[name] for key, name in asked.pictures.items()}
    images = tuple(Picture(shared[name]) for name in asked.images)
    answer = None if sample.answer is None else WrittenAnswer(sample.answer.text, sample.answer.complete)
    return Sample(sample.id, sample.group, Prompt(asked.id, asked.text, metadata, images), picture, answer)


def _score(row: ScoreOut) -> Score:
    if row.failure is not None:
        return Score(None, failure=row.failure, details=row.details)
    return Score(row.value, details=row.details, passed=row.passed)


def _difference(got: Sequence[str], asked: Sequence[str]) -> str:
    if len(got) != len(asked):
        return f"{len(got)} scores for {len(asked)} samples"
    place = next(i for i, pair in enumerate(zip(got, asked, strict=True)) if pair[0] != pair[1])
    return f"{got[place][:80]!r} instead of {asked[place][:80]!r}"


def _first(error: ValidationError) -> tuple[str, str]:
    """The first thing wrong: its kind, and a sentence such as ``samples[3].prompt.text: Field required``."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    return first["type"], f"{path[:120]}: {first['msg'][:160]}" if path else first["msg"][:200]


def json_safe(value: object) -> object:
    """Plain data as JSON can carry it: null for nan and inf, a question mark for half a surrogate pair."""
    if isinstance(value, Mapping):
        return {json_safe(str(key)): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value
