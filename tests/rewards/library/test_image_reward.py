"""ImageReward against the layout of its file, and against BLIP's equations written out in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import erf

from rewards.library.image_reward import ImageReward
from rewards.library.models.blip import ImageRewardModel, transformers_name
from rewards.library.models.preprocess import Preprocess
from rl.types import UserError
from tests.rewards.library.tiny_models import PROMPTS, SIDE, bert_tokenizer, pictures, samples

PATCH, LAYERS = 16, 2
State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Sizes:
    """Of the two towers; heads are 64 wide: 2 in the tiny vision tower, 1 in the tiny text tower."""

    vision: int = 128
    text: int = 64
    vision_mlp: int = 96
    text_mlp: int = 80
    vision_layers: int = LAYERS
    text_layers: int = LAYERS
    image: int = SIDE
    positions: int = 40
    projection: int = 8
    head: tuple[int, ...] = (32, 16, 8, 4, 1)


# BLIP's ViT-L/16 at 224 pixels and BERT-base, and the head of the paper
REAL = Sizes(1024, 768, 4096, 3072, 24, 12, 224, 512, 256, (1024, 128, 64, 16, 1))


def layout(vocabulary: int, size: Sizes = Sizes()) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the authors' model saves as ImageReward.pt."""
    shapes: dict[str, tuple[int, ...]] = {
        "blip.visual_encoder.cls_token": (1, 1, size.vision),
        "blip.visual_encoder.pos_embed": (1, (size.image // PATCH) ** 2 + 1, size.vision),
        "blip.visual_encoder.patch_embed.proj.weight": (size.vision, 3, PATCH, PATCH),
        "blip.visual_encoder.patch_embed.proj.bias": (size.vision,),
        "blip.text_encoder.embeddings.position_ids": (1, size.positions),
        "blip.text_encoder.embeddings.word_embeddings.weight": (vocabulary, size.text),
        "blip.text_encoder.embeddings.position_embeddings.weight": (size.positions, size.text),
    }

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    for i in range(size.vision_layers):
        block = f"blip.visual_encoder.blocks.{i}"
        norm(f"{block}.norm1", size.vision)
        norm(f"{block}.norm2", size.vision)
        linear(f"{block}.attn.qkv", size.vision, 3 * size.vision)
        linear(f"{block}.attn.proj", size.vision, size.vision)
        linear(f"{block}.mlp.fc1", size.vision, size.vision_mlp)
        linear(f"{block}.mlp.fc2", size.vision_mlp, size.vision)
    for i in range(size.text_layers):
        layer = f"blip.text_encoder.encoder.layer.{i}"
        for attention, keys in (("attention", size.text), ("crossattention", size.vision)):
            linear(f"{layer}.{attention}.self.query", size.text, size.text)
            linear(f"{layer}.{attention}.self.key", keys, size.text)
            linear(f"{layer}.{attention}.self.value", keys, size.text)
            linear(f"{layer}.{attention}.output.dense", size.text, size.text)
            norm(f"{layer}.{attention}.output.LayerNorm", size.text)
        linear(f"{layer}.intermediate.dense", size.text, size.text_mlp)
        linear(f"{layer}.output.dense", size.text_mlp, size.text)
        norm(f"{layer}.output.LayerNorm", size.text)
    norm("blip.visual_encoder.norm", size.vision)
    norm("blip.text_encoder.embeddings.LayerNorm", size.text)
    linear("blip.vision_proj", size.vision, size.projection)
    linear("blip.text_proj", size.text, size.projection)
    for name, inputs, outputs in zip((0, 2, 4, 6, 7), (size.text, *size.head), size.head, strict=False):
        linear(f"mlp.layers.{name}", inputs, outputs)
    return shapes


def random_state(vocabulary: int) -> State:
    generator = torch.Generator().manual_seed(11)
    state = {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in layout(vocabulary).items()}
    for name, tensor in state.items():
        if "norm" in name.lower() and name.endswith("weight"):
            tensor += 1
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(40).reshape(1, 40)
    return state


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image_reward")
    torch.save(random_state(bert_tokenizer(folder / "tokenizer")), folder / "ImageReward.pt")
    return folder


def reward(folder: Path, **options: object) -> ImageReward:
    chosen = {"device": "cpu", **options}
    return ImageReward(str(folder / "ImageReward.pt"), str(folder / "tokenizer"), **chosen)  # type: ignore[arg-type]


# --- the names -------------------------------------------------------------------------------------------------------


def test_every_tensor_is_used_exactly_once_and_every_parameter_is_filled() -> None:
    state = random_state(50)
    model = ImageRewardModel(state)
    loaded = model.state_dict()
    used = {name: new for name in state if (new := transformers_name(name)) is not None}
    unused = sorted(name for name in state if name not in used)
    assert unused == [
        "blip.text_encoder.embeddings.position_ids",
        *(f"blip.{tower}_proj.{part}" for tower in ("text", "vision") for part in ("bias", "weight")),
    ]
    assert len(set(used.values())) == len(used)  # no two tensors go to one place
    positions = {0: 0, 2: 1, 4: 2, 6: 3, 7: 4}  # the head's dropouts are not rebuilt
    for name, new in used.items():
        if new.startswith("head.layers."):
            number, part = new.removeprefix("head.layers.").split(".")
            new = f"head.{positions[int(number)]}.{part}"
        assert torch.equal(loaded.pop(new), state[name]), name
    assert loaded == {}  # nothing is left at its random start


def test_the_real_checkpoints_sizes_are_read_off_its_shapes() -> None:
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in layout(30524, REAL).items()}
        model = ImageRewardModel(state)
    vision, text = model.vision.config, model.text.config
    assert (vision.image_size, vision.patch_size, vision.layer_norm_eps) == (224, 16, 1e-6)
    assert (vision.num_hidden_layers, vision.num_attention_heads, vision.hidden_size) == (24, 16, 1024)
    assert (text.num_hidden_layers, text.num_attention_heads, text.hidden_size) == (12, 12, 768)
    assert (text.vocab_size, text.encoder_hidden_size, text.layer_norm_eps) == (30524, 1024, 1e-12)
    assert sum(parameter.numel() for parameter in model.parameters()) == sum(
        tensor.numel() for name, tensor in state.items() if transformers_name(name) is not None
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"blip.visual_encoder.cls_token": None}, "it lacks 'embeddings.class_embedding': it is another model's"),
        ({"blip.visual_encoder.norm.bias": None}, "the checkpoint lacks post_layernorm.bias: it is another model's"),
        (
            {"blip.visual_encoder.blocks.0.adapter.weight": torch.zeros(1)},
            "it has the unknown blip.visual_encoder.blocks.0.adapter.weight: it is another model's",
        ),
        ({"vision_model.weight": torch.zeros(1)}, "it has the unknown vision_model.weight: it is another model's"),
        (
            {"blip.text_encoder.pooler.dense.bias": torch.zeros(1)},
            "the checkpoint has the unknown pooler.dense.bias: it is another model's",
        ),
    ],
)
def test_another_models_weights(change: dict[str, torch.Tensor | None], said: str) -> None:
    state = {name: tensor for name, tensor in {**random_state(50), **change}.items() if tensor is not None}
    with pytest.raises(UserError) as caught:
        ImageRewardModel(state)
    assert str(caught.value) == f"image_reward.options.checkpoint: {said}"


