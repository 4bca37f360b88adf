"""The table on the embedded model's card: ``python -m tests.policy.shapes.figures [POLICY]`` (three minutes)."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np

from policy.base import Policy
from rewards.library.details.reward import Details
from rl.data.shapes.edits.contents import EDIT_TAGS, FINE_EDIT_TAGS
from rl.data.shapes.prompts import prompts
from rl.data.shapes.questions.contents import COARSE_TAGS, FINE_TAGS
from rl.types import Prompt
from tests.policy.shapes.measured import answered, edits, obeyed, sampled
from tests.policy.shapes.test_shipped_model import _paint, _samples, _strict, _true_tokens

EACH, DETAILS, SEVERAL = 60, ("ground", "look", "details"), (1, 2, 3, 8)


def main() -> None:
    policy = Policy.load(sys.argv[1] if len(sys.argv) > 1 else "shapes")
    _of_drawings(policy)
    _of_words_and_details(policy)
    if "edit" in policy.task_templates:
        for tags in (EDIT_TAGS, FINE_EDIT_TAGS):
            asked, right = edits(policy, tags, EACH)
            _say_each("edits of true tokens", obeyed(asked, _paint(policy, asked, right)))
            _say_each("edits, own tokens", obeyed(asked, _paint(policy, asked, sampled(policy, asked))))
    if "answer" in policy.task_templates:
        for features in (False, True) if policy.reads else (False,):
            name = "features" if features else "codes"
            _say_each(f"answers from {name}", answered(policy, COARSE_TAGS, EACH, features=features))
            _say_each(f"answers from {name}, details", answered(policy, FINE_TAGS, EACH, features=features))


def _of_drawings(policy: Policy) -> None:
    asked = prompts("heldout", EACH)
    true = _true_tokens(policy, asked)
    pictures = _paint(policy, asked, true)
    _say("pictures of true tokens pass the strict checks", np.mean(list(_strict(asked, pictures).values())))
    one = _paint(policy, asked, true, steps=1)
    _say("the same with 1 step", np.mean(list(_strict(asked, one).values())))
    read = policy.image_tokenizer.encode(pictures)
    _say("true tokens that the image tokenizer finds again", (read == true).mean())
    _say_each("own tokens", _strict(asked, _paint(policy, asked, sampled(policy, asked))))


def _of_words_and_details(policy: Policy) -> None:
    words = prompts("heldout", EACH, tags=("ocr",))
    spelled = _true_tokens(policy, words)
    found = policy.image_tokenizer.encode(_paint(policy, words, spelled))
    _say("words painted from true tokens that it reads back", (found == spelled).all(1).mean())
    detailed = prompts("heldout", EACH, tags=DETAILS)
    for name, tokens in (("true", _true_tokens(policy, detailed)), ("own", sampled(policy, detailed))):
        for steps in SEVERAL:
            pictures = _paint(policy, detailed, tokens, steps=steps)
            _say(f"details, {name} tokens, {steps} steps", _details(detailed, pictures))


def _details(asked: list[Prompt], pictures: np.ndarray) -> float:
    return float(np.mean([score.value for score in Details()(_samples(asked, pictures))]))


def _say_each(what: str, values: Mapping[str, float]) -> None:
    each = " ".join(f"{name} {value:.2f}" for name, value in values.items())
    print(f"{what}: {np.mean(list(values.values())):.4f} ({each})")


def _say(what: str, value: float | np.floating) -> None:
    print(f"{what}: {value:.4f}")


if __name__ == "__main__":
    main()
