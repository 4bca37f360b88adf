"""The loss of a supervised run: cross-entropy of words and image tokens, flow matching, and what heads read.

Every kind is a mean over its own elements of the whole batch, whatever rank and micro-batch they come to, and is
weighed after that: one mean over all would give a picture of 729 tokens the say, and two words none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from policy.supervised.network import PictureAnswer
from policy.supervised.understanding import Redrawn
from rl.algorithm.terms import Control, Shown, Term
from rl.config.sections.supervised import LossWeights
from rl.data.examples.contract import NOT_ASKED
from rl.supervised.batch import PictureBatch
from rl.types import Span


@dataclass(frozen=True)
class SupervisedObjective:
    """``image``: the ids of image tokens, which are given where a prompt holds them."""

    losses: LossWeights
    image: Span

    @property
    def reference(self) -> frozenset[str]:
        return frozenset()

    @property
    def controls(self) -> Mapping[str, Control]:
        return {}

    def prepare(self, batch: PictureBatch) -> PictureBatch:
        rows = len(batch)
        words_B = torch.tensor([sum(asked) for asked in self._asked(batch)], dtype=torch.float32)
        image_BT = batch.image_B[:, None] * batch.changed_BT
        heads_BTH = None if batch.labels_BTH is None else (batch.labels_BTH != NOT_ASKED).float()
        return replace(
            batch,
            image_BT=image_BT / image_BT.sum().clamp(min=1e-9),
            text_each_B=batch.text_B / (batch.text_B * words_B).sum().clamp(min=1e-9),
            answer_BT=None if batch.answer_BT is None else batch.answer_BT / batch.answer_BT.sum().clamp(min=1e-9),
            flow_each_B=batch.flow_B / batch.flow_B.sum().clamp(min=1e-9),
            heads_BTH=None if heads_BTH is None else heads_BTH / heads_BTH.sum((0, 1)).clamp(min=1),
            share_B1=torch.full((rows, 1), 1.0 / rows),
        )

    def _asked(self, rows: PictureBatch) -> list[list[bool]]:
        """Of each id but the first, whether it is learnt: what a picture is read by is not."""
        found = [[not self.image.start <= one < self.image.stop for one in ids] for ids in rows.prompt_ids]
        for asked, picture in zip(found, rows.features or (), strict=False):
            if picture is not None:
                length = len(picture.vectors_ND)
                asked[picture.start : picture.start + length] = [False] * length
        return [asked[1:] for asked in found]

    def referred(self, rows: PictureBatch, *, moving: bool = False) -> bool:
        return True

    def refer(self, rows: PictureBatch, reference: PictureAnswer, *, moving: bool = False) -> PictureBatch:
        return rows

    def weights(self, rows: PictureBatch) -> Tensor:
        """(B, 1), the same for all: what a row counts in each kind of loss is in the terms already."""
        if rows.share_B1 is None:
            raise ValueError("these rows have no weights: call prepare() on the whole batch first")
        return rows.share_B1

    def __call__(self, outputs: PictureAnswer, rows: PictureBatch) -> Mapping[str, Term]:
        """Those that weigh something."""
        assert rows.image_BT is not None and rows.share_B1 is not None  # prepare() has made them
        back_B1 = 1.0 / rows.share_B1  # what the rows are multiplied by once more
        found: dict[str, Term] = {}
        if self.losses.image:
            image_B1 = -(outputs.forward.logprobs_BT.float() * rows.image_BT).sum(1, keepdim=True) * back_B1
            shown = {"entropy": Shown(outputs.forward.entropy_BT.mean(1, keepdim=True))}
            found["image"] = _term(self.losses.image, image_B1, "ce_image", shown)
        if self.losses.answer and rows.answer_BT is not None:
            answer_B1 = -(outputs.forward.logprobs_BT.float() * rows.answer_BT).sum(1, keepdim=True) * back_B1
            found["answer"] = _term(self.losses.answer, answer_B1, "ce_answer")
        if self.losses.text and outputs.forward.prompt_logprobs_BL is not None:
            text_B1 = self._words(outputs.forward.prompt_logprobs_BL, rows) * back_B1
            found["text"] = _term(self.losses.text, text_B1, "ce_text")
        if self.losses.flow and outputs.flow is not None:
            assert rows.flow_each_B is not None
            error_B = (outputs.flow.float() - rows.target).square().flatten(1).mean(1)
            found["flow"] = _term(self.losses.flow, (error_B * rows.flow_each_B)[:, None] * back_B1, "flow")
        found |= self._redrawn(outputs.redrawn) if outputs.redrawn else {}
        for name, logits_BTK in outputs.head_logits.items():
            found[f"head_{name}"] = _term(self.losses.heads, _head(name, logits_BTK, rows) * back_B1, f"head/{name}")
        return found

    def _redrawn(self, known: Redrawn) -> dict[str, Term]:
        losses = self.losses
        weighed = {
            "reconstruction": (losses.reconstruction, known.from_codes_B),
            "reading": (losses.reading, known.from_features_B),
            "quantiser": (losses.quantiser, known.quantiser_B),
        }
        return {
            name: _term(weight, value_B.float()[:, None], name) for name, (weight, value_B) in weighed.items() if weight
        }

    def _words(self, logprobs_BL: Tensor, rows: PictureBatch) -> Tensor:
        assert rows.text_each_B is not None
        counted_BL = torch.zeros_like(logprobs_BL)
        for row, asked in enumerate(self._asked(rows)):
            counted_BL[row, : len(asked)] = torch.tensor(asked, dtype=counted_BL.dtype)
        return -(logprobs_BL.float() * counted_BL).sum(1, keepdim=True) * rows.text_each_B[:, None]


def _head(name: str, logits_BTK: Tensor, rows: PictureBatch) -> Tensor:
    assert rows.labels_BTH is not None and rows.heads is not None and rows.heads_BTH is not None
    place = rows.heads.names.index(name)
    wrong_BT = F.cross_entropy(
        logits_BTK.float().transpose(1, 2), rows.labels_BTH[..., place], ignore_index=NOT_ASKED, reduction="none"
    )
    return (wrong_BT * rows.heads_BTH[..., place]).sum(1, keepdim=True)


def _term(weight: float, loss_B1: Tensor, name: str, shown: Mapping[str, Shown] | None = None) -> Term:
    return Term(weight * loss_B1, {name: Shown(loss_B1.detach(), "sum"), **(shown or {})})
