"""Checkpoints that edit: their prompts, their decoder's two views of the picture, and guidance, against the published
formulas written out here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer

from policy.base import Policy
from policy.convert.to_policy import to_policy
from policy.folder import read_policy_config
from rl.data.pictures import Picture
from rl.registry import resolve
from rl.types import Prompt, UserError
from tests.policy.convert.twin import CAPTION, make_twin

STEPS, GUIDANCE, SEED = 4, 2.0, 9
ASK = "make the circle blue"
VARIANTS = {
    "published": ({}, ["attended", "beside_noise"]),
    "cross attention": ({"use_und_image_vae_as_noise": False}, ["attended"]),
    "noise": ({"only_use_und_image_vae_as_noise": True}, ["beside_noise"]),
    "tokens alone": ({"use_und_image_vae": False, "use_und_image_vae_as_noise": False}, None),
}


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("editing") / "twin", editing=True, dtype=torch.float32).parent


def _policy(twins: Path, variant: str) -> Path:
    """Converted once."""
    change, _ = VARIANTS[variant]
    out = twins / f"policy {variant}"
    if not out.is_dir():
        source = Path(shutil.copytree(twins / "twin", twins / f"twin {variant}"))
        config = json.loads((source / "config.json").read_text()) | change
        (source / "config.json").write_text(json.dumps(config))
        to_policy(source, out, tell=lambda _: None)
    return out


def _picture(seed: int = 0) -> NDArray[np.uint8]:
    """Wide, so that its middle is what counts."""
    return np.random.default_rng(seed).integers(0, 256, (64, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_becomes_a_policy_that_edits(variant: str, twins: Path) -> None:
    folder = _policy(twins, variant)
    read_policy_config(folder)
    content = json.loads((folder / "policy.json").read_text())
    ways = VARIANTS[variant][1]
    assert content.get("reference") == ways and content["prompt_encoder"] == "inline"
    assert (folder / "reference_connector").is_dir() == (ways is not None and "attended" in ways)
    policy = Policy.load(folder)
    policy.save(twins / f"saved {variant}")
    again = Policy.load(twins / f"saved {variant}")
    assert [n for n, _ in again.decoder.named_parameters()] == [n for n, _ in policy.decoder.named_parameters()]
    assert json.loads((twins / f"saved {variant}" / "policy.json").read_text()).get("reference") == ways


def test_the_prompt_is_the_published_one(twins: Path) -> None:
    policy = Policy.load(_policy(twins, "published"))
    tokenizer = AutoTokenizer.from_pretrained(twins / "twin")
    turns = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"Please edit this image according to the following instruction: {ASK}.\n<image>"},
    ]
    text = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    before, after = text.split("<image>")
    view = np.ascontiguousarray(_picture()[:, 16:80])
    codes = policy.image_tokenizer.encode(view[None])[0].tolist()
    pads = tokenizer(f"{before}<|vision_start|>").input_ids, tokenizer(f"<|vision_end|>{after}<im_start><S0>").input_ids
    prompt = Prompt("e", ASK, pictures=(Picture(_picture()),))
    assert list(policy.encode_prompt(prompt).ids) == [*pads[0], *codes, *pads[1]]
    assert policy.prompt_length(prompt) == len(policy.encode_prompt(prompt).ids)


class _Published:
    """The published editing code's order of things, in float32, one picture at a time."""

    def __init__(self, policy: Policy, checkpoint: Path, ways: list[str]) -> None:
        self.decoder, self.ways = policy.decoder, ways
        weights = {n: t for file in checkpoint.glob("*.safetensors") for n, t in load_file(file).items()}
        self.hidden_connector = {n: weights[f"model.diffusion_connector.{n}"] for n in self._names}
        self.latent_connector = {n: weights[f"model.und_image_vae_connector.{n}"] for n in self._names}

    _names = ("0.weight", "0.bias", "2.weight", "2.bias", "3.weight")

    def connect(self, values: Tensor, weights: dict[str, Tensor]) -> Tensor:
        inner = functional.gelu(functional.linear(values, weights["0.weight"], weights["0.bias"]), approximate="tanh")
        outer = functional.linear(inner, weights["2.weight"], weights["2.bias"])
        return weights["3.weight"] * outer / (outer.square().mean(-1, keepdim=True) + 1e-5).sqrt()

    @torch.no_grad()
    def latents(self, hidden: Tensor, view: NDArray[np.uint8], seed: int) -> Tensor:
        vae, sana = self.decoder.vae, self.decoder.transformer
        pixels = torch.from_numpy(view.copy()).permute(2, 0, 1)[None].float() / 255
        reference = vae.encode((pixels - 0.5) / 0.5).latent * vae.config.scaling_factor
        vectors = self.connect(reference.movedim(1, -1).reshape(1, -1, reference.shape[1]), self.latent_connector)
        given = self.connect(hidden, self.hidden_connector)
        none = self.connect(torch.zeros_like(hidden), self.hidden_connector)
        if "attended" in self.ways:
            given, none = torch.cat([given, vectors], 1), torch.cat([none, torch.zeros_like(vectors)], 1)
        noise = torch.randn(self.decoder.latent_shape, generator=torch.Generator().manual_seed(seed))[None]
        for step in range(STEPS):
            sigma = 1 - step * (1 - 1 / STEPS) / (STEPS - 1)
            following = 0.0 if step + 1 == STEPS else 1 - (step + 1) * (1 - 1 / STEPS) / (STEPS - 1)
            wide = torch.cat([noise, reference], -1) if "beside_noise" in self.ways else noise
            both = sana(wide.repeat(2, 1, 1, 1), torch.cat([none, given]), torch.full((2,), 1000 * sigma)).sample
            flow = both[:1] + GUIDANCE * (both[1:] - both[:1])
            noise = (wide + (following - sigma) * flow)[..., : noise.shape[-1]]
        return noise


