"""Prompts that leave no room for a picture, found with the tokenizer's file alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policy.base import Policy
from policy.folder import EMBEDDED, read_policy_config
from policy.prompt_length import require_room, require_room_in_template, room_for_prompt
from rl.types import Prompt, UserError

FOLDER = EMBEDDED["shapes"]


def long(count: int, word: str = "very") -> Prompt:
    return Prompt(f"p{count}", " ".join([word] * count), source=f"p.jsonl:{count}")


def test_the_room_is_what_the_picture_leaves() -> None:
    layout, _ = read_policy_config(FOLDER)
    assert room_for_prompt(FOLDER, layout) == 128 - 16 - 1


def test_the_count_is_that_of_the_policy_itself() -> None:
    policy = Policy.load(FOLDER)
    for prompt in (long(108), long(109), Prompt("q", 'a sign "OPEN", now ' * 9), Prompt("u", "r\u00f6t " * 60)):
        length = len(policy.encode_prompt(prompt).ids)
        if length > 111:
            with pytest.raises(UserError, match=rf"has {length} tokens, and the policy .* has room for 111 before"):
                require_room_in_template([prompt], "shapes")
        else:
            require_room_in_template([prompt], "shapes")


def test_the_first_is_named_and_the_rest_counted() -> None:
    with pytest.raises(UserError) as caught:
        require_room_in_template([long(3), long(109), long(110), long(400)], "shapes")
    assert str(caught.value).startswith("prompt 'p110' ('very very ")
    assert str(caught.value).endswith(
        "...', p.jsonl:110) has 112 tokens, and the policy 'shapes' has room for 111 before a picture; 1 more is too "
        "long; shorten the prompts or leave them out"
    )
    require_room([(long(3), 111)], 111, "mine")


def test_a_set_of_short_prompts_needs_neither_torch_nor_the_tokenizer() -> None:
    code = (
        "import sys; from policy.prompt_length import require_room_in_template as check; from rl.types import Prompt\n"
        "check([Prompt(str(i), f'a red circle {i}') for i in range(100_000)], 'shapes')\n"
        "print(sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.stdout == "[]\n", done.stderr
