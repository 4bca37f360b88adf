"""A reward that holds a model: the probability of one label under any transformers image classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from rl.types import Sample, Score, UserError


class Classifier:
    """``{use: "examples.custom_reward.classifier:Classifier", options: {checkpoint: FOLDER, label: landscape}}``.

    Options go to ``__init__``, which runs once in the reward's own worker process; samples go to ``__call__``.
    """

    def __init__(self, checkpoint: str, label: str) -> None:
        try:
            self.processor = AutoImageProcessor.from_pretrained(checkpoint, backend="pil")
            self.model = AutoModelForImageClassification.from_pretrained(checkpoint).eval()
        except OSError as error:
            raise UserError(f"options.checkpoint: {checkpoint!r} cannot be loaded: {error}") from error
        labels = {name: column for column, name in self.model.config.id2label.items()}
        if label not in labels:
            raise UserError(f"options.label is {label!r}; the classifier knows {', '.join(labels)}")
        self.label, self.column = label, labels[label]

    @torch.inference_mode()
    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        if not samples:
            return []
        inputs = self.processor(images=[sample.picture for sample in samples], return_tensors="pt")
        probs_BL = self.model(**inputs).logits.softmax(-1)
        names = self.model.config.id2label
        best_B = probs_BL.argmax(-1)  # a detail appears in the logs and in the report beside the picture
        return [
            Score(row[self.column].item(), details={"label": names[best.item()]}, passed=best.item() == self.column)
            for row, best in zip(probs_BL, best_B, strict=True)
        ]
