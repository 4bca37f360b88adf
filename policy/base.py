"""The policy, loaded from one folder: language model, decoder, tokenizers, layout, prompt template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderDC, FlowMatchEulerDiscreteScheduler, SanaTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from policy.ar.loading import complete, load_connector, load_language_model, make_connector, reading
from policy.conditions import AR_HIDDEN, ATTENDED, BESIDE_NOISE, CHANNELS, read_ways
from policy.decoder import Decoder
from policy.folder import (
    FEATURES,
    no_understanding,
    read_policy_config,
    read_prompt_encoder,
    read_reads,
    read_task_templates,
    resolve_folder,
)
from policy.json_file import read_json, write_json
from policy.layout import TokenLayout
from policy.parts import CONFIG_FILE, REFERENCE_PART
from policy.pictures.reference import ReferenceLatents
from policy.pictures.view import square_view
from policy.prompt import PromptEncoder
from policy.tokenizers.contract import ImageTokenizer
from policy.tokenizers.hybrid import HybridTokenizer
from rl.data.pictures import Picture
from rl.registry import resolve
from rl.types import Prompt, UserError

ModelT = TypeVar("ModelT")


@dataclass
class Policy:
    """Everything a run needs of the model. The same classes from the embedded model to BLIP3o-NEXT."""

    folder: Path
    layout: TokenLayout
    prompt_template: str
    tokenizer: PreTrainedTokenizerFast
    ar: Qwen3ForCausalLM
    decoder: Decoder
    image_tokenizer: ImageTokenizer
    prompt_encoder: str = "template"
    """A ``prompt_encoders`` component; ``policy.json`` names it."""
    task_templates: Mapping[str, str] = field(default_factory=dict)
    """Task -> the template of its prompts, for encoders of prompts with pictures."""
    reads: Mapping[str, str] = field(default_factory=dict)
    """Task -> how its pictures are read, ``codes`` or ``features``; codes where it says nothing."""
    features_dtype: torch.dtype | None = None
    """To which features are rounded, that of the coarsest engine that reads them; ``None``: the language model's."""

    @cached_property
    def encode_prompt(self) -> PromptEncoder:
        return self.encoder_of({task: self.picture_vectors for task, how in self.reads.items() if how == FEATURES})

    def encoder_of(self, vectors: Mapping[str, Callable[[Picture], Tensor]]) -> PromptEncoder:
        """One that reads the pictures of these tasks as features."""
        kind = resolve("prompt_encoders", self.prompt_encoder)
        sees: dict[str, object] = {}
        if self.task_templates:
            sees = {"tasks": self.task_templates, "picture_tokens": self.picture_tokens}
        if vectors:
            sees["picture_vectors"] = vectors
        encoder: PromptEncoder = kind(self.tokenizer, self.prompt_template, self.layout, **sees)
        return encoder

    @property
    def understanding(self) -> HybridTokenizer:
        """The branch with which it reads pictures as features. Raises: UserError if there is none."""
        if not isinstance(self.image_tokenizer, HybridTokenizer):
            raise no_understanding(str(self.folder), self.image_tokenizer.kind)
        return self.image_tokenizer

    def picture_vectors(self, picture: Picture) -> Tensor:
        """(T, D): a picture as the language model reads it by features, on the CPU. Raises: UserError if it can't be
        read, or if the policy has no branch for that."""
        view = square_view(picture.pixels, self.decoder.picture_side)
        features_TD = self.understanding.features(view[None].copy())[0]
        return features_TD.to("cpu", self.features_dtype or self.ar.dtype)

    def picture_tokens(self, picture: Picture) -> tuple[int, ...]:
        """A picture as the language model reads it: its own image tokens. Raises: UserError if it can't be read."""
        view = square_view(picture.pixels, self.decoder.picture_side)
        return tuple(self.image_tokenizer.encode(view[None].copy())[0].tolist())

    def prompt_length(self, prompt: Prompt) -> int:
        """Tokens of a prompt; where the encoder can tell, without a look at its pictures."""
        length = getattr(self.encode_prompt, "length", None)
        return int(length(prompt)) if length is not None else len(self.encode_prompt(prompt).ids)

    def text_ids(self, text: str) -> tuple[int, ...]:
        """The token ids of a prompt that is text alone."""
        return self.encode_prompt(Prompt("", text)).ids

    @classmethod
    def load(
        cls,
        folder: str | Path,
        dtype: str = "float32",
        device: str = "cpu",
        *,
        decoder_dtype: str | None = None,
        reads: str | None = None,
    ) -> Policy:
        """Reads a policy folder (or an embedded name). ``reads``: how questions read pictures, if not as the folder
        says. Raises: UserError on a missing or mismatched part."""
        folder = resolve_folder(folder)
        disable_progress_bar()  # one for each part of a folder that is here already
        layout, template = read_policy_config(folder)
        return cls(
            folder=folder,
            layout=layout,
            prompt_template=template,
            tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
            ar=load_language_model(folder, getattr(torch, dtype)).to(device),
            decoder=load_decoder(folder, getattr(torch, decoder_dtype or dtype), device),
            image_tokenizer=load_image_tokenizer(folder, layout).to(device),
            prompt_encoder=read_prompt_encoder(folder),
            task_templates=read_task_templates(folder),
            reads=read_reads(folder, reads),
        )

    def save(self, folder: Path) -> None:
        """Writes the complete folder; safetensors only."""
        folder.mkdir(parents=True, exist_ok=True)
        self.ar.save_pretrained(folder / "ar")
        self.decoder.transformer.save_pretrained(folder / "transformer")
        self.decoder.vae.save_pretrained(folder / "vae")
        self.decoder.scheduler.save_pretrained(folder / "scheduler")
        self.tokenizer.save_pretrained(folder / "tokenizer")
        part, first, last = folder / "connector", self.decoder.connector[0], self.decoder.connector[2]
        part.mkdir(exist_ok=True)
        write_json(part / "config.json", {"hidden_size": first.in_features, "caption_channels": last.out_features})
        save_file(self.decoder.connector.state_dict(), part / "model.safetensors")
        part = folder / "image_tokenizer"
        part.mkdir(exist_ok=True)
        write_json(part / "config.json", self.image_tokenizer.config())
        self.image_tokenizer.save(part / "model.safetensors")
        content: dict[str, object] = {"layout": asdict(self.layout), "prompt_template": self.prompt_template}
        content["condition"] = AR_HIDDEN
        if self.prompt_encoder != "template":
            content["prompt_encoder"] = self.prompt_encoder
        if self.task_templates:
            content["task_templates"] = dict(self.task_templates)
        if self.reads:
            content["reads"] = dict(self.reads)
        if self.decoder.reference is not None:
            content["reference"] = list(self.decoder.reference.ways)
            save_reference(self.decoder.reference, folder)
        write_json(folder / CONFIG_FILE, content)


