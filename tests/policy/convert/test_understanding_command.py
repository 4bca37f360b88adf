"""``python -m policy.understanding``: a policy of a TA-Tok reads pictures with its tower, and writes the same codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from policy.base import Policy
from policy.convert.to_policy import to_policy
from policy.understanding.__main__ import main
from policy.understanding.untrained import ANSWER_TEMPLATE
from rl.config.schema import Config
from rl.config.sections.supervised import SupervisedConfig
from rl.data.pictures import Picture
from rl.preflight.supervised import supervised_parameters
from rl.types import Prompt
from tests.policy.convert.twin import HIDDEN, VISION, make_twin

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 60, 72, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint in BLIP3o-NEXT's own format, with Qwen3's mark of a picture."""
    folder = tmp_path_factory.mktemp("reading")
    twin = make_twin(folder / "twin", stray=True, editing=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        file = twin / name
        file.write_text(file.read_text().replace('"<image>"', '"<|image_pad|>"'))
    to_policy(twin, folder / "policy", tell=lambda _: None)
    return folder / "policy"


@pytest.fixture(scope="module")
def reading(converted: Path) -> Path:
    out = converted.with_name("reading")
    assert main([str(converted), str(out)]) == 0
    return out


def test_codes_stay_and_features_of_the_same_tower_are_read(converted: Path, reading: Path) -> None:
    before, after = Policy.load(converted), Policy.load(reading)
    assert (before.image_tokenizer.kind, after.image_tokenizer.kind) == ("ta_tok", "hybrid")
    codes = before.image_tokenizer.encode(PICTURES)
    assert (after.image_tokenizer.encode(PICTURES) == codes).all() and len(np.unique(codes)) > 10
    features = after.understanding.features(PICTURES)
    assert features.shape == (5, 16, HIDDEN) and features.std() > 0
    tower = before.image_tokenizer._features(PICTURES)  # type: ignore[attr-defined]
    torch.testing.assert_close(
        after.understanding.encoder.features(after.understanding.pixels(PICTURES)), torch.stack(list(tower))
    )
    for part in ("ar", "connector", "transformer", "vae", "image_tokenizer"):
        for file in (converted / part).glob("*.safetensors"):
            assert (reading / part / file.name).read_bytes() == file.read_bytes(), part


def test_a_question_holds_features_and_nothing_else_changes(converted: Path, reading: Path) -> None:
    before, after = Policy.load(converted), Policy.load(reading)
    picture = Picture(PICTURES[0])
    drawing, edit = Prompt("d", "a red circle"), Prompt("e", "make it red", pictures=(picture,))
    for prompt in (drawing, edit):
        assert after.encode_prompt(prompt) == before.encode_prompt(prompt)
    asked = after.encode_prompt(Prompt("q", "how many?", {"task": "answer"}, (picture,)))
    assert asked.features is not None and asked.features.vectors_ND.shape == (16, HIDDEN)
    start, _, end = ANSWER_TEMPLATE.partition("{picture}")
    assert asked.features.start == len(after.tokenizer.encode(start, add_special_tokens=False))
    pad = after.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    tail = after.tokenizer.encode(end.format(prompt="how many?"), add_special_tokens=False)
    assert list(asked.ids[asked.features.start :]) == [pad] * 16 + tail


def test_the_new_adapter_is_what_a_supervised_run_learns(reading: Path) -> None:
    learns = SupervisedConfig(trained=("understanding.continuous",), features=1.0)
    hidden = VISION["hidden_size"]
    assert isinstance(hidden, int)
    assert supervised_parameters(Config(), learns, reading) == (hidden + 1) * HIDDEN + (HIDDEN + 1) * HIDDEN


def test_mistakes_are_one_sentence(
    tiny_policy: Path, reading: Path, made_policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for policy, said in (
        (reading, f"{reading}: this policy answers questions already; train it as it is."),
        (
            made_policy,
            "tokenizer.json: <|vision_start|> is no token, and prompts of questions hold it; use",
        ),
        (
            tiny_policy,
            "config.json: kind is patch_vq, and it is the tower of a ta_tok that is read; give a",
        ),
    ):
        assert main([str(policy), str(out)]) == 2
        assert said in capsys.readouterr().err
    assert main([str(made_policy), str(reading)]) == 2
    assert capsys.readouterr().err == f"error: {reading} exists and is not empty; name a new folder.\n"
    assert not out.exists()
