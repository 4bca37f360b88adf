"""The ``image_reward`` reward: human preference by a BLIP that reads the prompt while looking at the picture.

**Formula** (Xu et al. 2023, arXiv 2304.05977, section 3): with h the text encoder's [CLS] after cross-attention to the
picture, ``r = (MLP(h) - 0.16717...) / 1.03333...``; the constants give mean 0 and deviation 1 on the authors' data.

**Range** unbounded; others report about -2.3 to 2. 0 is an average picture of the authors' training set.

**Blind to** what lies beyond 35 tokens of the prompt; weak on counts, positions and spelling. Knows its prompt better
than CLIP's scores and looks less at beauty; pushed hard it oversaturates and repeats the subject.

**Weights** ``ImageReward.pt`` of ``THUDM/ImageReward`` (Apache-2.0): ``hf download THUDM/ImageReward ImageReward.pt``;
the tokenizer of ``google-bert/bert-base-uncased`` (Apache-2.0): ``hf download google-bert/bert-base-uncased
--include "*.json" --include "*.txt"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from rewards.library.golden_pictures import likelier_cat
from rewards.library.models.blip import ImageRewardModel
from rewards.library.models.downloads import BERT
from rewards.library.models.preprocess import Preprocess
from rewards.library.models.pretrained import load_processor
from rewards.library.models.weights import batches, find_file, read_weights, runtime
from rewards.requires import Requires
from rl.types import Sample, Score

IMAGE_REWARD: Final = "THUDM/ImageReward:ImageReward.pt"  # Apache-2.0, 1.8 GB
_MAX_TOKENS = 35  # as the authors trained it


class ImageReward:
    """Scores pictures by ImageReward. ``tokenizer``: hub name or folder of BERT's lower-case tokenizer.

    ``revision``, ``tokenizer_revision``: branch, tag or commit of the hub.
    """

    needs = {"gpus": 0.25}  # noqa: RUF012 - read from the source as it is written
    requires = Requires(weights=(IMAGE_REWARD,), tokenizers=(BERT,))
    golden = staticmethod(likelier_cat)

    def __init__(
        self,
        checkpoint: str = IMAGE_REWARD,
        tokenizer: str = BERT,
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        batch_size: int = 16,
    ) -> None:
        from transformers import AutoTokenizer

        self._runtime = runtime("image_reward.options", device, dtype, batch_size)
        path = find_file(checkpoint, at="image_reward.options", revision=revision)
        self._tokenizer = load_processor(
            AutoTokenizer, tokenizer, self._runtime, option="tokenizer", revision=tokenizer_revision
        )
        self.model = ImageRewardModel(read_weights(path, at="image_reward.options"))
        self._runtime.place(self.model)
        self._preprocess = Preprocess(self.model.image_size)

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        parts = batches(len(samples), self._runtime.batch_size)
        return [Score(value) for part in parts for value in self._values(samples[part])]

    @torch.inference_mode()
    def _values(self, samples: Sequence[Sample]) -> list[float]:
        texts = [sample.prompt.text for sample in samples]
        rows = self._tokenizer(
            texts, padding="max_length", truncation=True, max_length=_MAX_TOKENS, return_tensors="pt"
        ).to(self._runtime.device)
        pixels = torch.from_numpy(self._preprocess([sample.picture for sample in samples]))
        pixels = pixels.to(self._runtime.device, self._runtime.dtype)
        return [float(value) for value in self.model(pixels, rows["input_ids"], rows["attention_mask"])]
