"""What a run will certainly miss is said at once, and what nobody can know quickly is no error."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rl.preflight.components as preflight
from rewards.remote.reach import refusals
from rl.config.load import load
from rl.preflight import room
from rl.preflight.components import problems, used_by
from rl.preflight.machine import check_machine, compiler_problems, engine_problems, rank_problems, usable_gpus
from rl.preflight.room import checkpoint_bytes, folder_problems
from rl.types import UserError

MINE = """
import tomorrow_never  # nobody imports this file

class Mine:
    requires = ({"packages": ("tomorrow-never",)}, {"part": "big", "weights": ("owner/big",), "optional": True})
    servers = ("at",)

    def __init__(self, checkpoint="owner/big", size="small", at=None): ...
    def __call__(self, samples): ...

def weighs(samples, *, file="owner/small:a.pt"): ...
weighs.requires = {"weights": ("owner/small:a.pt",), "tokenizers": ("owner/words",)}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_rewards.py").write_text(MINE)
    (tmp_path / "a.yaml").write_text("rewards: {geneval: geneval}\n")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def found(*overrides: str) -> list[str]:
    return list(problems(load("a.yaml", overrides)))


@pytest.fixture
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def silent() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_sound_run_misses_nothing_and_loads_nothing_heavy() -> None:
    check_machine(load("a.yaml"))
    assert [one.use for one in used_by(load("a.yaml")) if one.inner] == ["shapes"]


def test_packages_and_weights_of_ones_own_reward() -> None:
    wanted = "rewards.m: 'own_rewards:Mine' is not installed: tomorrow-never; type `"
    assert [one[: len(wanted)] for one in found("rewards.m=own_rewards:Mine")] == [wanted]
    _, big = found("rewards.m=own_rewards:Mine", "rewards.m.options.size=big")
    assert big == (
        "rewards.m.options.checkpoint: 'owner/big' is not on this machine and can't be downloaded now (HF_HUB_OFFLINE "
        "is set); with a network type `hf download owner/big`, or set rewards.m.options.checkpoint to the path of the "
        "folder"
    )
    given = "rewards.m.options.checkpoint=./here"
    assert len(found("rewards.m=own_rewards:Mine", "rewards.m.options.size=big", given)) == 1
    assert "own_rewards" not in sys.modules


def test_weights_that_another_option_replaces() -> None:
    first, second = found("rewards.w=own_rewards:weighs")
    assert first.startswith("rewards.w.options.file: 'owner/small:a.pt' is not on this machine")
    assert first.endswith("type `hf download owner/small a.pt`, or set rewards.w.options.file to the path of the file")
    assert second.startswith("rewards.w: 'owner/words' is not on this machine and can't be downloaded now (HF_HUB_")
    assert second.endswith("with a network type `hf download owner/words`")
    assert found("rewards.w=own_rewards:weighs", "rewards.w.options.file=mine.pt") == []


def test_a_reward_in_an_environment_of_its_own_is_left_alone() -> None:
    assert found("rewards.w=own_rewards:weighs", f"rewards.w.python={sys.executable}") == []
    with pytest.raises(UserError, match=r"^rewards.w.python: there is no interpreter 'nowhere'"):
        found("rewards.w=own_rewards:weighs", "rewards.w.python=nowhere")


def test_weights_are_missing_only_if_they_can_not_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(preflight, "refusals", lambda urls: dict.fromkeys(urls, "no such host") if urls else {})
    (sentence, *_) = found("rewards.w=own_rewards:weighs")
    assert "can't be downloaded now (https://huggingface.co: no such host)" in sentence
    monkeypatch.setattr(preflight, "refusals", lambda urls: {})
    assert found("rewards.w=own_rewards:weighs") == []


