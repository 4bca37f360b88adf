"""The trained policy as a folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from policy.base import Policy
from policy.export import export
from policy.flow.network import FlowNetwork
from policy.trainable import WeightStream
from rl.types import UserError


def test_an_exported_policy_is_complete_and_holds_the_new_weights(tmp_path: Path, tiny_policy: Path) -> None:
    policy = Policy.load(tiny_policy)
    with torch.no_grad():
        for parameter in policy.ar.parameters():
            parameter.add_(1.0)
    trained = policy.ar.state_dict()
    for _ in range(2):  # the second export replaces the first
        out = export(tiny_policy, {"ar": WeightStream.of(trained.items())}, tmp_path / "out")
    again = Policy.load(out).ar.state_dict()
    assert again.keys() == trained.keys()
    assert all(torch.equal(again[name], trained[name]) for name in trained)
    files = [sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (tiny_policy, out)]
    assert ["SHA256SUMS", *files[0]] == files[1]


def test_exporting_another_model_is_a_clear_error(tmp_path: Path, tiny_policy: Path) -> None:
    with pytest.raises(UserError, match="the trained weights lack"):
        export(tiny_policy, {"ar": WeightStream.of([])}, tmp_path / "out")
    wrong = WeightStream.of([("model.embed_tokens.weight", torch.zeros(2, 3))])
    with pytest.raises(UserError, match=r"model.embed_tokens.weight has shape .*, the trained one \(2, 3\)"):
        export(tiny_policy, {"ar": wrong}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _no_space(*_: object, **__: object) -> None:
    raise shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")])  # what copying collects: no number


def _too_large(*_: object, **__: object) -> None:
    text = 'Error while serializing: IoError(Os { code: 27, kind: FileTooLarge, message: "File too large" })'
    raise SafetensorError(text)


@pytest.mark.parametrize(
    ("where", "fails", "said"),
    [
        ("shutil.copytree", _no_space, "cannot write the policy: the disk is full; free some space, and resume"),
        ("save_torch_state_dict", _too_large, "cannot write the policy: the file would be larger than this shell or"),
    ],
)
def test_a_policy_that_cannot_be_written_names_the_cause(
    where: str,
    fails: Callable[..., None],
    said: str,
    tmp_path: Path,
    tiny_policy: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"policy.export.{where}", fails)
    weights = WeightStream.of(Policy.load(tiny_policy).ar.state_dict().items())
    with pytest.raises(UserError) as caught:
        export(tiny_policy, {"ar": weights}, tmp_path / "out")
    assert said in str(caught.value)
    assert list(tmp_path.glob("*out*")) == []


def test_an_export_has_checksums_of_its_own_and_no_card_of_its_base(tiny_policy: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_policy, base)
    for name in ("README.md", "SHA256SUMS", "before.png", "LICENSE"):
        (base / name).write_text("of the base")
    weights = {name: value + 1 for name, value in Policy.load(base).ar.state_dict().items()}
    out = export(base, {"ar": WeightStream.of(weights.items())}, tmp_path / "out")
    assert {path.name for path in out.iterdir()} - {path.name for path in tiny_policy.iterdir()} == {
        "LICENSE",
        "SHA256SUMS",
    }
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=out, capture_output=True, text=True, check=True)
    assert "ar/model.safetensors: OK" in checked.stdout


def test_a_trained_decoder_brings_its_connector_along(tiny_policy: Path, tmp_path: Path) -> None:
    policy = Policy.load(tiny_policy)
    network = FlowNetwork(policy.decoder.connector, policy.decoder.transformer)
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.add_(1.0)
    again = Policy.load(export(tiny_policy, {"decoder": network.weights()}, tmp_path / "out")).decoder
    for part in ("connector", "transformer", "vae"):
        trained = getattr(policy.decoder, part).state_dict()
        assert all(torch.equal(value, trained[name]) for name, value in getattr(again, part).state_dict().items())
    files = [
        sorted(str(path.relative_to(root)) for path in root.rglob("*")) for root in (tiny_policy, tmp_path / "out")
    ]
    assert ["SHA256SUMS", *files[0]] == files[1]
    rest = WeightStream.of([pair for pair in network.weights().tensors() if pair[0].startswith("transformer.")])
    with pytest.raises(UserError, match=r"connector: the trained weights lack 0\.bias; export the same model"):
        export(tiny_policy, {"decoder": rest}, tmp_path / "without")
    assert not (tmp_path / "without").exists()
