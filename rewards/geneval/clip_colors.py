"""The ``clip`` colour classifier: the official GenEval's, CLIP ViT-L/14 zero-shot over the ten colours.

Card. An object is cut out by its mask onto grey #999, cropped to its box and compared with "a photo of a red dog",
"a photo of a red-colored dog" and "a photo of a red object", the three unit embeddings averaged and made unit again;
the nearest colour is the answer, there is no "none of these". Without a mask the box's pixels are used as they are.
Blind to the difference between an object and what lies before it in its box, and biased towards an object's usual
colour. Licence of OpenAI's weights: MIT. Get them: tag ``openai`` downloads ``timm/vit_large_patch14_clip_224.openai``
on first use; without a network ``hf download`` it elsewhere and set ``pretrained`` to the safetensors file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import normalize

from rewards.geneval.colors import COLORS, pixel_box
from rewards.geneval.hub import model_folder, pick_device
from rewards.open_clip_compat import import_open_clip
from rl.registry import did_you_mean
from rl.types import Detection, UserError

_GROUND = (0x99, 0x99, 0x99)
_TEMPLATES = ("a photo of a {color} {label}", "a photo of a {color}-colored {label}", "a photo of a {color} object")


class ClipColors:
    """``pretrained``: a tag of open_clip or a safetensors file for ``model``. ``mask``, ``crop``: cut the object out by
    its mask, and crop to its box (both as official). ``device``: the GPU if there is one."""

    def __init__(
        self,
        model: str = "ViT-L-14-quickgelu",
        pretrained: str = "openai",
        mask: bool = True,
        crop: bool = True,
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        open_clip = import_open_clip()
        if model not in open_clip.list_models():
            known = did_you_mean(model, open_clip.list_models())
            raise UserError(f"option `model` is {model!r}, which open_clip does not have{known}")
        self._device = pick_device(device)
        self._model = _load(open_clip, model, pretrained).to(self._device).eval()
        self._tokenize = open_clip.get_tokenizer(model)
        settings = open_clip.get_model_preprocess_cfg(self._model)
        size = settings["size"]
        self._side = size if isinstance(size, int) else size[0]
        self._mean, self._std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
        self._mask, self._crop, self._batch_size = mask, crop, batch_size
        self._colors_of: dict[str, Tensor] = {}

    @torch.inference_mode()
    def classify(self, pictures: Sequence[NDArray[np.uint8]], detections: Sequence[Detection]) -> list[str]:
        """N objects in, N of the ten colours out."""
        views = [cut_out(p, d, mask=self._mask, crop=self._crop) for p, d in zip(pictures, detections, strict=True)]
        names = []
        for start in range(0, len(views), self._batch_size):
            batch = slice(start, start + self._batch_size)
            pixels = torch.stack([self._prepare(view) for view in views[batch]])
            features_ND = normalize(self._model.encode_image(pixels.to(self._device)), dim=-1)
            for feature_D, detection in zip(features_ND, detections[batch], strict=True):
                names.append(COLORS[int((self._colors(detection.label) @ feature_D).argmax())])
        return names

    def _colors(self, label: str) -> Tensor:
        """(10, D): the unit text embedding of each colour of a ``label``."""
        if label not in self._colors_of:
            texts = [template.format(color=color, label=label) for color in COLORS for template in _TEMPLATES]
            embedded = normalize(self._model.encode_text(self._tokenize(texts).to(self._device)), dim=-1)
            mean_10D = embedded.view(len(COLORS), len(_TEMPLATES), -1).mean(dim=1)
            self._colors_of[label] = normalize(mean_10D, dim=-1)
        return self._colors_of[label]

    def _prepare(self, view: Image.Image) -> Tensor:
        """CLIP's own preprocessing: the shorter side scaled (bicubic), the middle cut out, normalised."""
        scale = self._side / min(view.size)
        size = (max(self._side, int(view.width * scale)), max(self._side, int(view.height * scale)))
        left, top = round((size[0] - self._side) / 2), round((size[1] - self._side) / 2)
        square = view.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + self._side, top + self._side))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
        return (pixels - self._mean) / self._std


def cut_out(picture: NDArray[np.uint8], detection: Detection, *, mask: bool, crop: bool) -> Image.Image:
    """The object as CLIP sees it: everything outside its mask grey (if it has one), cropped to its box."""
    if mask and detection.mask_HW is not None:
        picture = np.where(detection.mask_HW[..., None], picture, np.array(_GROUND, np.uint8))
    image = Image.fromarray(picture)
    return image.crop(pixel_box(detection, *picture.shape[:2])) if crop else image


def _load(open_clip: Any, model: str, pretrained: str) -> Any:
    quick_gelu = False
    if not Path(pretrained).expanduser().is_file():
        settings = open_clip.get_pretrained_cfg(model, pretrained)
        if not settings:
            tags = open_clip.list_pretrained_tags_by_model(model)
            raise UserError(
                f"option `pretrained` is {pretrained!r}, neither a file nor a tag of {model}"
                f"{did_you_mean(pretrained, tags)} (tags: {', '.join(tags) or 'none'})"
            )
        repository = settings["hf_hub"].rstrip("/")
        quick_gelu = bool(settings.get("quick_gelu"))
        pretrained = str(_weights(model_folder(repository, "pretrained")))
    elif Path(pretrained).suffix != ".safetensors":
        raise UserError(f"option `pretrained`: {pretrained} is not a .safetensors file, the only kind that is read")
    try:
        return open_clip.create_model(model, pretrained=pretrained, force_quick_gelu=quick_gelu)
    except (RuntimeError, AssertionError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"option `pretrained`: {pretrained} does not hold the weights of {model} ({reason})") from error


def _weights(folder: Path) -> Path:
    files = sorted(folder.glob("open_clip*.safetensors"))
    if not files:
        raise UserError(f"option `pretrained`: {folder} has no open_clip*.safetensors; download it anew")
    return files[0]
