"""The ``remote`` reward: scores from one or several reward servers (``python -m rewards.serve``).

    rewards:
      ocr: {use: remote, options: {urls: ["http://10.0.0.7:8000"], reward: ocr, token_env: EASEL_TOKEN}}

Value, range and blind spots are those of the reward that is served. Groups are sent whole, several requests at a time,
to the servers that are live; ids are checked on the way back. What gets no answer is a failure with the reason, never
a zero. The prompts' pictures go along, and those in the metadata, a path under ``reference`` as the picture it names.
Attempts and pauses add up: ``reward_pool.timeout_s`` should be above ``(1 + retries) * timeout_s``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import get_args

from rewards.base import failures
from rewards.pictures import Encoding
from rewards.remote import wire
from rewards.remote.bearer import token_in
from rewards.remote.http import MOST_RETRIES, RetryingClient, is_address
from rewards.remote.request_pictures import RequestPicture, RequestPictures
from rewards.remote.servers import Endpoints, NoAnswer, Server, sentence
from rewards.requires import Requires
from rl.registry import did_you_mean, names
from rl.types import Sample, Score, UserError

_REQUESTS_PER_SERVER = 2  # one is scored while the next is decoded
_ENVELOPE = 1024  # bytes of a body around its samples
_LARGEST_ANSWER = 64 * 2**20  # bytes
_AROUND = 128  # bytes around a shared picture


class Remote:
    """Scores samples at reward servers.

    ``urls``: one or more servers of the same reward, asked in turn. ``reward``: its name there. ``token_env``: the
    environment variable with the servers' token. ``timeout_s``: for one request. ``retries``: 0 to 3, only for
    transport errors, 408, 429 and 5xx. ``batch_size``: samples a request, in whole groups (less where a server
    accepts less). ``encoding``: ``png``, or ``npy`` where the network is faster than compression.
    Environment variables for proxies are not looked at: a reward server is reached directly. A pool hands it whole
    groups, up to 128 samples at a time.
    """

    needs = {"whole_groups": True, "batch_size": 128}  # noqa: RUF012 - read from the source as it is written
    servers = ("urls",)
    answers = True  # whether the reward behind it judges them, its server knows
    requires = Requires(packages=("httpx",), note="needs a server: `python -m rewards.serve`")

    def __init__(
        self,
        urls: list[str],
        reward: str,
        token_env: str | None = None,
        timeout_s: float = 30.0,
        retries: int = 3,
        batch_size: int = 32,
        encoding: Encoding = "png",
    ) -> None:
        """Raises ``UserError`` if no server answers, one refuses the token, or one does not have the reward."""
        _check(urls, timeout_s, retries, batch_size, encoding)
        token = None if token_env is None else token_in(token_env, "`token_env`")
        client = RetryingClient(token=token, timeout_s=timeout_s, retries=retries, largest_answer=_LARGEST_ANSWER)
        self.reward, self.batch_size, self.encoding = reward, batch_size, encoding
        self._connect(Endpoints([url.rstrip("/") for url in urls], client))

    def _connect(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._limits = greet(endpoints, self.reward)
        self._threads = ThreadPoolExecutor(_REQUESTS_PER_SERVER * len(endpoints.servers), thread_name_prefix="remote")

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores in order; failures where no answer could be had."""
        scores: list[Score | None] = [None] * len(samples)
        rows: list[_Row] = []
        pictures = RequestPictures(self.encoding)
        encoded = self._threads.map(lambda at: self._encode(at, samples[at], pictures), range(len(samples)))
        for index, entry in enumerate(encoded):
            if isinstance(entry, Score):
                scores[index] = entry
            else:
                rows.append(entry)
        batches = list(pack(rows, self.batch_size, self._limits))
        for batch, answers in zip(batches, self._threads.map(self._score, batches), strict=True):
            for row, score in zip(batch, answers, strict=True):
                scores[row.index] = score
        return [score for score in scores if score is not None]

    def _encode(self, index: int, sample: Sample, pictures: RequestPictures) -> _Row | Score:
        try:
            shared = pictures.of(sample.prompt)
        except (ValueError, UserError) as error:
            return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
        try:
            encoded = wire.encode_sample(sample, self.encoding, shared)
        except ValueError as error:
            return Score(None, failure=str(error))
        return _Row(index, sample, encoded, shared.all)

    def _score(self, batch: Sequence[_Row]) -> list[Score]:
        body = wire.join_request(self.reward, [row.encoded for row in batch], _shared(batch), self.encoding)
        try:
            response = self._endpoints.post("/score", body)
        except NoAnswer as error:
            return failures(len(batch), str(error))
        try:
            return wire.parse_answer(response.content, [row.sample.id for row in batch])
        except ValueError as error:
            return failures(len(batch), f"the answer of {response.url.copy_with(path='/')} {error}")


