"""Which prompts each step gets, and what their rewards need of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rl.config.declared import declarations
from rl.config.schema import RewardComponent
from rl.data.prompt_list import keys_of, name_of
from rl.data.quoted import QUOTED_KEY, has_one_quoted_text
from rl.data.tasks import is_question
from rl.registry import resolve
from rl.types import Prompt, UserError


def needs_of(rewards: Mapping[str, RewardComponent], roles: Sequence[str] = ("train",)) -> dict[str, tuple[str, ...]]:
    """Reward -> the metadata that it declares it can't do without (``metadata = ("text",)`` in its class)."""
    return {
        name: declarations("rewards", reward.use).metadata for name, reward in rewards.items() if reward.role in roles
    }


def require_metadata(prompts: Sequence[Prompt], needs: Mapping[str, Sequence[str]]) -> None:
    """Each prompt must be applicable to at least one of the rewards.

    ``require_metadata(prompts, {"geneval": ("include",), "ocr": ("text",)})``. Raises UserError naming the first
    prompt that no reward can score, what it lacks, and how many more there are.
    """
    lost = [p for p in prompts if not any(_has(p, keys) for keys in needs.values())]
    if not lost or not needs:
        return
    wanted = " or ".join(f"{', '.join(map(repr, keys))} (reward {name})" for name, keys in needs.items())
    others = len(lost) - 1
    more = f"; so {'does' if others == 1 else 'do'} {others} more prompt{'s' * (others > 1)}" if others else ""
    raise UserError(
        f"{name_of(lost[0])} lacks what its reward needs: {wanted}{more}; add it to the prompt's line or choose a "
        f"reward that fits (what the prompts hold: {keys_of(prompts)}{_quoted_hint(prompts, needs)})"
    )


def require_sound_metadata(prompts: Sequence[Prompt], rewards: Mapping[str, RewardComponent]) -> None:
    """What a reward declares to find wrong with metadata (``metadata_problem``), before a step draws the prompt.

    Raises UserError naming the first prompt, what is wrong with it, and how many more there are.
    """
    for name, reward in rewards.items():
        declared = declarations("rewards", reward.use).metadata_problem
        if not declared:
            continue
        problem = resolve("rewards", declared)
        found = [(one, wrong) for one in prompts if reward.applies(one) and (wrong := problem(one.metadata))]
        if found:
            more = f"; {len(found) - 1} more prompts can't be scored either" if len(found) > 1 else ""
            raise UserError(f"{name_of(found[0][0])} can't be scored by the reward {name!r}: {found[0][1]}{more}")


def require_applicable(prompts: Sequence[Prompt], rewards: Mapping[str, RewardComponent]) -> list[str]:
    """Each training reward must apply to at least one prompt; a sentence for each monitor that applies to none.

    Raises UserError saying what the reward looks for and what the prompts hold.
    """
    idle = []
    for name, reward in rewards.items():
        declared = declarations("rewards", reward.use)
        needed = declared.metadata
        judged = [prompt for prompt in prompts if declared.answers or not is_question(prompt)]
        if any(reward.applies(prompt) and _has(prompt, needed) for prompt in judged):
            continue
        sentence = (
            f"the reward {name!r} applies to none of the {len(prompts):,} prompts: it looks for "
            f"{_looked_for(reward, needed)}, and they hold {keys_of(prompts)}"
        )
        if not judged:
            sentence += ", all of them questions, and it judges no answers in words"
        if reward.tags is not None:
            sentence += f" and the tags {_tags(prompts)}"
        if reward.role == "train":
            hint = _quoted_hint(prompts, {name: needed})
            raise UserError(f"{sentence}{hint}; add it to the prompts or choose a reward that fits")
        idle.append(sentence)
    return idle


def require_text_alone(prompts: Sequence[Prompt], encoder: str, policy: str) -> None:
    """For a prompt encoder that reads no pictures. Raises UserError naming the first prompt that holds some."""
    holding = [prompt for prompt in prompts if prompt.pictures]
    if holding:
        more = f", as do {len(holding) - 1} more" if len(holding) > 1 else ""
        raise UserError(
            f"{name_of(holding[0])} holds pictures{more}, and the policy {policy!r} reads text alone (its prompt "
            f"encoder {encoder!r} does not declare `pictures = True`); take them out of the prompts' lines or choose a "
            f"policy that reads pictures"
        )


