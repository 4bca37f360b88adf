"""What a judge is asked and how its answer is read: a yes-or-no question, or a rubric of graded criteria."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Annotated, Any, Protocol

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rewards.library.vlm_judge.endpoint import EndpointFailed, Reply
from rl.types import Prompt, UserError

YES_NO = "Does this picture show: {prompt}? Answer yes or no."
EDIT_YES_NO = (
    "The first picture was to be changed as follows: {prompt}. Does the second picture show exactly this change, with "
    "all else as it was? Answer yes or no."
)
RUBRIC = "This picture was made for the request: {prompt}"
TOP_LOGPROBS = 20  # the most that OpenAI and vLLM give


class Malformed(Exception):
    """The answer does not fit the question; the message says why. It is asked once more."""


@dataclass(frozen=True)
class Judgement:
    """A judged picture: the value in [0, 1], what it came from, and 1 or 0 if the question has a pass and a fail."""

    value: float
    details: Mapping[str, object]
    passed: float | None = None


class Question(Protocol):
    """One way to ask."""

    reminder: str  # said with the second asking
    request: Mapping[str, JsonValue]  # fields of the chat completion beside the messages
    reads: Sequence[JsonValue]  # beside these and the words, what the value of an answer depends on

    def ask(self, prompt: Prompt) -> str | None:
        """The words for this prompt; None if its metadata lacks a key that they need."""
        ...

    def read(self, reply: Reply) -> Judgement:
        """Raises ``Malformed``, or ``EndpointFailed`` if asking again is of no use."""
        ...


class Template:
    """A text with ``{prompt}`` and ``{key}`` of the prompt's metadata in it. ``{{`` stands for a brace."""

    def __init__(self, text: object, option: str) -> None:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"vlm_judge.options.{option} is {text!r}: it must be a text")
        try:
            parts = list(Formatter().parse(text))
        except ValueError as error:
            raise UserError(f"vlm_judge.options.{option}: {error}; write {{{{ or }}}} for a brace") from error
        for _, name, form, conversion in parts:
            if name is not None and (not name.isidentifier() or form or conversion):
                raise UserError(
                    f"vlm_judge.options.{option}: `{{{name}}}` must be {{prompt}} or one plain metadata key; "
                    f"write {{{{ or }}}} for a brace"
                )
        self._text = text
        self._names = {name for _, name, _, _ in parts if name}

    def fill(self, prompt: Prompt) -> str | None:
        """The text for a prompt; None if its metadata lacks a key."""
        values: dict[str, object] = {**prompt.metadata, "prompt": prompt.text}
        if any(values.get(name) is None for name in self._names):
            return None
        return self._text.format_map({name: _shown(values[name]) for name in self._names})


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


class YesNo:
    """P(yes) / (P(yes) + P(no)) at the first token of the answer; without ``logprobs``, 1 for yes and 0 for no."""

    reminder = "Answer with one word: yes or no."
    reads: Sequence[JsonValue] = ()

    def __init__(self, question: str | None, *, logprobs: bool, default: str = YES_NO) -> None:
        self._template = Template(default if question is None else question, "question")
        self._logprobs = logprobs
        self.request: Mapping[str, JsonValue] = {"max_tokens": 8}
        if logprobs:
            self.request = {"max_tokens": 4, "logprobs": True, "top_logprobs": TOP_LOGPROBS}

    def ask(self, prompt: Prompt) -> str | None:
        return self._template.fill(prompt)

    def read(self, reply: Reply) -> Judgement:
        if self._logprobs:
            return self._by_probability(reply)
        word = re.match(r"\W*(yes|no)\b", reply.text, re.IGNORECASE)
        if word is None:
            raise Malformed(f"{quoted(reply.text)} is neither yes nor no")
        value = float(word[1].lower() == "yes")
        return Judgement(value, {"answer": reply.text}, passed=value)

    def _by_probability(self, reply: Reply) -> Judgement:
        words = first_words(reply, "set `logprobs: false` (a plain yes or no) or `mode: rubric`")
        p_yes, p_no = (math.fsum(p for word, p in words if word == wanted) for wanted in ("yes", "no"))
        if p_yes + p_no == 0:
            raise Malformed(f"{quoted(reply.text)}: neither yes nor no is among the {len(words)} likeliest tokens")
        value = p_yes / (p_yes + p_no)
        details = {"answer": reply.text, "p_yes": p_yes, "p_no": p_no}
        return Judgement(value, details, passed=float(value >= 0.5))


