"""Many small questions about one picture, taken from the prompt's metadata with their right answers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from pydantic import JsonValue

from rewards.library.vlm_judge.endpoint import Reply
from rewards.library.vlm_judge.question import TOP_LOGPROBS, Judgement, Malformed, Template, first_words, quoted
from rl.types import Prompt, Score, UserError

ATOM = "{question} Answer with one word, a number as a word."
_DIGITS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# Words that a tokenizer keeps in one piece: of a longer one, the first token would not say which word it begins.
_SPELLINGS: Final = {word: {word, str(digit)} for digit, word in enumerate(_DIGITS)} | {"yes": {"yes"}, "no": {"no"}}
_KNOWN: Final = set().union(*_SPELLINGS.values())


class Atom:
    """The probability of the right answer at the first token; without ``logprobs``, 1 if it is the first word."""

    reminder = "Answer with one word: yes, no or a number."

    def __init__(self, template: Template, question: str, answer: str, *, logprobs: bool) -> None:
        self._template, self._question, self._answer = template, question, answer
        self._logprobs = logprobs
        self.reads: Sequence[JsonValue] = (answer,)
        self.request: Mapping[str, JsonValue] = {"max_tokens": 8}
        if logprobs:
            self.request = {"max_tokens": 4, "logprobs": True, "top_logprobs": TOP_LOGPROBS}

    def ask(self, prompt: Prompt) -> str | None:
        return self._template.fill(replace(prompt, metadata={**prompt.metadata, "question": self._question}))

    def read(self, reply: Reply) -> Judgement:
        if self._logprobs:
            words = first_words(reply, "set `logprobs: false`, which counts right answers alone")
        else:
            words = [(word.casefold(), 1.0) for word in re.findall(r"\w+", reply.text)[:1]]
        if not any(word in _KNOWN for word, _ in words):  # it says something else: no verdict on the picture
            raise Malformed(f"{quoted(reply.text)} begins with neither yes nor no nor a number")
        value = min(1.0, math.fsum(p for word, p in words if word in _SPELLINGS[self._answer]))
        return Judgement(value, {"question": self._question, "right": self._answer, "answer": reply.text, "p": value})


class Atoms:
    """Reads ``[[question, right answer], ...]`` at the metadata key ``key`` and takes the mean of the answers."""

    def __init__(self, key: object, question: str | None, mean: object, *, logprobs: bool) -> None:
        key = "vqa_list" if key is None else key
        mean = "geometric" if mean is None else mean
        if not isinstance(key, str) or not key:
            raise UserError(
                f"vlm_judge.options.questions is {key!r}: it must be the key of the prompts' metadata that holds "
                "[[question, right answer], ...], such as vqa_list"
            )
        if mean not in ("geometric", "arithmetic"):
            raise UserError(f"vlm_judge.options.mean is {mean!r}: it must be 'geometric' or 'arithmetic'")
        self.key = key
        self._geometric = mean == "geometric"
        self._template = Template(ATOM if question is None else question, "question")
        self._logprobs = logprobs

    def of(self, prompt: Prompt) -> list[Atom]:
        """None if the prompt has none. Raises ``Malformed`` if what it has can't be asked."""
        rows = prompt.metadata.get(self.key) or []
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise Malformed(f"`{self.key}` is {rows!r}: it must be [[question, right answer], ...]")
        return [self._atom(row, number) for number, row in enumerate(rows, start=1)]

    def _atom(self, row: object, number: int) -> Atom:
        pair = list(row) if isinstance(row, Sequence) and not isinstance(row, str) else []
        if len(pair) != 2 or not all(isinstance(text, str | int) and not isinstance(text, bool) for text in pair):
            raise Malformed(f"`{self.key}` {number} is {row!r}: it must be [question, right answer]")
        question, answer = (str(text).strip() for text in pair)
        for word, spellings in _SPELLINGS.items():
            if answer.casefold() in spellings:
                return Atom(self._template, question, word, logprobs=self._logprobs)
        raise Malformed(f"`{self.key}` {number}: the right answer {answer!r} must be yes, no or a number from 0 to 9")

    def together(self, scores: Sequence[Score]) -> Score:
        """The mean over all atoms; a failure if one failed."""
        for number, score in enumerate(scores, start=1):
            if score.failure is not None:
                return Score(None, failure=f"`{self.key}` {number}: {score.failure}")
        values = [score.value for score in scores if score.value is not None]
        if len(values) != len(scores):
            return Score(None)  # the question's template names a key that the prompt lacks
        value = _geometric(values) if self._geometric else math.fsum(values) / len(values)
        return Score(value, details={"atoms": [dict(score.details) for score in scores]})


def _geometric(values: Sequence[float]) -> float:
    return 0.0 if min(values) == 0 else math.exp(math.fsum(map(math.log, values)) / len(values))