@dataclass(frozen=True)
class _Row:
    index: int
    sample: Sample
    encoded: bytes
    shared: Sequence[RequestPicture]


def _shared(rows: Sequence[_Row]) -> Collection[RequestPicture]:
    """What the rows carry together, each picture once."""
    return {picture.name: picture for row in rows for picture in row.shared}.values()


def pack(rows: Sequence[_Row], batch_size: int, limits: wire.RequestLimits) -> Iterator[list[_Row]]:
    """``rows`` in requests of at most ``batch_size`` samples that keep to the servers' limits.

    A group is never divided: one that is larger on its own is a request of its own.
    """
    largest = (min(batch_size, limits.max_batch), limits.max_bytes - _ENVELOPE, limits.max_pixels)
    batch: list[_Row] = []
    for _, members in groupby(rows, key=lambda row: row.sample.group):
        group = list(members)
        if batch and any(size > most for size, most in zip(_size([*batch, *group]), largest, strict=True)):
            yield batch
            batch = []
        batch += group
    if batch:
        yield batch


def _size(rows: Sequence[_Row]) -> tuple[int, int, int]:
    """Samples, bytes, pixels."""
    height_width = [row.sample.picture.shape[:2] for row in rows]
    shared = _shared(rows)
    length = sum(len(row.encoded) + 2 for row in rows) + sum(len(one.data) + _AROUND for one in shared)
    pixels = sum(height * width for height, width in height_width) + sum(one.pixels for one in shared)
    return len(rows), length, pixels


def greet(endpoints: Endpoints, reward: str) -> wire.RequestLimits:
    """The limits that hold at all servers that answer. Raises ``UserError`` if none does or one cannot be used."""
    problems, limits = [], []
    for server in endpoints.servers:
        try:
            limits.append(_offer(endpoints, server, reward).limits)
        except NoAnswer as error:
            problems.append(str(error))
    if not limits:
        served = reward if reward in names("rewards") else f"{reward}=MODULE:ATTRIBUTE"
        raise UserError(
            f"no reward server answers ({'; '.join(problems)}); correct `urls`, or start one that offers {reward!r} "
            f"and wait until it says `serving`: `python -m rewards.serve --reward {served}`"
        )
    return wire.RequestLimits(
        max_bytes=min(limit.max_bytes for limit in limits),
        max_pixels=min(limit.max_pixels for limit in limits),
        max_batch=min(limit.max_batch for limit in limits),
    )


def _offer(endpoints: Endpoints, server: Server, reward: str) -> wire.Offer:
    response = endpoints.get(server, "/rewards")
    if response.status_code == 401:
        raise UserError(f"{server.url} answered {sentence(response)}; set `token_env` to a variable with its token")
    if response.status_code != 200:
        raise NoAnswer(f"{server.url} answered {sentence(response)}")
    try:
        offer = wire.parse_offer(response.content)
    except ValueError as error:
        raise UserError(f"the answer of {server.url}/rewards {error}; correct `urls`") from error
    if reward not in offer.rewards:
        near = did_you_mean(reward, offer.rewards)
        raise UserError(f"{server.url} has no reward {reward!r}{near} (it has: {', '.join(offer.rewards)})")
    return offer


def _check(urls: object, timeout_s: float, retries: int, batch_size: int, encoding: str) -> None:
    if not isinstance(urls, list) or not urls:
        raise UserError(f"`urls` is {urls!r}; it must be a list of servers such as [http://127.0.0.1:8000]")
    for url in urls:
        if not is_address(url):
            raise UserError(f"`urls`: {url!r} is not an address such as http://127.0.0.1:8000")
    if type(retries) is not int or not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"`retries` is {retries!r}; it must be 0, 1, 2 or 3")
    if type(batch_size) is not int or batch_size < 1:
        raise UserError(f"`batch_size` is {batch_size!r}; it must be a whole number from 1")
    if not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
        raise UserError(f"`timeout_s` is {timeout_s!r}; it must be a number of seconds above 0")
    if encoding not in get_args(Encoding):
        raise UserError(f"`encoding` is {encoding!r}; it must be png or npy")
