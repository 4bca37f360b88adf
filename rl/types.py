"""What flows between the rooms: frozen dataclasses, shapes in the names.

prompt -> tokens -> hidden states -> picture -> scores -> advantages -> update

Axes: P prompts, G samples per group, B = P * G samples (group-major: sample ``i``
belongs to prompt ``i // G``), T image tokens, S = T + 1 conditioning positions
(the scale token and the T image tokens), D hidden size, H x W pixels.
This module imports nothing of ours and no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from rl.data.pictures import Picture


class UserError(Exception):
    """A user's mistake: one clear sentence (what, where, the fix). Printed without a traceback, exit code 2."""


class RunFailure(RuntimeError):
    """A run that cannot go on through nobody's mistake: an engine broke or disagrees. One sentence, exit code 3."""


@dataclass(frozen=True)
class Prompt:
    """One line of a prompt file.

    ``Prompt("p17", "two red circles", {"tag": "counting", "include": [...]}, source="train.jsonl:3")``; with a picture
    to be changed, ``Prompt("e1", "make the cat blue", pictures=(Picture(Path("cat.png")),))``.
    """

    id: str
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[Picture, ...] = ()
    """What the policy and the rewards see beside the text: each has ``pixels`` (H, W, 3) and a ``digest``."""
    source: str = ""
    """``file:line``, for messages."""


@dataclass(frozen=True)
class Span:
    """What is sampled after a prompt: tokens with vocabulary ids ``start <= id < stop``, a fixed number of them, or as
    many as come until one of them says that it is the end.

    ``Span(151674, 217210, length=729)`` is a picture of BLIP3o-NEXT; ``Span(0, 151669, max_length=64, end=151645)`` an
    answer in words of at most 64 tokens, the end included. Where image tokens lie between words, they are left out:
    ``Span(0, 255, max_length=8, end=254, without=(81, 209))``.
    """

    start: int
    stop: int
    length: int | None = None
    max_length: int | None = None
    end: int | None = None
    without: tuple[int, int] | None = None
    """Ids from the first to below the second, inside ``start`` to ``stop``, that never come."""

    def __post_init__(self) -> None:
        if self.without is not None:
            first, last = self.without
            object.__setattr__(self, "without", (first, last))  # of JSON it is a list
            if not self.start < first < last < self.stop:
                raise ValueError(f"what a span leaves out lies inside it, got {self}")
        if (self.length is None) == (self.max_length is None) or (self.end is None) != (self.max_length is None):
            raise ValueError("a span has a length, or a max_length and the id of its end")
        if not 0 <= self.start < self.stop or self.most < 1:
            raise ValueError(f"a span of at least one token from at least one id, got {self}")
        if self.end is not None and not self.holds(self.end):
            raise ValueError(f"the end of a span is one of its own ids, got {self}")

    def holds(self, token: int) -> bool:
        first, last = self.without or (self.stop, self.stop)
        return self.start <= token < self.stop and not first <= token < last

    @property
    def most(self) -> int:
        """The largest number of tokens."""
        return self.length or self.max_length or 0

    def up_to(self, most: int) -> Span:
        """The same, of at most ``most`` tokens."""
        most = min(most, self.most)
        return replace(self, length=most) if self.max_length is None else replace(self, max_length=most)


@dataclass(frozen=True)
class PictureFeatures:
    """A picture that the language model reads as vectors: they stand in place of the embeddings of as many ids of its
    prompt, from ``start`` on. Prompts with the same ids and the same picture are the same.

    Example: right after <|vision_start|>, of the embedded model: ``start`` 1, ``vectors_ND`` (16, 192).
    """

    start: int
    digest: str  # of the picture
    vectors_ND: Tensor = field(compare=False)


