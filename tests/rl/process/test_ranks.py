"""Which rank a process is, and what is left in its environment."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from rl.process import ranks
from rl.process.ranks import OtherRanks, Place, failures_told_to_torchrun, settle_world, take_place
from rl.types import UserError

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.7",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
}


def test_leftovers_of_a_scheduler_are_taken_out_and_named() -> None:
    left = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "10.0.0.7", "OMPI_COMM_WORLD_RANK": "1", "PATH": "/bin"}
    place, said = take_place(left)
    assert place == Place() and place.first
    assert said == (
        "note: MASTER_ADDR, RANK, WORLD_SIZE in the environment is ignored, because torchrun did not start this process"
    )
    assert left == {"PATH": "/bin"}


def test_slurm_alone_is_nothing_to_speak_of() -> None:
    environment = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    assert take_place(environment) == (Place(), None)
    assert environment == {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}


def test_the_place_that_torchrun_gives_is_kept_from_reward_workers() -> None:
    environment = {**TORCHRUN, "PATH": "/bin"}
    place, said = take_place(environment)
    assert place == Place(3, 4, 1, 2, "10.0.0.7", 29500, by_torchrun=True, store_is_there=True)
    assert (str(place), place.first, said) == ("rank 3 of 4", False, None)
    assert environment == {"PATH": "/bin"}


def test_the_number_of_ranks_is_that_of_torchrun() -> None:
    place, _ = take_place(dict(TORCHRUN))
    assert settle_world(place, 1, said=False) == 4
    assert settle_world(place, 4, said=True) == 4
    assert settle_world(Place(), 2, said=True) == 2
    with pytest.raises(UserError, match=r"train.ranks: 2 is not the 4 that torchrun started; .* --nproc-per-node 2"):
        settle_world(place, 2, said=True)


def test_the_others_get_a_free_port_that_is_ours_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks.sys, "executable", "/bin/sleep")
    monkeypatch.setattr(OtherRanks, "_program", ("60",))
    others = OtherRanks(3, [])
    try:
        assert (others.place.rank, others.place.world, others.place.local_world) == (0, 3, 3)
        with socket.create_connection(("127.0.0.1", others.place.port), timeout=5):
            pass
        assert [others.exit_code(rank) for rank in (1, 2)] == [None, None]
    finally:
        others.kill()
    others.wait()
    assert [others.exit_code(rank) for rank in (1, 2)] == [-9, -9]


def test_the_report_that_torchrun_ends_with_holds_the_sentence(tmp_path: Path) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    file = tmp_path / "error.json"
    place, _ = take_place({**TORCHRUN, "TORCHELASTIC_ERROR_FILE": str(file)})
    with pytest.raises(UserError), failures_told_to_torchrun(place):
        raise UserError("train.lr: too high; lower it.")
    report = str(ChildFailedError("rl.launch", {3: ProcessFailure(1, 77, 2, str(file))}))
    assert "traceback : train.lr: too high; lower it." in report and "To enable traceback" not in report
    with pytest.raises(UserError), failures_told_to_torchrun(Place()):
        raise UserError("nobody asks")
