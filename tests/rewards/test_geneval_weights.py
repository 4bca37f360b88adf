from __future__ import annotations

from pathlib import Path

import pytest

import rewards.geneval.weights
from rewards.geneval.weights import HUB_WEIGHTS, downloaded, hub_cache
from rl.doctor import check_geneval_weights, check_yolox


def test_the_doctor_says_what_is_there_and_what_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    mask2former = HUB_WEIGHTS[0]
    absent = check_geneval_weights(mask2former)
    assert (absent.name, absent.status) == ("geneval (mask2former)", "limited")  # not a fault: few runs need it
    assert absent.fix == (
        "hf download facebook/mask2former-swin-small-coco-instance, "
        "or set geneval.options.detector_options.checkpoint to a copy"
    )
    snapshot = tmp_path / "models--facebook--mask2former-swin-small-coco-instance" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert not downloaded(mask2former)
    (snapshot / "model.safetensors").write_bytes(b"")
    assert check_geneval_weights(mask2former).status == "ok"
    assert check_yolox().status == "ok" and "detector_options.file" in check_yolox().found


def test_the_names_are_those_that_the_detectors_load() -> None:
    """The source is read, not imported: transformers takes seconds."""
    for weights in HUB_WEIGHTS[:3]:
        source = Path(rewards.geneval.weights.__file__).with_name(f"{weights.name}.py").read_text()
        assert f'HUB_NAME = "{weights.hub_name}"' in source


def test_the_cache_is_where_the_hub_client_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert hub_cache() == Path("~/.cache/huggingface/hub").expanduser()
    monkeypatch.setenv("HF_HOME", "/h")
    assert hub_cache() == Path("/h/hub")
