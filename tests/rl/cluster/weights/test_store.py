"""Sets of weights: what is published is what is loaded, nothing less, and nobody's files are left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch

from policy.trainable import WeightStream
from rl.cluster.weights import place
from rl.cluster.weights.sets import DamagedWeights, MissingWeights, set_folder
from rl.cluster.weights.store import WeightStore
from rl.types import UserError
from rollout.weights import SyncError
from tests.rl.cluster.weights.sets_case import canary, decoder_weights, language_model, logprobs, opened, publish


def test_what_is_loaded_is_what_was_published(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        model = publish(store, 3)
        with store.load(3) as found:
            assert (found.version, tuple(found.parts)) == (3, ("ar", "decoder"))
            assert found.adapter("ar") is None
            for part, expected in (("ar", model.weights()), ("decoder", decoder_weights(3))):
                held = dict(found.stream(part).tensors())
                assert found.stream(part).shapes == expected.shapes
                assert all(torch.equal(held[name], value) for name, value in expected.tensors())
            asked = found.canaries()["logprobs"]
            assert (asked.expected == logprobs(model)).all()
            assert asked.question.prompt_ids == [(3, 4, 27, 25), (5, 27, 25)]


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        manifest = store.publish(1, {"ar": language_model(1).weights()})
        entries = {one.name: one for one in manifest.parts["ar"].tensors}
        assert entries["lm_head.weight"].start == entries["model.embed_tokens.weight"].start
        distinct = {one.start: -(-one.size // 64) * 64 for one in entries.values()}
        assert manifest.size == sum(distinct.values()) < sum(one.size for one in entries.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8])
def test_every_kind_of_number_arrives(dtype: torch.dtype, tmp_path: Path) -> None:
    value = torch.arange(7).to(dtype).view(7, 1)
    with opened(tmp_path) as store:
        store.publish(1, {"ar": WeightStream.of([("w", value), ("scalar", value[3, 0]), ("t", value.expand(7, 2).T)])})
        with store.load(1) as found:
            held = dict(found.stream("ar").tensors())
    assert torch.equal(held["w"], value) and held["w"].dtype == dtype
    assert held["scalar"].shape == () and torch.equal(held["t"], value.expand(7, 2).T)


def test_versions_are_removed_below_the_lowest_in_use_and_not_while_one_is_open(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        for version in (1, 2, 3, 12):
            publish(store, version)
        reading = store.load(2)
        kept = reading.stream("decoder")
        assert store.prune(3) == [1]
        assert store.versions() == [2, 3, 12]
        reading.close()
        assert store.prune(3) == [2] and store.prune(3) == []
        assert all(
            torch.equal(a, b) for (_, a), (_, b) in zip(kept.tensors(), decoder_weights(2).tensors(), strict=True)
        )
        with pytest.raises(MissingWeights, match="weights of version 2: there is no .*version-000002/manifest.json on"):
            store.load(2)


def test_a_version_never_changes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        publish(store, 1)
        publish(store, 1)  # a replayed step
        other = {"ar": language_model(1).weights(), "decoder": decoder_weights(2)}
        with pytest.raises(SyncError, match="version 1: 'connector.proj.weight' of decoder is not what was published"):
            store.publish(1, other, canaries=canary(language_model(1)))
        with pytest.raises(SyncError, match="version 1: other tensors than were published before under it"):
            store.publish(1, {"ar": language_model(1).weights()})
        assert [path.name for path in store.folder.iterdir() if path.name.startswith(".")] == []
        store.load(1).close()


def test_another_machine_pulls_block_by_block_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.cluster.weights.store.BLOCK", 1000)
    asked: list[tuple[str, int, int]] = []
    with opened(tmp_path / "here") as here, opened(tmp_path / "there") as there:
        publish(here, 4)

        def reader(file: str, start: int, size: int) -> bytes:
            asked.append((file, start, size))
            return here.read(4, file, start, size)

        there.pull(4, reader)
        count = len(asked)
        there.pull(4, reader)  # it is there
        assert len(asked) == count > 10 and max(size for file, _, size in asked if file != "manifest.json") == 1000
        with here.load(4) as one, there.load(4) as other:
            assert one.manifest == other.manifest
        with pytest.raises(MissingWeights, match="weights of version 5: there is no .* to be sent"):
            there.pull(5, lambda *block: here.read(5, *block))
        with pytest.raises(ValueError, match="a set has no file '../secret'"):
            here.read(4, "../secret", 0, 1)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda block: b"", "ar.bin ended after 0 of"),
        (lambda block: bytes([block[0] ^ 1]) + block[1:], r"'model.embed_tokens.weight' in .*ar.bin .* is damaged"),
    ],
)
def test_what_is_damaged_on_the_way_never_appears(harm: object, said: str, tmp_path: Path) -> None:
    with opened(tmp_path / "here") as here, opened(tmp_path / "there") as there:
        publish(here, 4)

        def reader(file: str, start: int, size: int) -> bytes:
            block = here.read(4, file, start, size)
            return harm(block) if file == "ar.bin" else block  # type: ignore[operator]

        with pytest.raises(DamagedWeights, match=f"weights of version 4: .*{said}"):
            there.pull(4, reader)
        assert there.versions() == [] and not list(there.folder.glob(".new*"))
        there.pull(4, lambda *block: here.read(4, *block))
        assert there.versions() == [4]


def test_a_reader_that_times_out_is_no_full_disk(tmp_path: Path) -> None:
    def reader(file: str, start: int, size: int) -> bytes:
        raise TimeoutError("nobody answers")

    with opened(tmp_path) as store, pytest.raises(TimeoutError, match="nobody answers"):
        store.pull(1, reader)


def test_one_process_pulls_and_the_others_do_not_wait_for_ever(tmp_path: Path) -> None:
    with (
        opened(tmp_path) as store,
        place.locked(store.folder / ".pull-2.lock", 1.0, ""),
        pytest.raises(UserError, match=r"pull-2.lock has been locked .* for 0.1 s, and is needed to pull the w"),
    ):
        store.pull(2, lambda *_: b"", wait_s=0.1)


def test_the_last_process_of_a_run_removes_its_folder(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    publish(one, 1)
    one.close()
    assert other.versions() == [1]
    other.close()
    other.close()
    assert not other.folder.exists()
    run = opened(tmp_path)
    publish(run, 1)
    with run.load(1) as found:
        run.discard()
        assert not run.folder.exists() and next(found.stream("ar").tensors())[1].isfinite().all()


def leave_a_set(folder: Path, run: str, done: object) -> None:
    publish(opened(folder, run), 1)
    done.set()  # type: ignore[attr-defined]
    signal.pause()


def test_what_a_killed_run_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = [context.Event(), context.Event()]
    killed, alive = (
        context.Process(target=leave_a_set, args=(tmp_path, name, done))
        for name, done in zip(("killed", "alive"), ready, strict=True)
    )
    for process, done in zip((killed, alive), ready, strict=True):
        process.start()
        assert done.wait(60)
    (foreign := tmp_path / "notes").mkdir()
    os.kill(killed.pid or 0, signal.SIGKILL)
    killed.join()
    with opened(tmp_path, "new") as store:
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "alive", "new", "notes"}
        assert foreign.is_dir() and (tmp_path / "alive" / "version-000001").is_dir() and store.versions() == []
    os.kill(alive.pid or 0, signal.SIGKILL)
    alive.join()


def test_what_a_killed_process_of_a_living_run_was_writing_goes(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        mine, dead = store.folder / f".new-1-{os.getpid()}", store.folder / ".new-2-999999999"
        for half in (mine, dead, store.folder / ".gone-1-999999999"):
            half.mkdir()
        (store.folder / "users" / "999999999-abcd").touch()
        opened(tmp_path).close()
        assert {path.name for path in store.folder.glob(".*")} == {mine.name}
        assert len(list((store.folder / "users").iterdir())) == 1


def test_a_place_without_room_is_passed_over_and_the_reasons_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = {"small": 10**6, "large": 10**12}
    monkeypatch.setattr(place.shutil, "disk_usage", lambda base: type("Usage", (), {"free": free[base.name]}))
    both = [tmp_path / "small", tmp_path / "large"]
    with WeightStore.open("a", room=10**9, candidates=both) as first:
        assert first.folder == both[1] / "a"
        with WeightStore.open("a", candidates=both) as second:  # where the run is already
            assert second.folder == first.folder
    with pytest.raises(
        UserError, match=r"need 1.00 GB on each machine, and \S+/small has 0.00 GB free: give shared mem"
    ):
        WeightStore.open("a", room=10**9, candidates=both[:1])
    with pytest.raises(ValueError, match="is to be a file's name"):
        WeightStore.open("../a", candidates=both)


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with opened(tmp_path) as store:
        monkeypatch.setattr("rl.cluster.weights.store.write_set", full)
        with pytest.raises(
            UserError, match=r"version 1 cannot be written to .*/run: the disk is full; give shared mem"
        ):
            publish(store, 1)
        assert [path.name for path in store.folder.iterdir()] == ["users"]


def test_a_set_whose_writer_was_killed_is_not_there(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        (half := set_folder(store.folder, 1)).mkdir()
        (half / "ar.bin").write_bytes(b"half")
        assert store.versions() == [] and not store.has(1)
        with pytest.raises(MissingWeights, match="version 1"):
            store.load(1)


def test_shared_memory_comes_first() -> None:
    first = place.bases()[0]
    assert first.name == f"easel-weights-{os.getuid()}"
    assert first.parent == Path("/dev/shm") or not Path("/dev/shm").is_dir()
