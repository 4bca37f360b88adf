"""What all rewards of the library with a model share: names, options, cards, errors, and what to download."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from rewards.library.models.downloads import NEEDED, absent, download_command
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rl.config.schema import RewardComponent
from rl.doctor.checks import check_download
from rl.registry import BUILT_IN, resolve
from rl.types import UserError
from tests.rewards.library.tiny_models import hf_clip, pictures, samples

MODELS = ("aesthetic", "clip_score", "pickscore", "hpsv2", "image_reward", "similarity")
SHARED = {"checkpoint", "device", "dtype", "batch_size"}


@pytest.mark.parametrize("name", MODELS)
def test_the_shared_options(name: str) -> None:
    parameters = inspect.signature(resolve("rewards", name)).parameters
    assert set(parameters) >= SHARED
    assert all(p.default is not inspect.Parameter.empty for p in parameters.values())
    assert (parameters["device"].default, parameters["dtype"].default) == ("auto", "float32")


@pytest.mark.parametrize("name", [*MODELS, "quality"])
def test_every_reward_has_its_card(name: str) -> None:
    card = import_module(BUILT_IN["rewards"][name].partition(":")[0]).__doc__ or ""
    assert card.startswith(f"The ``{name}`` reward: ")
    assert "Blind to" in card
    assert "MIT" in card or "Apache-2.0" in card
    assert ("hf download" if name != "quality" else "opencv_contrib") in card


def test_commands_leave_out_what_is_not_used() -> None:
    assert download_command("a/b") == "hf download a/b"
    assert download_command("a/b:c.pt") == "hf download a/b c.pt"
    assert download_command("google-bert/bert-base-uncased") == (
        'hf download google-bert/bert-base-uncased --include "*.json" --include "*.txt"'
    )
    assert download_command("openai/clip-vit-large-patch14").endswith('patch14 --exclude "*.h5" --exclude "*.msgpack"')


@pytest.mark.parametrize("option", ["device", "dtype", "batch_size"])
@pytest.mark.parametrize("name", MODELS)
def test_a_wrong_option_is_named_with_its_reward(name: str, option: str) -> None:
    wrong: dict[str, object] = {"device": "tpu", "dtype": "int8", "batch_size": 0}
    options = {option: wrong[option], **({"measure": "clip"} if name == "similarity" else {})}
    with pytest.raises(UserError) as caught:
        load_reward("mine", name, options)
    assert str(caught.value).startswith(f"rewards.mine: {name}.options.{option} is {wrong[option]!r}: it must be ")


@pytest.mark.parametrize("name", [reward for reward in NEEDED if absent(reward) and not reward.startswith("geneval")])
def test_without_weights_one_sentence_says_what_to_type(name: str) -> None:
    use, _, measure = name.partition(" ")
    with pytest.raises(UserError) as caught:
        load_reward("mine", use, {"measure": measure.strip("()")} if measure else {})
    text = str(caught.value)
    assert text.startswith(f"rewards.mine: {use}.options.") and "\n" not in text
    assert any(f"type `{download_command(wanted)}`, or set {use}.options." in text for wanted in absent(name))


def test_what_is_downloaded_is_seen(tmp_path: Path) -> None:
    """In a hub cache of its own: empty, then with one of the two files, then with both."""
    code = (
        "import os, sys; from rewards.library.models.downloads import absent;"
        "from rl.doctor.checks import check_download;"
        "print(absent('aesthetic')); print(check_download('aesthetic').status)"
    )

    def ask() -> list[str]:
        environment = {"HF_HUB_CACHE": str(tmp_path), "PATH": "", "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return run.stdout.split("\n")[:2]

    def download(repo: str, file: str) -> None:
        folder = tmp_path / f"models--{repo.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("c0ffee")
        (folder / "snapshots" / "c0ffee").mkdir(parents=True)
        (folder / "snapshots" / "c0ffee" / file).write_text("weights")

    clip, head = "openai/clip-vit-large-patch14", "trl-lib/ddpo-aesthetic-predictor:aesthetic-model.pth"
    assert ask() == [str([clip, head]), "limited"]
    download(clip, "model.safetensors")
    assert ask() == [str([head]), "limited"]
    download("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth")
    assert ask() == ["[]", "ok"]


def test_the_doctors_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.doctor.checks.absent", lambda reward: ["xswu/HPSv2:HPS_v2.1_compressed.pt"])
    check = check_download("hpsv2")
    said = "not downloaded: xswu/HPSv2:HPS_v2.1_compressed.pt (or name local paths in its options)"
    assert (check.status, check.found) == ("limited", said)
    assert check.fix == "hf download xswu/HPSv2 HPS_v2.1_compressed.pt"


def test_in_the_pool_as_in_this_process() -> None:
    batch = [replace(s, prompt=replace(s.prompt, metadata={"reference": pictures(1)[0]})) for s in samples(4)]
    rewards = {
        "quality": RewardComponent(use="quality", role="monitor"),
        "similarity": RewardComponent(use="similarity"),
    }
    with RewardPool(rewards) as pool:
        found = pool.score(batch)
    for name in rewards:
        here = load_reward(name, name, {})(batch)
        assert [s.value for s in found[name]] == [s.value for s in here]  # type: ignore[attr-defined]
        assert len({s.value for s in found[name]}) == 4


@pytest.mark.slow
def test_a_model_in_the_pool_as_in_this_process(tmp_path: Path) -> None:
    options = {"checkpoint": str(hf_clip(tmp_path)), "device": "cpu"}
    batch = samples(4)
    with RewardPool({"clip_score": RewardComponent(use="clip_score", options=options, probe=False)}) as pool:
        found = pool.score(batch)
    here = load_reward("clip_score", "clip_score", options, probe=False)(batch)
    assert [s.value for s in found["clip_score"]] == pytest.approx([s.value for s in here], abs=1e-5)  # type: ignore[attr-defined]