def first_words(reply: Reply, otherwise: str) -> list[tuple[str, float]]:
    """The likeliest tokens where the answer begins, without case and space, each with its probability.

    Raises ``EndpointFailed`` with the way out, ``otherwise``, if the server gave none.
    """
    first = next((token for token in reply.tokens if token.token.strip()), None)
    if first is None or not first.top_logprobs:
        raise EndpointFailed(f"the endpoint gave no `top_logprobs` with its answer; {otherwise}")
    spaces = " \t\r\n▁Ġ"  # the last two are the space of raw sentencepiece and BPE tokens
    return [(one.token.strip(spaces).casefold(), math.exp(one.logprob)) for one in first.top_logprobs]


class Rubric:
    """The mean over the criteria of ``(grade - low) / (high - low)``, grades being whole numbers in [low, high]."""

    reads: Sequence[JsonValue] = ()

    def __init__(self, question: str | None, criteria: object, scale: object) -> None:
        low, high = ends(scale)
        if not isinstance(criteria, Mapping) or not criteria:
            raise UserError(
                f"vlm_judge.options.criteria is {criteria!r}: mode rubric needs a mapping, "
                "such as {objects: all the objects are there, style: it looks like a photo}"
            )
        self._low, self._high = low, high
        self._template = Template(RUBRIC if question is None else question, "question")
        self._criteria = {str(name): Template(text, f"criteria.{name}") for name, text in criteria.items()}
        keys = ", ".join(json.dumps(name, ensure_ascii=False) for name in self._criteria)
        self.reminder = f"Answer with nothing but a JSON object with the keys {keys}."
        self._grades = _schema(list(self._criteria), low, high)
        schema: dict[str, JsonValue] = {"name": "grades", "strict": True, "schema": self._grades.json_schema()}
        self.request: Mapping[str, JsonValue] = {
            "max_tokens": 64 + 32 * len(self._criteria),
            "response_format": {"type": "json_schema", "json_schema": schema},
        }

    def ask(self, prompt: Prompt) -> str | None:
        lines = {name: template.fill(prompt) for name, template in self._criteria.items()}
        opening = self._template.fill(prompt)
        if opening is None or None in lines.values():
            return None
        rule = f"Grade it by each criterion with a whole number from {self._low} (not at all) to {self._high} (fully):"
        return "\n".join([opening, rule, *(f"- {name}: {line}" for name, line in lines.items()), self.reminder])

    def read(self, reply: Reply) -> Judgement:
        fenced = re.fullmatch(r"\s*```(?:json)?\s*(.*?)\s*```\s*", reply.text, re.DOTALL)  # out of habit
        try:
            grades = self._grades.validate_json(fenced[1] if fenced else reply.text)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, p['loc']))} {p['msg']}".strip() for p in error.errors())
            raise Malformed(f"{quoted(reply.text)} ({problems})") from error
        span = (self._high - self._low) * len(grades)
        return Judgement(sum(grade - self._low for grade in grades.values()) / span, {"grades": dict(grades)})


def ends(scale: object) -> tuple[int, int]:
    """Of the option ``scale``; raises ``UserError`` if it is none."""
    if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(type(end) is int for end in scale):
        low, high = scale
        if low < high:
            return low, high
    raise UserError(f"vlm_judge.options.scale is {scale!r}: it must be two whole numbers, lowest first, such as [1, 5]")


def _schema(names: list[str], low: int, high: int) -> TypeAdapter[dict[str, int]]:
    """Exactly these keys, each a whole number in [low, high]; the JSON schema asked for is the one checked against."""
    typed_dict: Any = TypedDict  # a model's fields must be identifiers, these keys may be any text
    grades = typed_dict("Grades", dict.fromkeys(names, Annotated[int, Field(ge=low, le=high)]))
    grades.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    return TypeAdapter(grades)


def quoted(text: str) -> str:
    """An answer as it stands in a message."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
