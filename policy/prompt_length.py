"""Whether prompts leave room for a picture, found without torch: the policy's tokenizer alone counts the tokens."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from policy.ar.size import ArSize
from policy.folder import read_policy_config, read_task_templates, resolve_folder
from policy.layout import TokenLayout
from rl.data.prompt_list import name_of
from rl.data.tasks import no_answers, task_of
from rl.types import Prompt, UserError

_AFTER = 2  # <im_start> <S0>
_SLACK = 8  # a tokenizer may put a mark in front


def room_for_prompt(folder: Path, layout: TokenLayout) -> int:
    """Most tokens of a prompt, with those that begin the picture. Raises: UserError if there is room for none."""
    room = ArSize.read(folder / "ar").positions - layout.tokens_per_image - 1
    if room < 1:
        raise UserError(f"{folder}/ar/config.json: max_position_embeddings leaves no room for a prompt; raise it.")
    return room


def require_room(prompts: Iterable[tuple[Prompt, int]], room: int, policy: str) -> None:
    """(prompt, its tokens) pairs. Raises: UserError naming the first prompt that is too long, and counting the rest."""
    long = [(prompt, length) for prompt, length in prompts if length > room]
    if long:
        others = len(long) - 1
        more = f"; {others} more {'is' if others == 1 else 'are'} too long" if others else ""
        raise UserError(
            f"{name_of(long[0][0])} has {long[0][1]} tokens, and the policy {policy!r} has room for {room} before "
            f"a picture{more}; shorten the prompts or leave them out"
        )


def require_room_in_template(prompts: Sequence[Prompt], policy: str) -> None:
    """``policy``: its path. Tokens are counted as by ``policy.prompt.TemplateEncoder`` and ``policy.pictures.inline``.

    Raises: as ``require_room``, and on a broken policy folder.
    """
    folder = resolve_folder(policy)
    layout, template = read_policy_config(folder)
    templates = {task: text.replace("{picture}", "") for task, text in read_task_templates(folder).items()}
    questions = [prompt for prompt in prompts if task_of(prompt) == "answer"]
    if questions and "answer" not in templates:
        raise no_answers(questions[0])
    room, inside = room_for_prompt(folder, layout), layout.tokens_per_image

    def filled(prompt: Prompt, text: str) -> str:
        if not prompt.pictures:
            return template.format(prompt=text)
        return templates.get(task_of(prompt), template).replace("{prompt}", text)

    def after(prompt: Prompt) -> int:
        return _AFTER + inside * bool(prompt.pictures)

    def most(prompt: Prompt) -> int:
        return len(filled(prompt, "").encode()) + _SLACK + after(prompt) + _most_tokens(prompt.text)

    candidates = [prompt for prompt in prompts if most(prompt) > room]
    if not candidates:  # of most sets: then no tokenizer is read
        return
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    tokenizer.no_truncation()
    counted = (
        (prompt, len(tokenizer.encode(filled(prompt, prompt.text), add_special_tokens=False).ids) + after(prompt))
        for prompt in candidates
    )
    require_room(counted, room, policy)


def _most_tokens(text: str) -> int:
    """A tokenizer makes at most one token of a byte, and none of the usual normal forms is longer than NFKD."""
    if text.isascii():
        return len(text)
    return max(len(text.encode()), len(unicodedata.normalize("NFKD", text).encode()))
