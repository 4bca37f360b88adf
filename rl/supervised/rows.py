"""Examples -> the rows of an update: tokens and latents of the pictures, noise, what is dropped.

Which noise level, which noise and which conditions are dropped is a hash of the run's seed, the step and the row: no
rank and no micro-batch has a say, and a resumed step repeats itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policy.base import Policy
from policy.pictures.view import square_view
from policy.prompt_length import room_for_prompt
from rl.config.sections.supervised import SupervisedConfig
from rl.data.examples.contract import NOT_ASKED, Example
from rl.supervised.answers import AnswerRows
from rl.supervised.batch import HeadNames, PictureBatch
from rl.supervised.reading import PictureReading, features_of
from rl.types import UserError
from rollout.seeds import sample_seed

_TIMESTEPS = 1000.0


@dataclass
class RowMaker:
    """The frozen parts of the policy make rows: its templates, its image tokenizer, its autoencoder."""

    policy: Policy
    options: SupervisedConfig
    seed: int
    most_at_once: int = 64
    """Pictures that are encoded at one time."""

    @property
    def side(self) -> int:
        return self.policy.decoder.picture_side

    @cached_property
    def _reading(self) -> PictureReading:
        return PictureReading(self.policy, self.options, self._answers)

    @cached_property
    def _room(self) -> int:
        return room_for_prompt(self.policy.folder, self.policy.layout)

    @cached_property
    def _answers(self) -> AnswerRows:
        return AnswerRows(self.policy, self.options.softmax)

    def problem(self, example: Example) -> str | None:
        """Why no row can be made of it, whatever its picture."""
        if problem := self._answers.problem(example):
            return problem
        if example.picture is None and self.options.redraws:
            return "it is text alone, and an understanding branch that learns redraws the picture of every row"
        length = self._length(example)
        return f"its prompt has {length} tokens, and there is room for {self._room}" if length > self._room else None

    def _length(self, example: Example) -> int:
        if example.picture is None:
            return len(self._answers.opening(example.prompt))
        return self.policy.prompt_length(example.prompt)

    def __call__(self, examples: Sequence[Example], pixels_BHW3: NDArray[np.uint8], step: int) -> PictureBatch:
        """Sorted by the length of their prompts, so that a micro-batch holds few pads."""
        read = [self._reading(example, self._how(step, row)) for row, example in enumerate(examples)]
        order = sorted(range(len(examples)), key=lambda row: len(read[row].ids))
        drawn = [self._drawn(step, row) for row in range(len(examples))]
        sigma_B, kept_B, seen_B, noise = (torch.stack(column)[order] for column in zip(*drawn, strict=True))
        ids, ordered = [read[row].ids for row in order], [examples[row] for row in order]
        tokens_BT, answer_BT = self._answers.put(ordered, torch.from_numpy(self._tokens(pixels_BHW3[order])))
        latents = self._latents(pixels_BHW3[order]) if self.options.losses.flow else torch.zeros_like(noise)
        sigma_4d = sigma_B.view(-1, 1, 1, 1)
        weights = {name: self._weights(ordered, name) for name in ("image", "text", "flow")}
        labels_BTH, heads = self._labels(ordered, tokens_BT)
        references_BChw, has_B = self._references(ordered)
        return PictureBatch(
            prompt_ids=ids,
            tokens_BT=tokens_BT,
            temperature=1.0,
            features=features_of([read[row] for row in order]),
            pixels_B3HW=self._reading.pixels(pixels_BHW3[order]),
            states=(1 - sigma_4d) * latents + sigma_4d * noise,
            timestep_B=sigma_B * _TIMESTEPS,
            keep_B=kept_B,
            references_BChw=references_BChw,
            has_reference_B=has_B,
            keep_reference_B=None if has_B is None else seen_B,
            target=noise - latents,
            image_B=weights["image"],
            text_B=weights["text"],
            flow_B=weights["flow"],
            changed_BT=self._changed(ids, tokens_BT),
            answer_BT=answer_BT,
            labels_BTH=labels_BTH,
            heads=heads,
        )

    def _drawn(self, step: int, row: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(noise level, 1 or 0 for a dropped condition, the same for a dropped reference, noise)."""
        generator = torch.Generator().manual_seed(sample_seed(self.seed, step, "supervised", row))
        uniform, normal = torch.rand(2, generator=generator), torch.randn((), generator=generator)
        sigma = uniform[0] if self.options.sigmas == "uniform" else torch.sigmoid(normal)
        noise = torch.randn(self.policy.decoder.latent_shape, generator=generator)
        drop, apart, both = self.options.drop, *torch.rand(2, generator=generator)
        together = both < drop.both
        kept = (uniform[1] >= drop.condition) & ~together
        return sigma, kept.float(), ((apart >= drop.reference) & ~together).float(), noise

    def _references(self, examples: Sequence[Example]) -> tuple[Tensor | None, Tensor | None]:
        """(latents of the pictures that are to be changed, whether there is one); ``None`` for a decoder without eyes
        for them, and where no row of the step has one: what sees them then learns nothing on any rank."""
        pictures = [next(iter(example.prompt.pictures), None) for example in examples]
        decoder = self.policy.decoder
        if decoder.reference is None or not self.options.losses.flow or not any(pictures):
            return None, None
        has_B = torch.tensor([picture is not None for picture in pictures])
        found = torch.zeros(len(pictures), *decoder.latent_shape)
        views = [square_view(picture.pixels, self.side) for picture in pictures if picture is not None]
        found[has_B] = self._latents(np.stack(views))
        return found, has_B

    def _how(self, step: int, row: int) -> float:
        """Which of its two views a question's picture is read by."""
        generator = torch.Generator().manual_seed(sample_seed(self.seed, step, "read", row))
        return float(torch.rand((), generator=generator))

    def _tokens(self, pixels_BHW3: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.concatenate([self.policy.image_tokenizer.encode(part) for part in self._parts(pixels_BHW3)])

    @torch.no_grad()
    def _latents(self, pixels_BHW3: NDArray[np.uint8]) -> Tensor:
        """(B, C, h, w) scaled, on the CPU: what the decoder is to paint, not a sample around it."""
        vae, found = self.policy.decoder.vae, []
        where = next(vae.parameters())
        for part in self._parts(pixels_BHW3):
            encoded = vae.encode(as_pixels(part).to(where.device, where.dtype), return_dict=False)[0]
            found.append((encoded.float() * vae.config.scaling_factor).cpu())
        return torch.cat(found)

    def _parts(self, pixels_BHW3: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        return [pixels_BHW3[at : at + self.most_at_once] for at in range(0, len(pixels_BHW3), self.most_at_once)]

    def _weights(self, examples: Sequence[Example], name: str) -> Tensor:
        """An answer in words counts in no loss of pictures."""
        none = [name != "text" and example.answer is not None for example in examples]
        weights = [0.0 if no else one.weights.get(name, 1.0) for no, one in zip(none, examples, strict=True)]
        return torch.tensor(weights, dtype=torch.float32)

    def _changed(self, prompt_ids: Sequence[tuple[int, ...]], tokens_BT: Tensor) -> Tensor:
        """Each row's mean is 1, so that an edit counts as much as a drawing."""
        weight, image = self.options.changed_weight, self.policy.layout.image
        found_BT = torch.ones(tokens_BT.shape, dtype=torch.float32)
        for row, ids in enumerate(prompt_ids if weight != 1.0 else ()):
            before = [one for one in ids if image.start <= one < image.stop]
            if len(before) == tokens_BT.shape[1]:
                changed_T = (tokens_BT[row] != torch.tensor(before)).float()
                weights_T = 1.0 + (weight - 1.0) * changed_T
                found_BT[row] = weights_T / weights_T.mean().clamp(min=1e-9)
        return found_BT

    def _labels(self, examples: Sequence[Example], tokens_BT: Tensor) -> tuple[Tensor | None, HeadNames | None]:
        if not self.options.heads:
            return None, None
        found, answered_B1 = [], torch.tensor([[example.answer is not None] for example in examples])
        for name, classes in self.options.heads.items():
            labels_BT = self._label(name, examples, tokens_BT).masked_fill(answered_B1, NOT_ASKED)
            if int(labels_BT.max()) >= classes:
                raise UserError(
                    f"supervised.heads.{name}: is {classes}, and an example has the label {int(labels_BT.max())}; "
                    f"make it at least {int(labels_BT.max()) + 1}"
                )
            found.append(labels_BT)
        return torch.stack(found, -1), HeadNames(tuple(self.options.heads))

    def _label(self, name: str, examples: Sequence[Example], tokens_BT: Tensor) -> Tensor:
        if name == "code":
            return tokens_BT - self.policy.layout.image.start
        if name == "place":
            return torch.arange(tokens_BT.shape[1]).expand(tokens_BT.shape)
        return torch.stack([_labelled(example.labels, name, tokens_BT.shape[1]) for example in examples])


def _labelled(labels: Mapping[str, NDArray[np.int64]], name: str, tokens: int) -> Tensor:
    return torch.from_numpy(labels[name]) if name in labels else torch.full((tokens,), NOT_ASKED)


def as_pixels(pictures_BHW3: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) in [-1, 1]."""
    return torch.tensor(np.ascontiguousarray(pictures_BHW3)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
