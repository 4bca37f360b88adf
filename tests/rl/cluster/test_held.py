"""Workers take the weights that a job names: from the store of their machine, or from where they are published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from rl.cluster.jobs import SetsThere, WorkerStart
from rl.cluster.weights.sets import set_folder
from rl.cluster.worker.held import HeldWeights, base_of
from rl.config.load import load
from rl.types import UserError
from rollout.weights import SyncError
from tests.rl.cluster.weights.sets_case import TinyFollower, language_model, opened, publish
from tests.rl.run_case import ROOT


def holds(follower: TinyFollower, seed: int) -> bool:
    expected = language_model(seed).ar.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in follower.model.ar.state_dict().items())


def test_a_job_names_its_version_and_may_go_back(tmp_path: Path) -> None:
    follower = TinyFollower()
    with opened(tmp_path) as store:
        for version in (3, 4):
            publish(store, version)
        weights = HeldWeights(store, follower, tolerance=1e-3, keeps=2)
        weights.hold(None)
        assert (weights.version, weights.mismatch) == (None, None)
        assert holds(follower, 99)
        for version in (4, 3, 4):
            weights.hold(version)
            assert weights.version == version
            assert weights.mismatch is not None and weights.mismatch < 1e-5
            assert holds(follower, version)
        follower.model = language_model(98)  # as it is after a sleep that dropped them
        weights.forget()
        weights.hold(4)
        assert holds(follower, 4)
        with pytest.raises(SyncError, match=r"weights of version 5: there is no .* on this machine"):
            weights.hold(5)
        assert weights.version is None  # or it would answer with them


def test_another_machine_fetches_what_it_lacks_once_and_lets_old_sets_go(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    asked: list[int] = []
    with opened(tmp_path / "here") as published, opened(tmp_path / "there", "other") as store:

        def fetch(version: int, file: str, start: int, size: int) -> bytes:
            asked.append(version)
            return published.read(version, file, start, size)

        one, two = (HeldWeights(store, TinyFollower(), 1e-3, keeps=2, fetch=fetch) for _ in range(2))
        for version in (1, 2, 3, 4):
            publish(published, version)
            one.hold(version)
            seen = len(asked)
            two.hold(version)
            assert len(asked) == seen
        assert store.versions() == [2, 3, 4]

        damaged = next(path for path in set_folder(store.folder, 4).iterdir() if path.suffix != ".json")
        damaged.chmod(0o644)
        content = bytearray(damaged.read_bytes())
        content[7] ^= 1
        damaged.write_bytes(content)
        fresh = TinyFollower()
        late = HeldWeights(store, fresh, 1e-3, keeps=2, fetch=fetch)
        late.hold(4)  # fetched anew
        assert holds(fresh, 4)
        assert len(asked) > seen


@pytest.mark.parametrize(("part", "named"), [("ar", "ar/"), ("decoder", "the decoder")])
def test_adapters_are_not_merged_into_another_base(part: str, named: str, tiny_policy: Path) -> None:
    config = load(
        ROOT / "examples/geneval.yaml",
        [f"policy.path={tiny_policy}", "train.lora={}", "loop=ahead", "loop.in_turn=true"],
    )
    sets = SetsThere("run", 0, base_of(part, config).fingerprint)
    start = WorkerStart(config, sets, 100, 1, 1e-3)
    assert HeldWeights.of(start, sets, part, TinyFollower()).version is None
    with pytest.raises(UserError) as caught:
        HeldWeights.of(start, replace(sets, base=7), part, TinyFollower())
    assert str(caught.value).startswith(f"policy.path: {named} of {tiny_policy} on the machine ")
    assert str(caught.value).endswith(
        " does not hold the weights that it holds where the run was started, and adapters are sent alone; copy the "
        "folder there anew."
    )
