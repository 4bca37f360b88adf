"""A diffusers pipeline paints what its prompts and seeds say, whatever else is in the batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rl.evaluate.diffusion import TextToImage, load_pipeline, painted_by
from rl.types import Prompt, RunFailure, Score, UserError


def test_a_picture_depends_on_its_prompt_and_seed_alone(pipeline_folder: Path) -> None:
    model = load_pipeline(pipeline_folder, {"steps": 2, "guidance": 1.0, "batch_size": 2})
    together, wrong = model.paint(["a cat", "a dog", "a dog"], [1, 2, 3])
    assert together.shape == (3, 16, 16, 3) and together.dtype == np.uint8 and wrong == [None] * 3
    alone, _ = model.paint(["a dog"], [2])
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    assert (together[1] != together[2]).any()
    assert load_pipeline(pipeline_folder, {"steps": 2, "height": 32, "width": 24}).paint(["x"], [1])[0].shape[1:3] == (
        32,
        24,
    )


def test_options_that_a_pipeline_does_not_have(pipeline_folder: Path) -> None:
    for options, sentence in [
        (
            {"guidence": 2},
            "--pipeline-option guidence: StableDiffusionPipeline has no such option, did you mean 'guidance'",
        ),
        ({"generator": 1}, "--pipeline-option generator: StableDiffusionPipeline has no such option"),
        ({"dtype": "int8"}, "--pipeline-option dtype=int8: must be one of float32, bfloat16, float16"),
        ({"batch_size": 0}, "--pipeline-option batch_size=0: must be a whole number from 1"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load_pipeline(pipeline_folder, options)
    with pytest.raises(RunFailure, match="the pipeline failed while painting: '>' not supported"):
        load_pipeline(pipeline_folder, {"guidance": "much"}).paint(["x"], [1])


def test_a_folder_that_diffusers_cannot_load(pipeline_folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(pipeline_folder, broken)
    next((broken / "unet").glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match="broken: diffusers cannot load this pipeline: .*unet"):
        load_pipeline(broken, {})
    index = json.loads((pipeline_folder / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "_class_name": "NoSuchPipeline"}))
    with pytest.raises(UserError, match="diffusers cannot load this pipeline"):
        load_pipeline(tmp_path, {})


def test_a_censored_picture_is_a_failure_and_never_zero() -> None:
    class Scores:
        def score(self, samples: Any) -> dict[str, list[Score]]:
            return {"a": [Score(0.0)] * len(samples), "b": [Score(None)] * len(samples)}

    def call(**_: object) -> SimpleNamespace:
        pictures = [Image.new("RGB", (4, 4), color) for color in ("red", "black")]
        return SimpleNamespace(images=pictures, nsfw_content_detected=[False, True])

    model = TextToImage(Path("sd"), call, {}, batch_size=2)
    pictures, scores = painted_by(model, Scores())([Prompt("p", "x")], 2, [1, 2])  # type: ignore[arg-type]
    assert pictures.shape == (2, 4, 4, 3)
    assert scores["a"] == [Score(0.0), Score(None, failure="the pipeline's safety checker has blackened the picture")]
    assert scores["b"] == [Score(None), Score(None)]