def test_parts_of_a_component() -> None:
    detector = "rewards.geneval.options.detector"
    assert found(f"{detector}=shaps")[0].startswith(
        "rewards.geneval.options.detector: there is no 'shaps' among the detectors, did you mean 'shapes'?"
    )
    wrong = found(f"{detector}=owlv2", f"{detector}_options.checkpoit=x", "rewards.geneval.options.colors=clip")
    assert wrong[0].startswith(f"{detector}_options.checkpoit: 'owlv2' has no such option, did you mean 'checkpoint'?")
    assert wrong[1].startswith(f"{detector}_options.checkpoint: 'google/owlv2-base-patch16-ensemble' is not on this")
    assert wrong[2].startswith("rewards.geneval.options.colors_options.checkpoint: 'openai/clip-vit-large-patch14' is")
    assert found(f"{detector}=owlv2", f"{detector}_options.checkpoint=./owl") == []


def test_a_server_must_listen(listening: str, silent: str) -> None:
    def remote(*urls: str) -> list[str]:
        return found(f"rewards.r={{use: remote, options: {{urls: {list(urls)}, reward: ocr}}}}")

    assert remote(silent) == [
        f"rewards.r.options.urls: nobody answers ({silent}: Connection refused); 'remote' needs a server: "
        "`python -m rewards.serve`"
    ]
    assert remote(silent, listening) == remote(listening) == remote("no address", "http://[") == []
    judge = found(f"rewards.j={{use: vlm_judge, options: {{url: {silent}/v1, model: m}}}}")
    assert judge[0].startswith(f"rewards.j.options.url: nobody answers ({silent}/v1: Connection refused); 'vlm_judge'")


def test_a_host_behind_a_proxy_and_a_slow_one_are_no_verdict(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert list(refusals([silent, "http://no-such-host.invalid"])) == [silent]
    monkeypatch.delenv("HTTP_PROXY")

    def slow(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", slow)
    assert refusals([silent]) == {}


def test_a_folder_that_can_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(folder_problems(tmp_path / "runs" / "new", 10)) == []
    (tmp_path / "file").touch()
    assert list(folder_problems(tmp_path / "file" / "x", 10)) == [
        f"run.folder: {tmp_path}/file is a file; choose another folder"
    ]
    monkeypatch.setattr(room.os, "access", lambda *_: False)
    assert list(folder_problems(Path("runs/new"), 10)) == [
        f"run.folder: {tmp_path} can't be written; choose another folder, or change its permissions"
    ]


def test_a_checkpoint_must_fit_the_disk(tmp_path: Path) -> None:
    assert checkpoint_bytes(10) == 120
    (sentence,) = folder_problems(tmp_path, 10**18)
    assert sentence.startswith("run.folder: one checkpoint takes 1000000000.00 GB and the disk of ")


def test_everything_at_once() -> None:
    Path("file").touch()
    with pytest.raises(UserError) as caught:
        check_machine(load("a.yaml", ["rewards.w=own_rewards:weighs", "run.folder=file/x"]))
    assert str(caught.value).splitlines()[0] == "3 things are missing on this machine:"
    with pytest.raises(UserError, match=r"^policy.path: there is no policy folder at 'nowhere'"):
        check_machine(load("a.yaml", ["policy.path=nowhere"]))


def test_ranks_need_a_gpu_each_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(rank_problems(2, 2)) == list(rank_problems(8, 0)) == []
    monkeypatch.setattr("rl.preflight.machine.version", lambda _: "2.13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(
        UserError, match=r"train.ranks: 4 ranks need a GPU each and this machine shows 2; lower train.r"
    ):
        check_machine(load("examples/geneval.yaml"), ranks_here=4)
    monkeypatch.setattr("rl.preflight.machine.version", lambda _: "2.13.0+cpu")
    assert usable_gpus() == 0


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(Path(__file__).parents[3] / "examples/geneval.yaml", ["policy.compile=on"])
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert list(compiler_problems(config)) == [
        "policy.compile: torch.compile needs a C++ compiler, and here is no g++ or clang++: install one"
    ]
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert list(compiler_problems(config)) == []


def test_an_engine_that_turns_out_to_be_torch_cannot_sleep() -> None:
    config = load("a.yaml", ["rollout.sleep=1"])
    assert list(engine_problems(config, gpus=0)) == [
        "rollout.sleep: rollout.engine auto is torch here, which keeps its memory; set sleep to 0"
    ]
    assert not list(engine_problems(load("a.yaml"), gpus=0))