def require_judged_answers(prompts: Sequence[Prompt], rewards: Mapping[str, RewardComponent]) -> None:
    """Where prompts are questions, a training reward must judge answers. Raises UserError naming the first."""
    questions = [prompt for prompt in prompts if is_question(prompt)]
    trained = {name: one for name, one in rewards.items() if one.role == "train"}
    judges = [one for one in trained.values() if declarations("rewards", one.use).answers]
    if not questions or not trained or any(one.applies(prompt) for one in judges for prompt in questions):
        return
    raise UserError(
        f"{name_of(questions[0])} is one of {len(questions):,} questions that are answered in words, and no training "
        f"reward judges their answers ({', '.join(trained)}); add one, such as rewards.answer=answer, or leave the "
        f"questions out"
    )


class PromptStream:
    """Which prompts a step gets: a pure function of the step, so a resumed run continues exactly.

    Epoch after epoch of seeded permutations. A step across the border of two epochs still holds no prompt twice: what
    the ending epoch has just given to that step comes later in the new one. Over ``k * len(prompts)`` draws, each
    prompt appears k times.
    """

    def __init__(self, prompts: Sequence[Prompt], per_step: int, seed: int) -> None:
        """Raises UserError if there are fewer prompts than a step needs."""
        if len(prompts) < per_step:
            raise UserError(
                f"data.prompts_per_step is {per_step}, but data.train has only {len(prompts)} different prompts; "
                f"lower it to at most {len(prompts)} or add prompts"
            )
        self._prompts, self._per_step, self._seed = tuple(prompts), per_step, seed

    def at(self, step: int) -> list[Prompt]:
        """The ``per_step`` prompts of a step (counted from 0), all different."""
        size, start = len(self._prompts), step * self._per_step
        first, last = start // size, (start + self._per_step - 1) // size
        order = np.concatenate([self._order(epoch) for epoch in range(first, last + 1)])
        return [self._prompts[i] for i in order[start - first * size :][: self._per_step]]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        # An epoch's order depends on the end of the one before. With two steps' worth of prompts, moving things at
        # its start never reaches its end, so looking one epoch back is enough; a smaller set is followed from epoch 0.
        size = len(self._prompts)
        first = max(epoch - 1, 0) if size >= 2 * self._per_step else 0
        order = self._shuffled(first)
        for following in range(first + 1, epoch + 1):
            shared = following * size % self._per_step  # prompts of the border step that the ending epoch gave
            order = _put_off(self._shuffled(following), order[size - shared :], (self._per_step - shared))
        return order

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._prompts))


def _put_off(order: NDArray[np.int64], taken: NDArray[np.int64], head: int) -> NDArray[np.int64]:
    """``order`` with none of ``taken`` among its first ``head`` entries, otherwise as it was."""
    if not len(taken):
        return order
    free = np.flatnonzero(~np.isin(order, taken))[:head]
    return np.concatenate([order[free], np.delete(order, free)])


def _has(prompt: Prompt, keys: Sequence[str]) -> bool:
    return all(prompt.metadata.get(key) not in (None, "", []) for key in keys)


def _looked_for(reward: RewardComponent, needed: Sequence[str]) -> str:
    keys = [repr(key) for key in dict.fromkeys((*needed, *reward.metadata))]
    return " and ".join([*keys, *([f"a tag among {list(reward.tags)}"] if reward.tags is not None else [])])


def _tags(prompts: Sequence[Prompt]) -> str:
    return ", ".join(sorted({repr(prompt.metadata.get("tag")) for prompt in prompts})[:12])


def _quoted_hint(prompts: Sequence[Prompt], needs: Mapping[str, Sequence[str]]) -> str:
    """Where a text is asked for that stands in the prompts, in quotation marks."""
    if not any(QUOTED_KEY in keys for keys in needs.values()):
        return ""
    lacking = [prompt for prompt in prompts if QUOTED_KEY not in prompt.metadata]
    count = sum(has_one_quoted_text(prompt.text) for prompt in lacking)
    if not count:
        return ""
    return f"; {count} of {len(lacking)} without {QUOTED_KEY!r} have one quoted text, which quoted: {QUOTED_KEY} takes"
