"""What a supervised update looks at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from policy.supervised.network import PictureQuery


@dataclass(frozen=True)
class HeadNames:
    """Of the labels' last axis."""

    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PictureBatch(PictureQuery):
    """B prompts with their pictures, as tokens and as noised latents.

    Example: 32 rows of the embedded model: ``tokens_BT`` (32, 16), ``states`` and ``target`` (32, 32, 4, 4).
    """

    target: Tensor  # of the flow: noise minus clean latents
    image_B: Tensor  # what each row counts in the loss of its picture's tokens
    text_B: Tensor  # the same of its prompt's ids
    flow_B: Tensor  # the same of its flow
    changed_BT: Tensor  # what each token counts in its row: more where it differs from the prompt's picture
    answer_BT: Tensor | None = None  # what each token of an answer in words counts; 0 in rows of pictures
    labels_BTH: Tensor | None = None  # int64, -100 where nothing is asked
    heads: HeadNames | None = None
    image_BT: Tensor | None = None  # what an entry is multiplied by, over the whole batch; the objective makes these
    text_each_B: Tensor | None = None
    flow_each_B: Tensor | None = None
    heads_BTH: Tensor | None = None
    share_B1: Tensor | None = None  # 1 / B
