"""Any text-to-image pipeline of diffusers as an evaluation's pipeline: prompts and seeds in, pictures out.

Each picture has a generator of its own, on the CPU, so it depends on its prompt and its seed alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rewards.pool.pool import RewardPool
from rl.data.stream import require_text_alone
from rl.evaluation.evaluate import Pipeline
from rl.registry import did_you_mean
from rl.trainer.engine import pick_device
from rl.types import Prompt, RunFailure, Sample, Score, UserError

_SHORT = {"steps": "num_inference_steps", "guidance": "guidance_scale"}
_OURS = ("prompt", "generator", "num_images_per_prompt", "output_type", "return_dict", "latents")
_DTYPES = ("float32", "bfloat16", "float16")
_CENSORED = "the pipeline's safety checker has blackened the picture"
_BROKEN = (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError, IndexError)
"""What diffusers raises on a folder or a call that is wrong."""


@dataclass
class TextToImage:
    """A loaded pipeline with its options bound. ``call`` is the pipeline itself."""

    folder: Path
    call: Callable[..., Any]
    options: Mapping[str, object]
    batch_size: int

    def paint(self, texts: Sequence[str], seeds: Sequence[int]) -> tuple[NDArray[np.uint8], list[str | None]]:
        """(B, H, W, 3) pictures, and for each what is wrong with it. Raises RunFailure."""
        pictures: list[NDArray[np.uint8]] = []
        wrong: list[str | None] = []
        for start in range(0, len(texts), self.batch_size):
            part = slice(start, start + self.batch_size)
            generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds[part]]
            try:
                answer = self.call(prompt=list(texts[part]), generator=generators, output_type="pil", **self.options)
            except _BROKEN as error:
                raise RunFailure(f"{self.folder}: the pipeline failed while painting: {_line(error)}") from error
            pictures += [np.asarray(picture.convert("RGB")) for picture in answer.images]
            censored = getattr(answer, "nsfw_content_detected", None) or [False] * len(generators)
            wrong += [_CENSORED if one else None for one in censored]
        return np.stack(pictures), wrong


def load_pipeline(folder: Path, given: Mapping[str, object]) -> TextToImage:
    """``given``: ``steps``, ``guidance``, ``dtype``, ``batch_size``, and what the pipeline's call takes by name.

    Raises UserError if diffusers cannot load the folder, it does not paint from text, or an option is wrong.
    """
    options = dict(given)
    dtype, batch_size = options.pop("dtype", "float32"), options.pop("batch_size", 4)
    if dtype not in _DTYPES:
        raise UserError(f"--pipeline-option dtype={dtype}: must be one of {', '.join(_DTYPES)}")
    if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
        raise UserError(f"--pipeline-option batch_size={batch_size}: must be a whole number from 1")
    pipeline = _loaded(folder, getattr(torch, str(dtype)))
    parameters = inspect.signature(type(pipeline).__call__).parameters
    if "prompt" not in parameters or "generator" not in parameters or "image" in _required(parameters):
        raise UserError(f"{folder}: a {type(pipeline).__name__} does not paint from text alone; give another pipeline")
    called = {_SHORT.get(key, key): value for key, value in options.items()}
    for key in called:
        if key not in parameters or key in _OURS or key == "self":
            known = sorted({*_SHORT, "dtype", "batch_size", *parameters} - {*_OURS, *_SHORT.values(), "self"})
            raise UserError(
                f"--pipeline-option {key}: {type(pipeline).__name__} has no such option{did_you_mean(key, known)}"
            )
    pipeline.set_progress_bar_config(disable=True)
    return TextToImage(folder, pipeline.to(pick_device()), called, batch_size)


def painted_by(model: TextToImage, rewards: RewardPool) -> Pipeline:
    """Its pictures, scored as those of a run are; one that it has censored is a failure of every reward."""

    def pipeline(
        prompts: Sequence[Prompt], samples_per_prompt: int, seeds: Sequence[int]
    ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
        require_text_alone(prompts, "text", str(model.folder))
        rows = [prompt for prompt in prompts for _ in range(samples_per_prompt)]
        pictures, wrong = model.paint([prompt.text for prompt in rows], seeds)
        samples = [
            Sample(f"eval0-{prompts[0].id}-{index}", prompt.id, prompt, picture)
            for index, (prompt, picture) in enumerate(zip(rows, pictures, strict=True))
        ]
        scores = rewards.score(samples)
        return pictures, {
            name: [_unless(why, score) for why, score in zip(wrong, found, strict=True)]
            for name, found in scores.items()
        }

    return pipeline


def _unless(wrong: str | None, score: Score) -> Score:
    applies = score.value is not None or score.failed
    return Score(None, failure=wrong) if wrong is not None and applies else score


def _loaded(folder: Path, dtype: torch.dtype) -> Any:
    from diffusers import AutoPipelineForText2Image, DiffusionPipeline
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()  # a bar for each part, above the one that counts pictures
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()  # it warns of image processors that no pipeline here has
    try:
        try:
            return AutoPipelineForText2Image.from_pretrained(folder, dtype=dtype, local_files_only=True)
        except ValueError:  # a class that the table of text-to-image pipelines does not list
            return DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except _BROKEN as error:
        raise UserError(f"{folder}: diffusers cannot load this pipeline: {_line(error)}") from error


def _required(parameters: Mapping[str, inspect.Parameter]) -> set[str]:
    return {name for name, one in parameters.items() if one.default is inspect.Parameter.empty}


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