def load_decoder(folder: Path, dtype: torch.dtype, device: str) -> Decoder:
    """Raises: UserError naming the part whose weights are not those of its configuration."""
    connector, reference = load_connector(folder), load_reference(folder, dtype)
    with reading(folder / "transformer") as part:
        transformer = complete(
            SanaTransformer2DModel.from_pretrained(part, torch_dtype=dtype, output_loading_info=True)
        )
    with reading(folder / "vae") as part:
        vae = complete(AutoencoderDC.from_pretrained(part, torch_dtype=dtype, output_loading_info=True))
    with reading(folder / "scheduler") as part:
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(part)
    decoder = Decoder(connector.to(dtype), transformer, vae, scheduler, reference)
    return decoder.to(device).eval().requires_grad_(False)


def load_reference(folder: Path, dtype: torch.dtype) -> ReferenceLatents | None:
    """Raises: UserError naming the part, as ``load_decoder``."""
    ways = read_ways(read_json(folder / CONFIG_FILE), str(folder / CONFIG_FILE))
    if not ways:
        return None
    other = {"beside_noise": BESIDE_NOISE in ways, "channels": CHANNELS in ways}
    if ATTENDED not in ways:
        return ReferenceLatents(None, **other)
    with reading(folder / REFERENCE_PART) as part:
        config = read_json(part / "config.json")
        connector = make_connector(config["latent_channels"], config["caption_channels"])
        connector.load_state_dict(load_file(part / "model.safetensors"))
    return ReferenceLatents(connector.to(dtype), **other)


def save_reference(reference: ReferenceLatents, folder: Path) -> None:
    if reference.connector is None:
        return
    part, first, last = folder / REFERENCE_PART, reference.connector[0], reference.connector[2]
    part.mkdir(exist_ok=True)
    write_json(part / "config.json", {"latent_channels": first.in_features, "caption_channels": last.out_features})
    save_file(reference.connector.state_dict(), part / "model.safetensors")


def load_image_tokenizer(folder: Path, layout: TokenLayout) -> ImageTokenizer:
    """Of the kind that its ``config.json`` names, an ``image_tokenizers`` component."""
    part = folder / "image_tokenizer"
    config = read_json(part / "config.json")
    try:
        kind: type[ImageTokenizer] = resolve("image_tokenizers", str(config.get("kind")))
    except UserError as error:
        raise UserError(f"{part / 'config.json'}: kind: {error}") from error
    return kind.load(part / "model.safetensors", config, layout)
