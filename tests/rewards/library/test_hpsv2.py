from __future__ import annotations

import numpy as np
import pytest
import torch

from rewards.library.hpsv2 import HpsV2
from rl.types import UserError
from tests.rewards.library.tiny_models import PROMPTS, SIDE, open_clip_architecture, pictures, samples


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Saved as the authors do: the model's names under the key ``state_dict``."""
    folder = tmp_path_factory.mktemp("hpsv2")
    model = open_clip_architecture(folder / "architectures", "tiny-HPS")
    torch.save({"state_dict": model.state_dict()}, folder / "HPS_tiny.pt")
    return str(folder / "HPS_tiny.pt")


def padded(picture: np.ndarray) -> torch.Tensor:
    """(3, SIDE, SIDE): the longer side to SIDE by PIL, black around it, then CLIP's normalisation; written out."""
    from PIL import Image

    height, width = picture.shape[:2]
    scale = SIDE / max(height, width)
    small = np.asarray(Image.fromarray(picture).resize((round(width * scale), round(height * scale)), Image.BICUBIC))
    canvas = np.zeros((SIDE, SIDE, 3))
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    return torch.from_numpy((canvas - mean) / std).permute(2, 0, 1).float()


def test_the_cosine_of_the_models_own_features_on_padded_pictures(checkpoint: str) -> None:
    import open_clip

    scores = HpsV2(checkpoint, model="tiny-HPS", device="cpu")(samples())
    model = open_clip.create_model("tiny-HPS").eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    with torch.no_grad():
        image = model.encode_image(torch.stack([padded(picture) for picture in pictures()]))
        text = model.encode_text(open_clip.get_tokenizer("tiny-HPS")(list(PROMPTS)))
    expected = torch.nn.functional.cosine_similarity(image, text)
    np.testing.assert_allclose([score.value for score in scores], expected, atol=1e-5)
    assert [score.details["cosine"] for score in scores] == [score.value for score in scores]
    assert all(score.passed is None for score in scores)


def test_alone_or_in_a_batch_the_same(checkpoint: str) -> None:
    reward = HpsV2(checkpoint, model="tiny-HPS", device="cpu", batch_size=3)
    together = [score.value for score in reward(samples(5))]
    assert [reward([sample])[0].value for sample in samples(5)] == pytest.approx(together, abs=1e-5)


def test_nothing_downloaded_is_one_sentence() -> None:
    with pytest.raises(UserError) as caught:
        HpsV2("someone/never-there:HPS.pt")
    assert str(caught.value) == (
        "hpsv2.options.checkpoint: 'someone/never-there:HPS.pt' is not on this machine and can't be "
        "downloaded now (HF_HUB_OFFLINE is set); "
        "with a network type `hf download someone/never-there HPS.pt`, or set hpsv2.options.checkpoint to the path of "
        "the file"
    )
