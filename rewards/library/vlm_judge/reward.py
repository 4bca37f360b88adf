"""The ``vlm_judge`` reward: a vision-language model behind an OpenAI-compatible chat endpoint looks at the picture.

**Formulas**, in [0, 1]:

- ``mode: yes_no`` (default): ``P(yes) / (P(yes) + P(no))`` at the first token of the answer (leading blanks skipped),
  each summed over the spellings of case and space among the 20 likeliest tokens (VQAScore, arXiv 2404.01291, has P(yes)
  alone). Passed: at least 0.5. ``logprobs: false``, for servers without them: 1 for the word yes, 0 for no.
- ``mode: rubric``: each of ``criteria`` (a mapping from name to sentence) is graded with a whole number in ``scale``;
  the value is the mean of ``(grade - low) / (high - low)``. The answer is asked for by JSON schema and checked against
  it here. No pass or fail.
- ``mode: stated``: ``(number - low) / (high - low)`` of the number that the judge states in ``scale``, found by the
  regular expression ``answer`` (its last match, one group; by default after ``Final Score:``). ``question`` must be
  given. No pass or fail.
- ``mode: atoms``: the metadata key ``questions`` (by default ``vqa_list``) holds ``[[question, right answer], ...]``,
  right answers being yes, no or a number from 0 to 9; the value is the ``mean`` (geometric, the default, or arithmetic)
  of P(right answer) at the first token of each answer, a word or its digit. ``question`` is put around each as
  ``{question}``. One request an atom. No pass or fail.

``source: true`` is for edits: the judge gets two pictures, the one that was to be changed (the prompt's own first) and
the answer, before the words; ``{prompt}`` is the instruction. A prompt without a picture is then not applicable.
``metadata: {requirement: ...}`` of a prompt can be asked about as ``{requirement}``. Start the server for two pictures:
``--limit-mm-per-prompt '{"image": 2}'``.

``configs/rewards/unified_reward.yaml`` and ``geneval2_judge.yaml`` are such judges, with their cards.

An answer that does not fit is asked for once more, with what was wrong with it, then the sample fails. ``question``
and ``criteria`` are templates: ``{prompt}`` and the keys of the prompt's metadata; a prompt without such a key is not
applicable.

**Blind to** what the judge is blind to: counts above four or five, left and right, small text. It prefers pictures in
its own training's taste, can be talked to by text painted into the picture, and changes with the served version. Where
``p_yes + p_no`` in the details is small, the question was not understood. Judges that think aloud first are not served.

**Licence and weights** are the served model's. Qwen2.5-VL-7B-Instruct is Apache-2.0:
``vllm serve Qwen/Qwen2.5-VL-7B-Instruct --limit-mm-per-prompt '{"image": 1}'``, then ``url: http://localhost:8000/v1``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import JsonValue

from rewards.cache import TextCache, read_score, write_score
from rewards.golden import Golden
from rewards.library.vlm_judge.atoms import Atoms
from rewards.library.vlm_judge.endpoint import Endpoint, EndpointFailed
from rewards.library.vlm_judge.question import EDIT_YES_NO, YES_NO, Judgement, Malformed, Question, Rubric, YesNo
from rewards.library.vlm_judge.stated import StatedScore
from rewards.remote.http import MOST_RETRIES
from rewards.requires import Requires
from rl.data.pictures import Picture
from rl.types import Prompt, Sample, Score, UserError

_CACHE_FORMAT = 2  # raised when the same answer would be scored otherwise
_CACHE_MB = 1024
_MODES = ("yes_no", "rubric", "stated", "atoms")
_ONLY_IN = {"criteria": "rubric", "answer": "stated", "questions": "atoms", "mean": "atoms"}


class VlmJudge:
    """Scores pictures by asking. Needs the network and no GPU of its own; thread-safe.

    ``url``: of the server, with ``/v1``. ``model``: as the server names it. ``token_env``: the environment variable
    with the API key. ``timeout_s``: for one request. A question is asked once or twice, each time with ``retries``: if
    the server hangs, a batch of B takes up to ``ceil(B / concurrency) * 2 * (retries + 1) * timeout_s``, and more with
    pauses (0.5, 1, 2 s, or up to 60 s if the server says so in Retry-After) or at a low ``max_requests_per_second``;
    in ``mode: atoms`` that often for every atom.
    Keep ``reward_pool.timeout_s`` above that. The limits on rate and ``concurrency`` hold per worker. ``cache``: a
    folder that keeps answers by server, model, picture and question, 1 GiB at most; failures are not kept.
    ``max_side``: larger pictures are sent scaled down to it, in pixels.

    Raises ``UserError`` at construction if the server does not answer or does not have the model.
    """

    servers = ("url",)
    requires = Requires(
        part="chat endpoint",
        packages=("httpx",),
        note="needs a server, such as `vllm serve Qwen/Qwen2.5-VL-7B-Instruct`",
    )

    def __init__(
        self,
        url: str,
        model: str,
        mode: Literal["yes_no", "rubric", "stated", "atoms"] = "yes_no",
        question: str | None = None,
        criteria: Mapping[str, str] | None = None,
        scale: Sequence[int] = (1, 5),
        answer: str | None = None,
        questions: str | None = None,
        mean: Literal["geometric", "arithmetic"] | None = None,
        logprobs: bool = True,
        token_env: str | None = None,
        timeout_s: float = 15.0,
        retries: int = 2,
        max_requests_per_second: float | None = None,
        concurrency: int = 8,
        cache: str | None = None,
        max_side: int = 1024,
        source: bool = False,
        seed: int = 0,
    ) -> None:
        _check_numbers(timeout_s, retries, max_requests_per_second, concurrency, max_side)
        if not isinstance(source, bool):
            raise UserError(f"vlm_judge.options.source is {source!r}: it must be true or false")
        _check_mode(mode, {"criteria": criteria, "answer": answer, "questions": questions, "mean": mean}, logprobs)
        self._asks: Question | Atoms
        if mode == "atoms":
            self._asks = Atoms(questions, question, mean, logprobs=logprobs)
        elif mode == "stated":
            self._asks = StatedScore(question, answer, scale)
        elif mode == "rubric":
            self._asks = Rubric(question, criteria, scale)
        else:
            self._asks = YesNo(question, logprobs=logprobs, default=EDIT_YES_NO if source else YES_NO)
        self._knows_red = mode in ("yes_no", "atoms") and question is None
        self._source = source
        self._fields: dict[str, JsonValue] = {"temperature": 0, "seed": seed}
        self._max_side = max_side
        self._endpoint = Endpoint(
            url,
            model,
            token_env=token_env,
            timeout_s=timeout_s,
            retries=retries,
            max_requests_per_second=max_requests_per_second,
        )
        self._cache = None if cache is None else TextCache(cache, _CACHE_MB, where="vlm_judge.options.cache")
        self._endpoint.check()
        self._threads = ThreadPoolExecutor(concurrency, thread_name_prefix="judge")

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """B scores; a sample whose question got no usable answer is a failure with the reason.

        Details: ``answer``, ``p_yes``, ``p_no`` or ``grades``; ``asked`` (1 or 2 times) and ``cached``.
        """
        return list(self._threads.map(self._score, samples))

    def golden(self) -> list[Golden]:
        """A red disc and none, if the question is the default one; else one picture that must get any answer.

        Nothing if the question needs metadata. A server without log-probs is found out here, before the run.
        """
        paper = np.full((256, 256, 3), 255, np.uint8)
        prompt = Prompt("golden", "a red circle")
        if self._source:
            prompt = Prompt("golden", "add a red circle", pictures=(Picture(paper),))
        if isinstance(self._asks, Atoms):
            prompt = replace(prompt, metadata={self._asks.key: [["Is there a red circle in the picture?", "yes"]]})
        if any(question.ask(prompt) is None for question in self._questions(prompt)):
            return []
        rows, columns = np.ogrid[:256, :256]
        disc = np.where(
            ((rows - 128) ** 2 + (columns - 128) ** 2 < 80**2)[..., None], np.array([220, 20, 20], np.uint8), paper
        )
        red = Sample("red disc", "golden", prompt, disc)
        if not self._knows_red:
            return [Golden(red)]
        return [Golden(red, at_least=0.5), Golden(replace(red, id="nothing", picture=paper), at_most=0.5)]

    def _questions(self, prompt: Prompt) -> Sequence[Question]:
        return self._asks.of(prompt) if isinstance(self._asks, Atoms) else [self._asks]

    def _score(self, sample: Sample) -> Score:
        try:
            questions = self._questions(sample.prompt)
        except Malformed as error:
            return Score(None, failure=str(error))
        scores = [self._ask(question, sample) for question in questions]
        if not scores:
            return Score(None)
        return self._asks.together(scores) if isinstance(self._asks, Atoms) else scores[0]

    def _ask(self, question: Question, sample: Sample) -> Score:
        text = question.ask(sample.prompt)
        if text is None:
            return Score(None)
        try:
            shown = self._shown(sample)
        except UserError as error:
            return Score(None, failure=f"prompt {sample.prompt.id!r}: {error}")
        if shown is None:
            return Score(None)
        key = self._key(question, text, shown)
        known = None if self._cache is None else self._cache.get(key)
        if known is not None and (kept := read_score(known)) is not None:
            return replace(kept, details={**kept.details, "cached": True})
        try:
            judgement = self._judge(question, text, shown)
        except EndpointFailed as error:
            return Score(None, failure=str(error))
        except Malformed as error:
            return Score(None, failure=f"no usable answer, asked twice: {error}")
        score = Score(judgement.value, details=judgement.details, passed=judgement.passed)
        if self._cache is not None:
            self._cache.put({key: write_score(score)})
        return replace(score, details={**score.details, "cached": False})

    def _shown(self, sample: Sample) -> list[NDArray[np.uint8]] | None:
        """What the judge looks at, in order; ``None``: there is no picture that was to be changed.

        Raises: UserError if that can't be read."""
        if not self._source:
            return [sample.picture]
        return [sample.prompt.pictures[0].pixels, sample.picture] if sample.prompt.pictures else None

    def _judge(self, question: Question, text: str, pictures: Sequence[NDArray[np.uint8]]) -> Judgement:
        urls = [data_url(picture, self._max_side) for picture in pictures]
        parts: list[JsonValue] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        messages: list[JsonValue] = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
        fields = {**question.request, **self._fields}
        reply = self._endpoint.complete({"messages": messages, **fields})
        try:
            judgement, asked = question.read(reply), 1
        except Malformed as error:
            # At temperature 0 the same question has the same answer, so the second one says what was wrong.
            complaint = f"That answer does not fit: {error}. {question.reminder}"
            messages += [{"role": "assistant", "content": reply.text}, {"role": "user", "content": complaint}]
            reply = self._endpoint.complete({"messages": messages, **fields})
            judgement, asked = question.read(reply), 2
        return Judgement(judgement.value, {**judgement.details, "asked": asked}, judgement.passed)

    def _key(self, question: Question, text: str, pictures: Sequence[NDArray[np.uint8]]) -> str:
        asked = [
            _CACHE_FORMAT,
            self._endpoint.url,
            self._endpoint.model,
            text,
            {**question.request, **self._fields},
            *question.reads,
            self._max_side,
            *(picture.shape for picture in pictures),
        ]
        pixels = b"".join(picture.tobytes() for picture in pictures)
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode() + pixels).hexdigest()


