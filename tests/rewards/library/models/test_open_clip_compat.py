from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest

from rewards.library.models.open_clip_compat import TorchvisionMissing, import_open_clip


def test_open_clip_builds_and_runs_a_model_and_leaves_no_placeholder_behind() -> None:
    import torch

    open_clip = import_open_clip()
    vision = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32}
    text = {"context_length": 8, "vocab_size": 100, "width": 64, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)
    assert model.encode_image(torch.zeros(2, 3, 32, 32)).shape == (2, 32)
    assert model.encode_text(torch.ones(2, 8, dtype=torch.long)).shape == (2, 32)
    if find_spec("torchvision") is None:
        assert not [name for name in sys.modules if name.partition(".")[0] == "torchvision"]


def test_a_placeholder_says_why_it_cannot_be_used() -> None:
    with pytest.raises(ImportError, match="needs torchvision, which is not installed beside CPU torch"):
        TorchvisionMissing(3)
