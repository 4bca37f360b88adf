"""What a user of TRL writes to train this policy with it: prompts that end as pictures begin, a language model that
writes image tokens alone, and a reward function that paints and scores.

Each is the cheapest way that we know; nothing here slows TRL down.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from policy.base import Policy
from policy.layout import TokenLayout
from rewards.pool.pool import RewardPool
from rl.bench.contract import MOST_STEPS
from rl.config.schema import RenderConfig, RewardComponent
from rl.data.stream import PromptStream
from rl.types import Prompt, Sample, Score, UserError

_CANNOT = -1e4  # and not -inf: its probability is 0 just so, and 0 * log 0 stays a number in the entropy


def prompt_tokenizer(policy: Policy) -> PreTrainedTokenizerFast:
    """The policy's tokenizer, ending every prompt with <im_start> <S0>."""
    tokenizer = deepcopy(policy.tokenizer)
    ends = [(tokenizer.convert_ids_to_tokens(id), id) for id in (policy.layout.im_start_id, policy.layout.scale_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=" ".join(["$A", *(token for token, _ in ends)]), special_tokens=ends
    )
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(policy.layout.im_end_id)  # never written: all have one length
    tokenizer.padding_side = "left"
    return tokenizer


def prompt_rows(
    policy: Policy, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt]
) -> list[dict[str, object]]:
    """``{"prompt": text, "index": its place}``. Raises: UserError if TRL would read another prompt than we do."""
    rows = [
        {"prompt": policy.prompt_template.format(prompt=prompt.text), "index": i} for i, prompt in enumerate(prompts)
    ]
    for row, prompt in zip(rows, prompts, strict=True):
        if tuple(tokenizer(row["prompt"])["input_ids"]) != policy.encode_prompt(prompt).ids:
            raise UserError(
                f"policy.path: prompts of this policy ({policy.prompt_encoder}) are not plain text to TRL, so the two "
                "cannot be compared; choose a policy with the prompt encoder 'template'"
            )
    return rows


def in_order(rows: Sequence[Mapping[str, object]], stream_seed: int, per_step: int) -> Dataset:
    """The prompts of step after step as our own run takes them, for a trainer that doesn't shuffle."""
    stream = PromptStream([Prompt(str(place), "") for place in range(len(rows))], per_step, stream_seed)
    return Dataset.from_list([dict(rows[int(one.id)]) for step in range(MOST_STEPS) for one in stream.at(step)])


def image_head(lm_head: nn.Linear, layout: TokenLayout) -> nn.Linear:
    """The same weights with a bias that rules out all but image tokens: TRL's generate, its log-probs and its entropy
    are then those of the image vocabulary, for the price of an addition. A logits processor would cost more and leave
    the log-probs alone. The bias is a buffer: nothing trains it and no engine is sent it.
    """
    head = deepcopy(lm_head)
    bias = torch.full((head.out_features,), _CANNOT, dtype=head.weight.dtype)
    bias[layout.image_start_id : layout.image_end_id] = 0
    del head.bias  # it is there, as None
    head.register_buffer("bias", bias)
    return head


@dataclass
class PaintedReward:
    """TRL's reward function: one forward of the language model, the policy's painter, our checkers in their pool.

    Pictures go to the pool as soon as some are there, so that scoring goes on while the next ones are painted.
    """

    policy: Policy
    """Its language model is the one that is trained."""
    pool: RewardPool
    prompts: Sequence[Prompt]
    render: RenderConfig
    rewards: Mapping[str, RewardComponent]
    __name__ = "painted"
    seconds: dict[str, float] = field(default_factory=dict)
    """Of the last call, per part."""
    mean: float = float("nan")
    """Of the last call."""
    _numbers: Iterator[int] = field(default_factory=count)

    def __call__(self, completion_ids: Sequence[Sequence[int]], index: Sequence[int], **columns: object) -> list[float]:
        """Raises: UserError on a failed score; it is never a 0."""
        began = time.perf_counter()
        hidden_BSD = self.hidden(
            completion_ids, [self.policy.encode_prompt(self.prompts[place]).ids for place in index]
        )
        forwarded = time.perf_counter()
        waiting = []
        for start in range(0, len(index), self.render.micro_batch):
            places = index[start : start + self.render.micro_batch]
            pictures = self.policy.decoder.paint(
                hidden_BSD[start : start + len(places)],
                places,
                steps=self.render.steps,
                guidance=self.render.guidance,
            )
            waiting.append(self.pool.submit([self._sample(*one) for one in zip(places, pictures, strict=True)]))
        painted = time.perf_counter()
        scores = [score for one in waiting for score in self._scores(one.result())]
        self.seconds = {
            "forward": forwarded - began,
            "paint": painted - forwarded,
            "score": time.perf_counter() - painted,
        }
        self.mean = float(np.mean(scores))
        return scores

    @torch.no_grad()
    def hidden(self, completion_ids: Sequence[Sequence[int]], prompt_ids: Sequence[tuple[int, ...]]) -> Tensor:
        """(B, T + 1, D) final hidden states at <S0> and the image tokens. Padded on the right, where attention is
        causal and needs no mask: the fastest way."""
        rows = [[*ids, *tokens] for ids, tokens in zip(prompt_ids, completion_ids, strict=True)]
        longest, wanted = max(map(len, rows)), len(completion_ids[0]) + 1
        input_ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        states = self.policy.ar.model(input_ids=input_ids, use_cache=False).last_hidden_state
        first_B = torch.tensor([len(row) - wanted for row in rows])
        places = first_B[:, None] + torch.arange(wanted)
        return states.gather(1, places[..., None].expand(-1, -1, states.shape[-1]))

    def _sample(self, place: int, picture: NDArray[np.uint8]) -> Sample:
        prompt = self.prompts[place]
        return Sample(f"trl-{next(self._numbers)}", prompt.id, prompt, picture)

    def _scores(self, by_reward: Mapping[str, Sequence[Score]]) -> list[float]:
        """The weighted mean of the training rewards."""
        trained = {name: one.weight for name, one in self.rewards.items() if one.role == "train"}
        total = [0.0] * len(next(iter(by_reward.values())))
        for name, weight in trained.items():
            for place, score in enumerate(by_reward[name]):
                if score.failed:
                    raise UserError(f"rewards.{name} failed: {score.failure}")
                total[place] += weight * (score.value or 0.0) / sum(trained.values())
        return total
