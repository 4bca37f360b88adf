"""A policy without its weights: what a process has to know that neither reads nor paints nor learns by itself."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn, Self

import numpy as np
import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaTransformer2DModel
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from policy.ar.loading import make_connector
from policy.base import Policy
from policy.decoder import Decoder
from policy.folder import read_policy_config, read_prompt_encoder, read_task_templates, resolve_folder
from policy.json_file import JsonObject, read_json
from policy.layout import TokenLayout


def outline(folder: str | Path, dtype: str = "float32") -> Policy:
    """Text encoders and layout are there; networks have shapes and no numbers (torch's meta device), and there is no
    image tokenizer. ``dtype``: of the language model, where others have it."""
    folder = resolve_folder(folder)
    layout, template = read_policy_config(folder)
    config = read_json(folder / "connector" / "config.json")
    with torch.device("meta"):
        ar = Qwen3ForCausalLM(Qwen3Config.from_pretrained(folder / "ar")).to(getattr(torch, dtype))
        connector = make_connector(config["hidden_size"], config["caption_channels"])
        transformer = SanaTransformer2DModel.from_config(read_json(folder / "transformer" / "config.json"))
        vae = AutoencoderDC.from_config(read_json(folder / "vae" / "config.json"))
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
    return Policy(
        folder=folder,
        layout=layout,
        prompt_template=template,
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
        ar=ar.eval(),
        decoder=Decoder(connector, transformer, vae, scheduler).eval(),
        image_tokenizer=NoImageTokenizer(),
        prompt_encoder=read_prompt_encoder(folder),
        task_templates=read_task_templates(folder),
    )


class NoImageTokenizer:
    """An :class:`policy.tokenizers.contract.ImageTokenizer` of a process that is not to look at pictures."""

    kind = "none"

    def encode(self, pictures_BHW3: NDArray[np.uint8], /) -> NDArray[np.int64]:
        self._missing()

    def to(self, device: torch.device | str) -> Self:
        return self

    def config(self) -> dict[str, object]:
        self._missing()

    def save(self, file: Path) -> None:
        self._missing()

    @classmethod
    def load(cls, file: Path, config: JsonObject, layout: TokenLayout) -> Self:
        raise NotImplementedError("an outline of a policy has no image tokenizer")

    def _missing(self) -> NoReturn:
        raise NotImplementedError("an outline of a policy has no image tokenizer: its painters read pictures")
