"""Workers and trainers of a cluster that is to be started here need this machine's cores or GPUs."""

from __future__ import annotations

import pytest

from rl.config.load import load
from rl.config.schema import Config
from rl.preflight.machine import worker_problems
from rl.preflight.prompts import require_a_reader
from rl.types import UserError
from tests.rl.run_case import ROOT


def config(*overrides: str) -> Config:
    return load(ROOT / "examples/geneval.yaml", ["loop=ahead", "loop.in_turn=true", *overrides])


@pytest.mark.parametrize(
    ("overrides", "gpus", "told"),
    [
        (["cluster.trainers=4"], 0, []),
        (
            ["cluster.trainers=5"],
            0,
            [
                "cluster.trainers: 5 ranks need a core each and this machine has 4; lower it, or name a cluster of "
                "more machines (cluster.address)"
            ],
        ),
        (["cluster.trainers=6"], 8, []),
        (["cluster.trainers=7", "cluster.painter_gpus=0"], 8, []),
        (
            ["cluster.trainers=7"],
            8,
            [
                "cluster.trainers: 7 ranks, 1 sampler and 1 painter need 9 GPUs and this machine shows 8; lower "
                "their numbers, or name a cluster of more machines (cluster.address)"
            ],
        ),
        (["cluster.trainers=99", "cluster.address=10.0.0.1:6379"], 8, []),
        (["cluster.samplers=99", "cluster.address=10.0.0.1:6379"], 0, []),
        (["cluster.samplers=8", "cluster.painters=8"], 0, []),
        (
            ["cluster.samplers=99"],
            0,
            [
                "cluster: 99 samplers and 1 painter are more than 4 to a core, and this machine has 4; lower "
                "cluster.samplers or cluster.painters, or name a cluster of more machines (cluster.address)"
            ],
        ),
        (["cluster.painters=6"], 8, []),
        (
            ["cluster.sampler_gpus=1", "cluster.painter_gpus=0.5"],
            0,
            [
                "cluster.sampler_gpus: is 1, and this machine shows no GPU; leave it out to work on the CPU, or name a "
                "cluster that has GPUs (cluster.address)",
                "cluster.painter_gpus: is 0.5, and this machine shows no GPU; leave it out to work on the CPU, or name "
                "a cluster that has GPUs (cluster.address)",
            ],
        ),
        (["cluster.sampler_gpus=1", "cluster.address=10.0.0.1:6379"], 0, []),
        (["cluster.sampler_gpus=0", "cluster.painters=2"], 0, []),
        (
            ["cluster.samplers=2", "cluster.painters=6"],
            8,
            [
                "train.ranks: 1 rank, 2 samplers and 6 painters need 9 GPUs and this machine shows 8; lower their "
                "numbers, or name a cluster of more machines (cluster.address)"
            ],
        ),
        (["cluster.painters=0", "rollout.sleep=2", "rollout.engine=vllm"], 1, []),
        (["loop=serial", "loop.in_turn=false", "cluster.samplers=99"], 8, []),
    ],
)
def test_more_workers_than_this_machine_has_room_for(
    overrides: list[str], gpus: int, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert list(worker_problems(config(*overrides), gpus, 4)) == told


def test_a_process_without_a_model_reads_no_pictures() -> None:
    require_a_reader(config())
    with pytest.raises(UserError) as caught:
        require_a_reader(config("cluster.trainers=2"))
    assert str(caught.value) == (
        "cluster.trainers: is 2, so the run's own process has no model, and data holds pictures that it would have to "
        "read; leave cluster.trainers out"
    )
