"""CLIP (Radford et al. 2021, arXiv 2103.00020) from transformers or open_clip: pictures and prompts to unit vectors.

Which library reads a checkpoint:

- with ``model`` set (``ViT-L-14``, ``ViT-H-14-quickgelu`` ...): open_clip builds that architecture; the checkpoint is
  a weight file, ``owner/name:file``, or one of open_clip's own tags (``openai``, ``laion2b_s32b_b79k``);
- ``hf-hub:owner/name``, or a folder with ``open_clip_config.json``: open_clip reads architecture and weights there;
- otherwise transformers: a folder with ``config.json``, or ``owner/name`` on the hub.

OpenAI's weights were trained with the activation QuickGELU: in open_clip they need the ``-quickgelu`` architecture.
Plain ``ViT-L-14`` gives wrong numbers with them: it is refused with a tag such as ``openai``, and nothing tells for a
file. Prompts over the model's 77 tokens are cut.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rewards.library.models.preprocess import CLIP_MEAN, CLIP_STD, Fit, Preprocess
from rewards.library.models.pretrained import load_model, load_processor
from rewards.library.models.weights import Runtime, batches, find_file
from rl.registry import did_you_mean
from rl.types import UserError

Encode = Callable[[Tensor], Tensor]
_NOT_LOADED = (
    RuntimeError, AssertionError, OSError, ValueError, KeyError, EOFError, struct.error, pickle.UnpicklingError,
)  # fmt: skip


class ClipModel:
    """Embeds pictures and prompts in batches; E numbers each, of length 1, float32 on the CPU."""

    def __init__(
        self,
        module: nn.Module,
        *,
        pictures: Encode,
        texts: Callable[[list[str]], Tensor],
        preprocess: Preprocess,
        logit_scale: float,
        runtime: Runtime,
    ) -> None:
        """``pictures``: (N, 3, S, S) -> (N, E). ``texts``: N prompts -> (N, E). ``logit_scale``: exponentiated."""
        self.module, self.preprocess, self.logit_scale = module, preprocess, logit_scale
        self._encode_pictures, self._encode_texts, self._runtime = pictures, texts, runtime

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """N pictures (H, W, 3) uint8 RGB -> (N, E)."""
        return self._normalised(
            self._encode_pictures(
                torch.from_numpy(self.preprocess(pictures[part])).to(self._runtime.device, self._runtime.dtype)
            )
            for part in batches(len(pictures), self._runtime.batch_size)
        )

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """N prompts -> (N, E). A prompt that comes several times (a group) is embedded once."""
        distinct = list(dict.fromkeys(texts))
        embedded = self._normalised(
            self._encode_texts(distinct[part]) for part in batches(len(distinct), self._runtime.batch_size)
        )
        return embedded[[distinct.index(text) for text in texts]]

    def cosines(self, pictures: Sequence[NDArray[np.uint8]], texts: Sequence[str]) -> list[float]:
        """The cosine between each of N pictures and the prompt at its place, N numbers in [-1, 1]."""
        if not pictures:
            return []
        return [float(c) for c in (self.embed_pictures(pictures) * self.embed_texts(texts)).sum(dim=1)]

    @staticmethod
    def _normalised(rows: Iterable[Tensor]) -> Tensor:
        return nn.functional.normalize(torch.cat([row.float().cpu() for row in rows]), dim=1)


def load_clip(
    checkpoint: str,
    runtime: Runtime,
    *,
    model: str | None = None,
    option: str = "checkpoint",
    processor: str | None = None,
    revision: str | None = None,
    processor_revision: str | None = None,
    fit: Fit = "shortest",
) -> ClipModel:
    """A CLIP by the rules above. ``processor``: another hub name or folder for transformers' tokenizer and picture
    settings. ``revision``: of ``checkpoint`` on the hub. Raises ``UserError`` naming the option ``option`` if it can't
    be had or does not fit.
    """
    if model is not None or checkpoint.startswith("hf-hub:") or (Path(checkpoint) / "open_clip_config.json").is_file():
        return _load_open_clip(checkpoint, runtime, model=model, option=option, revision=revision, fit=fit)
    if processor is None or processor == checkpoint:
        processor, processor_revision = checkpoint, revision
    return _load_transformers(
        checkpoint,
        runtime,
        option=option,
        revision=revision,
        processor=processor,
        processor_revision=processor_revision,
    )


# --- transformers -----------------------------------------------------------------------------------------------------


def _load_transformers(
    checkpoint: str,
    runtime: Runtime,
    *,
    option: str,
    revision: str | None,
    processor: str,
    processor_revision: str | None,
) -> ClipModel:
    from transformers import AutoTokenizer, CLIPModel

    module = load_model(CLIPModel, checkpoint, runtime, option=option, revision=revision)
    logit_scale = module.logit_scale.exp().item()  # before a cast to 16 bits, which would move it by 1 %
    runtime.place(module)
    named_by = option if processor == checkpoint else "processor"
    tokenizer = load_processor(AutoTokenizer, processor, runtime, option=named_by, revision=processor_revision)
    length = module.config.text_config.max_position_embeddings

    def texts(prompts: list[str]) -> Tensor:
        # A fixed length: what else is in the batch then changes no shape.
        rows = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        rows = {name: rows[name].to(runtime.device) for name in ("input_ids", "attention_mask")}
        return module.text_projection(module.text_model(**rows).pooler_output)

    return ClipModel(
        module,
        pictures=lambda pixels: module.visual_projection(module.vision_model(pixel_values=pixels).pooler_output),
        texts=texts,
        preprocess=transformers_preprocess(processor, module.config.vision_config.image_size, processor_revision)
        or Preprocess(module.config.vision_config.image_size, centre="floor"),
        logit_scale=logit_scale,
        runtime=runtime,
    )


def transformers_preprocess(checkpoint: str, image_size: int, revision: str | None = None) -> Preprocess | None:
    """What ``preprocessor_config.json`` says (``image_size``: the model's input); ``None`` if there is no such file."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        settings = ImageProcessingMixin.get_image_processor_dict(checkpoint, revision=revision)[0]
    except OSError:
        return None
    resize = settings.get("size", image_size)
    squash = isinstance(resize, Mapping) and "shortest_edge" not in resize
    resize = _side(resize) if settings.get("do_resize", True) else image_size
    crop = _side(settings.get("crop_size", resize)) if settings.get("do_center_crop", True) else resize
    return Preprocess(
        size=crop,
        resize=resize,
        fit="squash" if squash else "shortest",
        centre="floor",
        mean=tuple(settings.get("image_mean", CLIP_MEAN)),
        std=tuple(settings.get("image_std", CLIP_STD)),
        resample=int(settings.get("resample", Preprocess.resample)),
    )


def _side(size: int | Mapping[str, int]) -> int:
    return size.get("shortest_edge") or size["height"] if isinstance(size, Mapping) else size


# --- open_clip --------------------------------------------------------------------------------------------------------


def _load_open_clip(
    checkpoint: str, runtime: Runtime, *, model: str | None, option: str, revision: str | None, fit: Fit
) -> ClipModel:
    open_clip = _open_clip(runtime.at)
    name, pretrained = _open_clip_source(open_clip, checkpoint, runtime, model=model, option=option, revision=revision)
    try:
        module = open_clip.create_model(name, pretrained=pretrained, weights_only=True, require_pretrained=True)
    except _NOT_LOADED as error:
        raise UserError(
            f"{runtime.at}.{option}: open_clip can't load {checkpoint!r} as {name} "
            f"({' '.join(str(error).split())[:160]})"
        ) from error
    tokenizer = open_clip.get_tokenizer(name)
    settings = module.visual.preprocess_cfg
    size = settings["size"]
    logit_scale = module.logit_scale.exp().item()  # before the cast, as above
    runtime.place(module)
    return ClipModel(
        module,
        pictures=module.encode_image,
        texts=lambda prompts: module.encode_text(tokenizer(prompts).to(runtime.device)),
        preprocess=Preprocess(
            size=size if isinstance(size, int) else size[0],
            fit=settings["resize_mode"] if fit == "shortest" else fit,
            mean=tuple(settings["mean"]),
            std=tuple(settings["std"]),
            resample=2 if settings["interpolation"] == "bilinear" else 3,
        ),
        logit_scale=logit_scale,
        runtime=runtime,
    )


def _open_clip(at: str) -> ModuleType:
    from rewards.library.models.open_clip_compat import import_open_clip

    try:
        return import_open_clip()
    except ImportError as error:
        raise UserError(f"{at}: open_clip can't be imported ({error}); `pip install open-clip-torch`") from error


def _open_clip_source(
    open_clip: ModuleType, checkpoint: str, runtime: Runtime, *, model: str | None, option: str, revision: str | None
) -> tuple[str, str | None]:
    """open_clip's pair (architecture or place, weights)."""
    if revision is not None and (model is None or open_clip.get_pretrained_cfg(model, checkpoint)):
        raise UserError(
            f"{runtime.at}.revision is {revision!r}, and open_clip takes none for {checkpoint!r}; name the weights as "
            f"owner/name:file with their `model`, or drop the revision"
        )
    if model is None:
        return (checkpoint if checkpoint.startswith("hf-hub:") else f"local-dir:{checkpoint}"), None
    known = open_clip.list_models()
    if model not in known:
        raise UserError(
            f"{runtime.at}.model: open_clip has no architecture {model!r}{did_you_mean(model, known)} "
            f"(open_clip.list_models() lists them)"
        )
    if settings := open_clip.get_pretrained_cfg(model, checkpoint):
        other = f"{model}-quickgelu"
        if settings.get("quick_gelu") and not open_clip.get_model_config(model).get("quick_gelu") and other in known:
            raise UserError(
                f"{runtime.at}.model: the weights {checkpoint!r} were trained with QuickGELU, which {model} has not; "
                f"set it to {other}"
            )
        return model, checkpoint
    return model, str(find_file(checkpoint, at=runtime.at, option=option, revision=revision))