@dataclass(frozen=True)
class Rollout:
    """Image tokens sampled for P prompts, G each, with the behaviour policy's log-probs.

    Example: P = 2, G = 3, T = 16 -> ``tokens_BT.shape == (6, 16)``, rows 0-2 are prompt 0's group.
    """

    prompts: tuple[Prompt, ...]
    group_size: int
    prompt_ids: tuple[tuple[int, ...], ...]  # P ragged rows, ending with <im_start> <S0>
    tokens_BT: NDArray[np.int64]  # vocabulary ids, all inside the span
    logprobs_BT: NDArray[np.float32]  # nats, after temperature, over the ids of the span
    seeds: tuple[int, ...]  # B sampling seeds
    temperature: float
    version: int  # of the weights that sampled, assigned by the trainer
    mask_BT: NDArray[np.bool_] | None = None  # of the tokens that were sampled; None: all. What follows an end is end
    span: Span | None = None  # what was sampled; None: a picture
    hidden_BSD: Tensor | None = (
        None  # the engine's own final hidden states, as in Forward, if it was asked and has them
    )
    features: tuple[PictureFeatures | None, ...] | None = None  # P, of prompts that hold a picture as vectors

    @property
    def batch_size(self) -> int:
        return len(self.prompts) * self.group_size

    def prompt_of(self, sample: int) -> Prompt:
        return self.prompts[sample // self.group_size]

    def prompt_ids_per_sample(self) -> list[tuple[int, ...]]:
        """B ragged rows: each prompt's ids repeated for its group."""
        return [ids for ids in self.prompt_ids for _ in range(self.group_size)]

    def features_per_sample(self) -> list[PictureFeatures | None] | None:
        """The same of the pictures in them."""
        return None if self.features is None else [one for one in self.features for _ in range(self.group_size)]


@dataclass(frozen=True)
class WrittenAnswer:
    """Words that the policy wrote: ``WrittenAnswer("left of")``. Not ``complete``: cut off before they had ended."""

    text: str
    complete: bool = True


@dataclass(frozen=True)
class Sample:
    """What a reward sees: one picture with its prompt, or an answer. ``picture`` is (H, W, 3) uint8 RGB and read-only;
    of an answer in words, it is the one that the question is about."""

    id: str
    group: str
    prompt: Prompt
    picture: NDArray[np.uint8]
    answer: WrittenAnswer | None = None


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
class RenderScores:
    """The combined training reward of each picture, where B samples are painted K times: what a decoder learns from.

    Combined picture by picture, for a product of means is no mean of products. A picture on which a reward of the
    decoder failed, or to which none applies, is not valid; its neighbours are.
    """

    total_BK: NDArray[np.float32]
    valid_BK: NDArray[np.bool_]
    score: float = math.nan  # mean of the weighted means, which are shown, over the valid pictures


@dataclass(frozen=True)
class Scores:
    """All rewards' verdicts on B samples, and the combined training reward.

    ``total_B[i]``, which is learnt from, and ``score_B[i]``, the weighted mean that is shown, are meaningful only
    where ``valid_B[i]``; a sample with a failed training reward, or with no applicable one, is not valid and is left
    out of its group's statistics.

    Example: two samples, one reward that died on the second:
    ``Scores({"ocr": [Score(0.75), Score(None, failure="timed out")]}, total_B=[0.75, 0], valid_B=[True, False], ...)``.
    """

    by_reward: Mapping[str, Sequence[Score]]
    total_B: NDArray[np.float32]
    valid_B: NDArray[np.bool_]
    score_B: NDArray[np.float32]
    renders: RenderScores | None = None  # None where the decoder is not trained

    def first(self, count: int) -> Scores:
        """Of the first ``count`` samples alone."""
        few, renders = slice(count), self.renders
        return Scores(
            {reward: found[few] for reward, found in self.by_reward.items()},
            self.total_B[few],
            self.valid_B[few],
            self.score_B[few],
            renders and replace(renders, total_BK=renders.total_BK[few], valid_BK=renders.valid_BK[few]),
        )


@dataclass(frozen=True)
class Renders:
    """Pictures of B samples, k side by side: picture ``i`` shows sample ``i // k``.

    Example: B = 6 samples, k = 2 renders of 64 x 64 -> ``pictures.shape == (12, 64, 64, 3)``, ``len(seeds) == 12``.
    """

    pictures: NDArray[np.uint8]  # (B * k, H, W, 3) RGB
    seeds: tuple[int, ...]  # B * k, of the decoder's noise
    per_sample: int  # k
    trajectory: object | None = None  # what a trained decoder learns from; None while it is frozen

    @property
    def one_each(self) -> NDArray[np.uint8]:
        """(B, H, W, 3): the first render of each sample."""
        return self.pictures[:: self.per_sample]


@dataclass(frozen=True)
class Forward:
    """The one forward of the policy over prompt + image tokens, used twice: decoder input and train log-probs.

    Example: B = 6, T = 16, D = 192 -> ``hidden_BSD.shape == (6, 17, 192)``, ``logprobs_BT.shape == (6, 16)``.
    """

    hidden_BSD: Tensor  # final hidden states, after the final norm, at <S0> and the T image tokens
    logprobs_BT: Tensor  # of the sampled tokens, at the sampling temperature, over the image vocabulary
    entropy_BT: Tensor  # nats, of the same distribution
    prompt_logprobs_BL: Tensor | None = None  # of the prompt's ids but the first, over the vocabulary, if it was asked


@dataclass(frozen=True)
class ShownPictures:
    """Some pictures of a step for people to look at: (N, H, W, 3), a caption for each, and plain data about each."""

    pictures: NDArray[np.uint8]
    captions: Sequence[str]
    verdicts: Sequence[object] = ()


class Collected(Protocol):
    """One step's worth of whatever is learnt from."""

    @property
    def step(self) -> int: ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """What the collector saw."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Per stage."""

    def shown(self, count: int) -> ShownPictures: ...


@dataclass(frozen=True)
class Experience:
    """One step's worth of acting, whole: what a collector hands to the learner.

    Example: step 3 of P = 2 prompts, G = 3: ``rollout.tokens_BT`` (6, 16), ``renders.pictures`` (6, 64, 64, 3),
    ``scores.total_B`` (6,), sampled with the weights after 3 updates -> ``version == 3``.
    """

    step: int
    rollout: Rollout
    renders: Renders
    scores: Scores
    forward: Forward | None  # the trainer's own view at that moment; None if nobody has asked for it
    reference: Forward | None  # the frozen reference policy's view; None if no term of the loss wants it, or not asked
    version: int  # of the weights that sampled
    metrics: Mapping[str, float]  # what the collector saw: scores, failures, guards
    seconds: Mapping[str, float]  # per stage
    answers: Experience | None = None
    """The step's answers in words, where it holds pictures too: all else is then of the pictures, but metrics and
    seconds of both."""

    def shown(self, count: int) -> ShownPictures:
        """The first sample of the first prompts, with its scores."""
        if not len(self.renders.pictures):
            return ShownPictures(self.renders.pictures, ())
        rollout, scores = self.rollout, self.scores
        places = [index * rollout.group_size for index in range(len(rollout.prompts))][:count]
        captions = [f"{scores.score_B[index]:.2f} {rollout.prompt_of(index).text}" for index in places]
        verdicts = [
            {"prompt": rollout.prompt_of(index).text, "tag": rollout.prompt_of(index).metadata.get("tag")}
            | {reward: asdict(found[index]) for reward, found in scores.by_reward.items()}
            for index in places
        ]
        return ShownPictures(self.renders.one_each[places], captions, verdicts)


@dataclass(frozen=True)
class Rows:
    """Base of every batch: a tensor, list or tuple among the fields has one entry per row, the rest holds for all."""

    def __len__(self) -> int:
        return next(len(value) for value in vars(self).values() if _has_rows(value))

    def take(self, rows: Sequence[int]) -> Self:
        """The given rows, in that order; a row may be taken twice."""
        indices = list(rows)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        taken = {
            name: tuple(value[i] for i in indices) if isinstance(value, (list, tuple)) else value[indices]
            for name, value in values.items()
            if _has_rows(value)
        }
        return replace(self, **taken)

    def to(self, device: object) -> Self:
        """The same rows with their tensors on ``device``."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if callable(getattr(value := getattr(self, field.name), "to", None))
        }
        return replace(self, **moved)


def _has_rows(value: object) -> bool:
    return isinstance(value, (list, tuple)) or bool(getattr(value, "shape", ()))


@dataclass(frozen=True)
class Sequences(Rows):
    """B prompts with the T tokens after each.

    ``Sequences([(5, 6, 26, 25), (5, 26, 25)], tokens_BT, 1.0)`` with ``tokens_BT.shape == (2, 16)``.
    """

    prompt_ids: Sequence[tuple[int, ...]]  # B ragged, ending with <im_start> <S0>
    tokens_BT: Tensor  # int64
    temperature: float
    span: Span | None = None  # what the tokens are; None: a picture
    features: Sequence[PictureFeatures | None] | None = None  # B, of prompts that hold a picture as vectors


@dataclass(frozen=True, kw_only=True)
class TokenBatch(Sequences):
    """What the language model learns from: B samples, rectangular because every picture has T tokens.

    Example: 2 prompts, G = 3, T = 16: ``tokens_BT`` and all log-probs (6, 16), ``advantages_B`` (6,) with a mean of 0
    in rows 0-2 and in rows 3-5; a sample whose reward failed has ``valid_B`` False and an advantage of 0.
    """

    rollout_logprobs_BT: Tensor  # from the sampling engine
    advantages_B: Tensor
    valid_B: Tensor  # bool
    old_logprobs_BT: Tensor | None = None  # from the trainer's own forward before the update; None: the update's own
    mask_BT: Tensor | None = None  # bool, of the tokens that were sampled; None: all
    reference_logprobs_BT: Tensor | None = None  # of the frozen reference policy, if a term asks for it
    reference_hidden_BSD: Tensor | None = None  # of the same policy at the same tokens, if a term asks for it
    moving_logprobs_BT: Tensor | None = None  # of a reference that moves, if the KL term asks for it
    weight: float = 1.0  # of all these rows beside those of another kind in the same update
    weights_BT: Tensor | None = None  # of each token in the loss; the objective makes them
