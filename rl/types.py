"""What flows between the rooms: frozen dataclasses, shapes in the names.

prompt -> tokens -> hidden states -> picture -> scores -> advantages -> update

Axes: P prompts, G samples per group, B = P * G samples (group-major: sample ``i``
belongs to prompt ``i // G``), T image tokens, S = T + 1 conditioning positions
(the scale token and the T image tokens), D hidden size, H x W pixels.
This module imports nothing of ours and no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class UserError(Exception):
    """A user's mistake: one clear sentence (what, where, the fix). Printed without a traceback, exit code 2."""


class RunFailure(RuntimeError):
    """A run that cannot go on through nobody's mistake: an engine broke or disagrees. One sentence, exit code 3."""


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file. ``Prompt("p17", "two red circles", {"tag": "counting", "include": [...]})``."""

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """Image tokens sampled for P prompts, G each, with the behaviour policy's log-probs.

    Example: P = 2, G = 3, T = 16 -> ``tokens_BT.shape == (6, 16)``, rows 0-2 are prompt 0's group.
    """

    prompts: tuple[Prompt, ...]
    group_size: int
    prompt_ids: tuple[tuple[int, ...], ...]  # P ragged rows, ending with <im_start> <S0>
    tokens_BT: NDArray[np.int64]  # vocabulary ids, all inside the image range
    logprobs_BT: NDArray[np.float32]  # nats, after temperature and after the image-vocabulary mask
    seeds: tuple[int, ...]  # B sampling seeds
    temperature: float
    version: int  # of the weights that sampled, assigned by the trainer

    @property
    def batch_size(self) -> int:
        return len(self.prompts) * self.group_size

    def prompt_of(self, sample: int) -> Prompt:
        return self.prompts[sample // self.group_size]

    def prompt_ids_per_sample(self) -> list[tuple[int, ...]]:
        """B ragged rows: each prompt's ids repeated for its group."""
        return [ids for ids in self.prompt_ids for _ in range(self.group_size)]


@dataclass(frozen=True)
class Sample:
    """What a reward sees: one picture with its prompt. ``picture`` is (H, W, 3) uint8 RGB and read-only."""

    id: str
    group: str
    prompt: Prompt
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Score:
    """One reward's verdict on one sample: a value, not applicable (both ``None``), or a failure. Never 0 for a failure.

    ``Score(0.75, details={"found": "HELO"})`` - ``Score(None)`` - ``Score(None, failure="timed out after 30 s")``
    ``passed`` is what evaluation tables count where the reward has a pass and a fail beside its value (GenEval's strict
    rule, OCR's exact match): 1 or 0, or the share of several renders that pass.
    """

    value: float | None
    failure: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    passed: float | None = None

    @property
    def failed(self) -> bool:
        return self.failure is not None


@dataclass(frozen=True)
class Scores:
    """All rewards' verdicts on B samples, and the combined training reward.

    ``total_B[i]``, which is learnt from, and ``score_B[i]``, the weighted mean that is shown, are meaningful only
    where ``valid_B[i]``; a sample with a failed training reward, or with no applicable one, is not valid and is left
    out of its group's statistics.
    """

    by_reward: Mapping[str, Sequence[Score]]
    total_B: NDArray[np.float32]
    valid_B: NDArray[np.bool_]
    score_B: NDArray[np.float32]


@dataclass(frozen=True)
class Forward:
    """The one forward of the policy over prompt + image tokens, used twice: decoder input and train log-probs."""

    hidden_BSD: Tensor  # final hidden states, after the final norm, at <S0> and the T image tokens
    logprobs_BT: Tensor  # of the sampled tokens, at the sampling temperature, over the image vocabulary
    entropy_BT: Tensor  # nats, of the same distribution


@dataclass(frozen=True)
class Batch:
    """What the trainer learns from: B samples, rectangular because every picture has T tokens."""

    prompt_ids: Sequence[tuple[int, ...]]  # B ragged
    tokens_BT: Tensor  # int64
    rollout_logprobs_BT: Tensor  # from the sampling engine
    old_logprobs_BT: Tensor  # from the trainer's own forward, before the update
    reference_logprobs_BT: Tensor | None  # of the frozen reference policy, if a KL term is on
    advantages_B: Tensor
    valid_B: Tensor  # bool
    temperature: float
    reference_hidden_BSD: Tensor | None = None  # of the same policy at the same tokens, if an anchor is on
