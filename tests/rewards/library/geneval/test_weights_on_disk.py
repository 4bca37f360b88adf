"""The doctor says which detectors' weights are here and how to get the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.doctor.components import check_component


def test_the_doctor_says_what_is_there_and_what_to_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (absent,) = check_component("detectors", "mask2former")
    assert absent.status == "limited"  # not a fault: few runs need it
    assert absent.fix == "hf download facebook/mask2former-swin-small-coco-instance"
    repository = tmp_path / "models--facebook--mask2former-swin-small-coco-instance"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    (repository / "snapshots" / "abc" / "config.json").write_text("{}")
    assert [check.status for check in check_component("detectors", "mask2former")] == ["limited"]
    (repository / "snapshots" / "abc" / "model.safetensors").write_bytes(b"")
    assert [check.status for check in check_component("detectors", "mask2former")] == ["ok"]


def test_the_doctor_says_that_yolox_wants_a_file() -> None:
    (check,) = check_component("detectors", "yolox")
    assert check.status == "ok" and "detector_options.file" in check.found
