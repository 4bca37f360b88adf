"""What all rewards of the library with a model share: names, options, cards, errors, and what to download."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from rewards.library.models.downloads import absent, download_command
from rewards.load import load_reward
from rewards.pool.pool import RewardPool
from rewards.requires import declared_requires
from rl.config.schema import RewardComponent
from rl.doctor.components import check_component
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
    assert str(caught.value).startswith(f"rewards.mine.options.{option} is {wrong[option]!r}: it must be ")


def not_here() -> list[tuple[str, str]]:
    """(reward, part) of all whose declared weights are not on this machine."""
    declared = [(name, one) for name in MODELS for one in declared_requires("rewards", name)]
    return [(name, one.part) for name, one in declared if absent(one.weights, one.tokenizers)]


@pytest.mark.parametrize(("name", "measure"), not_here())
def test_without_weights_one_sentence_says_what_to_type(name: str, measure: str) -> None:
    with pytest.raises(UserError) as caught:
        load_reward("mine", name, {"measure": measure} if measure else {})
    text = str(caught.value)
    assert text.startswith("rewards.mine.options.") and "\n" not in text
    lacking = [n for one in declared_requires("rewards", name) for n in absent(one.weights, one.tokenizers)]
    assert any(f"type `{download_command(wanted)}`, or set rewards.mine.options." in text for wanted in lacking)


@pytest.mark.parametrize(
    ("name", "part", "weights", "tokenizers"),
    [
        ("aesthetic", "", ("clip", "checkpoint"), ()),
        ("clip_score", "", ("checkpoint",), ()),
        ("pickscore", "", ("checkpoint",), ()),
        ("hpsv2", "", ("checkpoint",), ()),
        ("image_reward", "", ("checkpoint",), ("tokenizer",)),
    ],
)
def test_what_is_declared_is_what_the_default_options_read(
    name: str, part: str, weights: tuple[str, ...], tokenizers: tuple[str, ...]
) -> None:
    parameters = inspect.signature(resolve("rewards", name)).parameters
    (declared,) = [one for one in declared_requires("rewards", name) if one.part == part]
    assert declared.weights == tuple(parameters[option].default for option in weights)
    if tokenizers:
        assert declared.tokenizers == tuple(parameters[option].default for option in tokenizers)


def test_what_is_read_is_what_python_sees() -> None:
    """Names of constants, imported ones too, are read from the source as Python itself evaluates them."""
    for kind in ("rewards", "color_classifiers"):
        for name in BUILT_IN[kind]:
            live = getattr(resolve(kind, name), "requires", ())
            assert declared_requires(kind, name) == (live if isinstance(live, tuple) else (live,)), name


def test_what_is_downloaded_is_seen(tmp_path: Path) -> None:
    """In a hub cache of its own: empty, then with one of the two files, then with both."""
    code = (
        "from rewards.library.models.downloads import absent; from rewards.requires import declared_requires;"
        "from rl.doctor.components import check_component;"
        "(one,) = declared_requires('rewards', 'aesthetic'); (check,) = check_component('rewards', 'aesthetic');"
        "print(absent(one.weights)); print(check.status)"
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
    monkeypatch.setattr("rl.preflight.requirements.absent", lambda weights, _: list(weights))
    _, check = check_component("rewards", "hpsv2")
    said = "not downloaded: xswu/HPSv2:HPS_v2.1_compressed.pt (or name local paths in its options)"
    assert (check.status, check.found) == ("limited", said)
    assert check.fix == "hf download xswu/HPSv2 HPS_v2.1_compressed.pt"


def test_in_the_pool_as_in_this_process() -> None:
    batch = [replace(s, prompt=replace(s.prompt, metadata={"reference": pictures(1)[0]})) for s in samples(4)]
    specs = {"quality": RewardComponent(use="quality", role="monitor"), "similarity": RewardComponent(use="similarity")}
    with RewardPool(specs) as pool:
        found = pool.score(batch)
    for name in specs:
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
