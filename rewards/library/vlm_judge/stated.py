"""A score that the judge states at the end of what it says, such as ``Final Score: 4``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from rewards.library.vlm_judge.endpoint import Reply
from rewards.library.vlm_judge.question import Judgement, Malformed, Template, ends, quoted
from rl.types import Prompt, UserError

ANSWER = r"Final Score:\s*(\d+(?:\.\d+)?)"
_LONGEST = 512  # tokens: the judge may say something first


class StatedScore:
    """``(number - low) / (high - low)``, the number being what the last match of ``answer`` has in its one group."""

    def __init__(self, question: str | None, answer: str | None, scale: object) -> None:
        if question is None:
            raise UserError(
                "vlm_judge.options.question is missing: `mode: stated` has no question of its own; "
                "write the words that the judge was trained with"
            )
        self._low, self._high = ends(scale)
        self._template = Template(question, "question")
        self._answer = _pattern(ANSWER if answer is None else answer)
        self.reminder = f"Give the score in the form asked for, a number from {self._low} to {self._high}."
        self.request: Mapping[str, JsonValue] = {"max_tokens": _LONGEST}
        self.reads: Sequence[JsonValue] = (self._answer.pattern, self._low, self._high)

    def ask(self, prompt: Prompt) -> str | None:
        return self._template.fill(prompt)

    def read(self, reply: Reply) -> Judgement:
        found = self._answer.findall(reply.text)
        if not found:
            raise Malformed(f"{quoted(reply.text)} does not match {self._answer.pattern!r}")
        try:
            stated = float(found[-1])
        except ValueError as error:
            raise Malformed(f"{found[-1]!r} in {quoted(reply.text)} is no number") from error
        if not self._low <= stated <= self._high:
            raise Malformed(f"the score {found[-1]} is not from {self._low} to {self._high}")
        return Judgement((stated - self._low) / (self._high - self._low), {"answer": reply.text, "stated": stated})


def _pattern(answer: object) -> re.Pattern[str]:
    try:
        pattern = re.compile(answer) if isinstance(answer, str) else None
    except re.error as error:
        raise UserError(f"vlm_judge.options.answer is {answer!r}: it is no regular expression ({error})") from error
    if pattern is None or pattern.groups != 1:
        raise UserError(
            f"vlm_judge.options.answer is {answer!r}: it must be a regular expression with one group, the number, "
            f"such as {ANSWER!r}"
        )
    return pattern