# --- the numbers -----------------------------------------------------------------------------------------------------


class Oracle:
    """BLIP's image-grounded text encoder and the head, on one picture and prompt, in float64 NumPy."""

    def __init__(self, state: State) -> None:
        self.state = {name: tensor.double().numpy() for name, tensor in state.items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, name: str, x: np.ndarray, eps: float) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    @staticmethod
    def attend(query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        out = []
        for head in range(query.shape[1] // 64):
            part = slice(64 * head, 64 * head + 64)
            logits = query[:, part] @ key[:, part].T / 8  # sqrt(64)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            out.append(weights / weights.sum(axis=1, keepdims=True) @ value[:, part])
        return np.concatenate(out, axis=1)

    @staticmethod
    def gelu(x: np.ndarray) -> np.ndarray:
        return x * (1 + erf(x / np.sqrt(2))) / 2

    def see(self, pixels_CSS: np.ndarray) -> np.ndarray:
        e = "blip.visual_encoder"
        kernel, grid = self.state[f"{e}.patch_embed.proj.weight"], SIDE // PATCH
        rows = [self.state[f"{e}.cls_token"][0, 0]]
        for y in range(grid):
            for x in range(grid):
                patch = pixels_CSS[:, PATCH * y : PATCH * (y + 1), PATCH * x : PATCH * (x + 1)]
                rows.append((kernel * patch).sum(axis=(1, 2, 3)) + self.state[f"{e}.patch_embed.proj.bias"])
        h = np.stack(rows) + self.state[f"{e}.pos_embed"][0]
        for i in range(LAYERS):
            b = f"{e}.blocks.{i}"
            qkv = self.linear(f"{b}.attn.qkv", self.norm(f"{b}.norm1", h, 1e-6))
            h = h + self.linear(f"{b}.attn.proj", self.attend(*np.split(qkv, 3, axis=1)))
            h = h + self.linear(
                f"{b}.mlp.fc2", self.gelu(self.linear(f"{b}.mlp.fc1", self.norm(f"{b}.norm2", h, 1e-6)))
            )
        return self.norm(f"{e}.norm", h, 1e-6)

    def read(self, ids: list[int], seen: np.ndarray) -> np.ndarray:
        e = "blip.text_encoder"
        words = self.state[f"{e}.embeddings.word_embeddings.weight"][ids]
        h = words + self.state[f"{e}.embeddings.position_embeddings.weight"][: len(ids)]
        h = self.norm(f"{e}.embeddings.LayerNorm", h, 1e-12)
        for i in range(LAYERS):
            layer = f"{e}.encoder.layer.{i}"
            for name, source in (("attention", None), ("crossattention", seen)):
                a, keys = f"{layer}.{name}", h if source is None else source
                mixed = self.attend(
                    *(self.linear(f"{a}.self.{p}", x) for p, x in (("query", h), ("key", keys), ("value", keys)))
                )
                h = self.norm(f"{a}.output.LayerNorm", h + self.linear(f"{a}.output.dense", mixed), 1e-12)
            up = self.gelu(self.linear(f"{layer}.intermediate.dense", h))
            h = self.norm(f"{layer}.output.LayerNorm", h + self.linear(f"{layer}.output.dense", up), 1e-12)
        return h

    def reward(self, pixels_CSS: np.ndarray, ids: list[int]) -> float:
        x = self.read(ids, self.see(pixels_CSS))[0]
        for layer in (0, 2, 4, 6, 7):
            x = self.linear(f"mlp.layers.{layer}", x)
        return float((x[0] - 0.16717362830052426) / 1.0333394966054072)


def test_rewards_equal_an_independent_computation(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    oracle = Oracle(torch.load(folder / "ImageReward.pt", weights_only=True))
    pixels = Preprocess(SIDE)(pictures()).astype(np.float64)
    # Without padding there: that the reward's own padding changes nothing is part of what is shown.
    expected = [oracle.reward(pixels[i], tokenizer(prompt)["input_ids"]) for i, prompt in enumerate(PROMPTS)]
    scores = reward(folder)(samples())
    np.testing.assert_allclose([score.value for score in scores], expected, atol=2e-4)
    assert np.ptp(expected) > 0.1
    assert all(score.passed is None for score in scores)


def test_prompts_are_cut_at_35_tokens(folder: Path) -> None:
    long, longer = ("a b " * 17).strip(), "a b " * 40  # [CLS], 33 letters and [SEP] fit
    model = reward(folder)
    one, two = model(samples(2, [long])), model(samples(2, [longer]))
    assert [score.value for score in one] == pytest.approx([score.value for score in two], abs=1e-5)
    assert model(samples(1, ["a b"]))[0].value != pytest.approx(one[0].value, abs=1e-3)


def test_the_prompt_matters_and_so_does_the_picture(folder: Path) -> None:
    a, b = samples(2, ["a cat"])
    swapped = [score.value for score in reward(folder)([a, b])]
    assert abs(swapped[0] - swapped[1]) > 1e-3
    cat, dog = (reward(folder)(samples(1, [prompt]))[0].value for prompt in ("a cat", "a dog"))
    assert cat is not None and dog is not None and abs(cat - dog) > 1e-3


def test_alone_or_in_a_batch_the_same(folder: Path) -> None:
    model = reward(folder, batch_size=3)
    together = [score.value for score in model(samples(5))]
    assert [model([sample])[0].value for sample in samples(5)] == pytest.approx(together, abs=1e-5)
    assert model([]) == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_stay_near(folder: Path, dtype: str) -> None:
    exact, half = reward(folder)(samples()), reward(folder, dtype=dtype)(samples())
    assert [score.value for score in half] == pytest.approx([score.value for score in exact], abs=0.02)


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(UserError) as caught:
        ImageReward("someone/never-there:ImageReward.pt", str(folder / "tokenizer"))
    assert str(caught.value) == (
        "image_reward.options.checkpoint: 'someone/never-there:ImageReward.pt' is not on this machine and can't be "
        "downloaded now (HF_HUB_OFFLINE is set); "
        "with a network type `hf download someone/never-there ImageReward.pt`, or set "
        "image_reward.options.checkpoint to the path of the file"
    )
    with pytest.raises(UserError, match="image_reward.options.tokenizer: 'someone/never-there' is not on this machine"):
        ImageReward(str(folder / "ImageReward.pt"), "someone/never-there")
