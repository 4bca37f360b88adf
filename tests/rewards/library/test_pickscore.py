from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from rewards.library.pickscore import PickScore
from rl.types import UserError
from tests.rewards.library.tiny_models import PROMPTS, hf_clip, pictures, samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hf_clip(tmp_path_factory.mktemp("pickscore"))


def test_the_models_own_logits(folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        pixels = CLIPImageProcessorPil.from_pretrained(folder)(pictures(), return_tensors="pt")
        rows = tokenizer(list(PROMPTS), padding=True, truncation=True, max_length=40, return_tensors="pt")
        logits = model(**pixels, **rows).logits_per_image.diagonal().numpy()
    scores = PickScore(str(folder), device="cpu")(samples())
    np.testing.assert_allclose([score.value for score in scores], logits, atol=1e-4)
    scale = np.exp(3.0)  # the tiny checkpoint's logit_scale
    np.testing.assert_allclose([score.value / scale for score in scores], [s.details["cosine"] for s in scores])
    assert all(score.passed is None for score in scores)


def test_alone_or_in_a_batch_the_same(folder: Path) -> None:
    reward = PickScore(str(folder), device="cpu", batch_size=3)
    together = [score.value for score in reward(samples(5))]
    assert [reward([sample])[0].value for sample in samples(5)] == pytest.approx(together, abs=1e-4)


def test_a_folder_without_a_tokenizer_takes_the_one_named(folder: Path, tmp_path: Path) -> None:
    for file in ("config.json", "model.safetensors"):
        shutil.copy(folder / file, tmp_path)
    bare = PickScore(str(tmp_path), processor=str(folder), device="cpu")(samples())
    assert [s.value for s in bare] == [s.value for s in PickScore(str(folder), device="cpu")(samples())]
    with pytest.raises(UserError) as caught:
        PickScore(str(tmp_path), processor="someone/never-there", device="cpu")
    assert str(caught.value) == (
        "pickscore.options.processor: 'someone/never-there' is not on this machine and can't be "
        "downloaded now (HF_HUB_OFFLINE is set); with a "
        "network type `hf download someone/never-there`, or set pickscore.options.processor to the path of the folder"
    )