def data_url(picture: NDArray[np.uint8], max_side: int) -> str:
    """The (H, W, 3) uint8 RGB picture as a PNG in a data URL, its longer side at most ``max_side`` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)  # never enlarges
    png = io.BytesIO()
    image.save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def _check_mode(mode: str, given: Mapping[str, object], logprobs: object) -> None:
    if mode not in _MODES:
        raise UserError(f"vlm_judge.options.mode is {mode!r}: it must be {', '.join(map(repr, _MODES))}")
    for option, value in given.items():
        if value is not None and mode != _ONLY_IN[option]:
            raise UserError(
                f"vlm_judge.options.{option} belongs to `mode: {_ONLY_IN[option]}`, and the mode is {mode!r}; "
                "set one or drop one"
            )
    if not isinstance(logprobs, bool):
        raise UserError(f"vlm_judge.options.logprobs is {logprobs!r}: it must be true or false")


def _check_numbers(
    timeout_s: object, retries: object, max_requests_per_second: object, concurrency: object, max_side: object
) -> None:
    """Raises ``UserError`` about the first that is no number or out of range."""
    if type(retries) is not int or not 0 <= retries <= MOST_RETRIES:
        raise UserError(f"vlm_judge.options.retries is {retries!r}: it must be 0, 1, 2 or 3")
    for option, whole in {"concurrency": concurrency, "max_side": max_side}.items():
        if type(whole) is not int or whole < 1:
            raise UserError(f"vlm_judge.options.{option} is {whole!r}: it must be a whole number of at least 1")
    rate = 1 if max_requests_per_second is None else max_requests_per_second
    for option, number in {"timeout_s": timeout_s, "max_requests_per_second": rate}.items():
        if type(number) not in (int, float) or not 0 < number < float("inf"):  # type: ignore[operator]
            raise UserError(f"vlm_judge.options.{option} is {number!r}: it must be a number above 0")