@pytest.mark.parametrize("variant", ["published", "cross attention", "noise"])
def test_pictures_are_those_of_the_published_code(variant: str, twins: Path) -> None:
    """A drawing, two edits of one picture and one of another in a batch: each as if it were alone."""
    policy = Policy.load(_policy(twins, variant))
    pictures = [None, Picture(_picture()), Picture(_picture()), Picture(_picture(1))]
    prompts = [Prompt(str(i), ASK, pictures=(one,) if one else ()) for i, one in enumerate(pictures)]
    sampler = resolve("samplers", "torch")(
        policy.folder, policy.layout, encode=policy.encode_prompt, max_prompt_tokens=512
    )
    seeds = [SEED, SEED, SEED + 1, SEED]
    hidden = sampler.sample(prompts, 1, seeds, hidden=True).hidden_BSD
    _, trajectory = policy.decoder.draw(hidden, seeds, steps=STEPS, guidance=GUIDANCE, references=pictures)
    published = _Published(policy, twins / "twin", list(VARIANTS[variant][1] or ()))
    for row, one in enumerate(pictures):
        if one is None:
            alone = policy.decoder.draw(hidden[:1], seeds[:1], steps=STEPS, guidance=GUIDANCE)[1].latents
        else:
            alone = published.latents(hidden[row : row + 1], one.pixels[:, 16:80], seeds[row])
        assert (trajectory.latents[row] - alone[0]).abs().max() < 2e-5
    assert (trajectory.latents[1] - trajectory.latents[3]).abs().max() > 1e-3  # what it is shown counts
    without = policy.decoder.draw(hidden[1:2], seeds[:1], steps=STEPS, guidance=GUIDANCE)[1].latents
    assert (trajectory.latents[1] - without[0]).abs().max() > 1e-3


def test_a_decoder_that_sees_no_references_paints_without(made_policy: Path) -> None:
    decoder = Policy.load(made_policy).decoder
    hidden = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(0))
    shown = [Picture(_picture()), None]
    assert (decoder.paint(hidden, [1, 2], steps=2, references=shown) == decoder.paint(hidden, [1, 2], steps=2)).all()


def test_a_wide_and_a_square_picture_of_one_middle_are_edited_alike(twins: Path, tmp_path: Path) -> None:
    policy = Policy.load(_policy(twins, "published"))
    Image.fromarray(_picture()).save(tmp_path / "wide.png")
    hidden = torch.zeros(1, 17, 32)
    both = [Picture(tmp_path / "wide.png"), Picture(np.ascontiguousarray(_picture()[:, 16:80]))]
    found = [policy.decoder.paint(hidden, [3], steps=2, references=[one]) for one in both]
    assert (found[0] == found[1]).all()


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        (
            "config.json",
            '"use_tar_siglip_features": false',
            '"use_tar_siglip_features": true',
            "prompts with features of pictures in place of their tokens are not built yet",
        ),
        (
            "tokenizer.json",
            '"<|vision_start|>"',
            '"<|vision|>"',
            "<|vision_start|> is no token, and prompts of edits hold it; use files of one model.",
        ),
    ],
)
def test_what_does_not_convert_is_told(file: str, old: str, new: str, words: str, twins: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(twins / "twin", tmp_path / "twin"))
    (source / file).write_text((source / file).read_text().replace(old, new))
    with pytest.raises(UserError) as caught:
        to_policy(source, tmp_path / "policy", tell=lambda _: None)
    assert words in str(caught.value)


def test_folders_that_do_not_fit_are_told(twins: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(_policy(twins, "published"), tmp_path / "policy"))
    transformer = folder / "transformer" / "config.json"
    content = json.loads(transformer.read_text())
    transformer.write_text(json.dumps(content | {"interpolation_scale": 1.0}))
    with pytest.raises(UserError, match="reference has beside_noise, and the transformer has positions"):
        read_policy_config(folder)
    transformer.write_text(json.dumps(content))
    (folder / "reference_connector" / "config.json").write_text(
        json.dumps({"latent_channels": 8, "caption_channels": CAPTION})
    )
    with pytest.raises(UserError, match="latent_channels of reference_connector is 8 but latent_channels of vae is 4"):
        read_policy_config(folder)
    shutil.rmtree(folder / "reference_connector")
    with pytest.raises(UserError, match="lacks reference_connector/config.json, reference_connector/model.safetensors"):
        read_policy_config(folder)
    config = json.loads((folder / "policy.json").read_text())
    (folder / "policy.json").write_text(json.dumps(config | {"reference": "attended"}))
    with pytest.raises(UserError, match="it may be a list of attended, beside_noise and channels, or left out"):
        read_policy_config(folder)
