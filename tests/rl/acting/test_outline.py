"""An outline has the shapes and the words of its policy, and none of its numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy.base import Policy
from rl.acting.outline import outline


def test_an_outline_has_shapes_and_no_numbers(tiny_policy: Path) -> None:
    whole, found = Policy.load(tiny_policy), outline(tiny_policy)
    networks = [*found.ar.parameters(), *found.ar.buffers(), *found.decoder.parameters(), *found.decoder.buffers()]
    assert {tensor.device.type for tensor in networks} == {"meta"}
    for mine, other in ((found.ar, whole.ar), (found.decoder, whole.decoder)):
        shapes = [{name: (one.shape, one.dtype) for name, one in net.state_dict().items()} for net in (mine, other)]
        assert shapes[0] == shapes[1]
    assert found.decoder.picture_side == whole.decoder.picture_side
    assert (found.folder, found.layout) == (whole.folder, whole.layout)


def test_an_outline_reads_words_and_no_pictures(tiny_policy: Path) -> None:
    found = outline(tiny_policy, "bfloat16")
    assert found.text_ids("two red circles") == Policy.load(tiny_policy).text_ids("two red circles")
    assert {str(one.dtype) for one in found.ar.parameters()} == {"torch.bfloat16"}
    with pytest.raises(NotImplementedError, match="an outline of a policy has no image tokenizer"):
        found.image_tokenizer.encode(np.zeros((1, 8, 8, 3), np.uint8))
