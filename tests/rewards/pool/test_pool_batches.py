"""How samples go into batches and to workers, what arrives there, and scoring while others are painted."""

from __future__ import annotations

import json
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rewards.batches import batches_by_group
from rewards.library.similarity import Similarity
from rewards.pool.pool import RewardPool
from rewards.pool.prompt_pictures import in_memory
from rewards.pool.shared_memory import FreeList, MappedMemory, SharedArray, SharedMemory, from_shared, to_shared
from rewards.pool.submission import Submission, gather
from rl.config.schema import RewardComponent, RewardPoolConfig
from rl.data.pictures import Picture
from rl.types import Prompt, Sample, Score

PLUGINS = "tests.rewards.pool_plugins"


def samples(count: int, group: int = 2, first: int = 0, **metadata: object) -> list[Sample]:
    return [
        Sample(f"s{i}", f"g{i // group}", Prompt(f"p{i // group}", "x", metadata), np.full((8, 8, 3), i, np.uint8))
        for i in range(first, first + count)
    ]


def log_of(path: Path) -> list[list[str]]:
    return [json.loads(line)[1] for line in path.read_text().splitlines()]


def values(scores: list[Score]) -> list[float | None]:
    return [score.value for score in scores]


def levels(count: int) -> list[float]:
    return [i / 255 for i in range(count)]


def test_groups_stay_together_where_they_fit() -> None:
    assert batches_by_group(samples(8), 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches_by_group(samples(8), 3) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert batches_by_group(samples(6, group=3), 2) == [[0, 1], [2], [3, 4], [5]]
    assert batches_by_group(samples(6, group=3), 2, whole_groups=True) == [[0, 1, 2], [3, 4, 5]]
    assert batches_by_group(samples(3), 100) == [[0, 1, 2]]
    assert batches_by_group([], 4) == []


def test_samples_go_across_groups_into_calls_of_the_batch_size(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    with RewardPool({"c": RewardComponent(use=f"{PLUGINS}:calls", options={"log": str(log)}, batch_size=4)}) as pool:
        assert values(pool.score(samples(10))["c"]) == levels(10)
    assert log_of(log) == [["s0", "s1", "s2", "s3"], ["s4", "s5", "s6", "s7"], ["s8", "s9"]]


def test_an_idle_worker_takes_what_a_slow_one_has_not_begun() -> None:
    reward = RewardComponent(use=f"{PLUGINS}:first_is_slow", options={"seconds": 2.0}, workers=2, batch_size=1)
    with RewardPool({"c": reward}) as pool:
        found = pool.score([*samples(1, slow=True), *samples(7, first=1)])["c"]
    assert values(found) == levels(8)
    assert [score.details["pid"] for score in found].count(found[0].details["pid"]) == 1


def test_a_reward_that_needs_whole_groups_gets_them() -> None:
    with RewardPool({"w": RewardComponent(use=f"{PLUGINS}:WholeGroups")}) as pool:
        assert values(pool.score(samples(6, group=3))["w"]) == [3.0] * 6


def test_a_thread_safe_reward_is_called_from_several_threads_and_a_part_fails_alone() -> None:
    with RewardPool({"t": RewardComponent(use=f"{PLUGINS}:Threaded")}) as pool:
        found = pool.score([*samples(4), *samples(2, first=4, bad=True)])["t"]
    assert values(found) == [*levels(4), None, None]
    assert [score.details for score in found[:4]] == [{"calls": 2, "omp": "1"}] * 4
    assert str(found[5].failure).startswith("ValueError: one part only (pool_plugins.py:")


def test_submissions_come_back_in_order_while_others_are_still_made(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    reward = RewardComponent(use=f"{PLUGINS}:calls", options={"log": str(log), "seconds": 0.3})
    with RewardPool({"c": reward, "d": RewardComponent(use=f"{PLUGINS}:Versioned")}) as pool:
        first = pool.submit(samples(4))
        deadline = time.monotonic() + 20
        while not first.done:  # nobody waits for it: it is scored while "pictures are painted"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        second, third = pool.submit(samples(4, first=4)), pool.submit(samples(2, first=8))
        assert not third.done
        merged = gather([first, second, third])
        assert values(merged["c"]) == levels(10)
        assert merged["d"] == [Score(None)] * 10
        assert pool.submit([]).result() == {"c": [], "d": []}
    assert log_of(log) == [["s0", "s1", "s2", "s3"], ["s4", "s5", "s6", "s7"], ["s8", "s9"]]


def test_threads_may_score_at_the_same_time() -> None:
    with RewardPool(
        {"c": RewardComponent(use=f"{PLUGINS}:first_is_slow", options={"seconds": 0.0}, workers=2, batch_size=3)}
    ) as pool:
        found: dict[int, list[float | None]] = {}

        def one(start: int) -> None:
            found[start] = values(pool.score(samples(20, first=start))["c"])

        threads = [threading.Thread(target=one, args=(20 * i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[20 * i] for i in range(4)] == [levels(80)[20 * i : 20 * i + 20] for i in range(4)]


def test_cancelling_one_submission_leaves_the_others(tmp_path: Path) -> None:
    reward = RewardComponent(
        use=f"{PLUGINS}:calls", options={"log": str(tmp_path / "calls"), "seconds": 1.0}, batch_size=2
    )
    with RewardPool({"c": reward}) as pool:
        first, second = pool.submit(samples(4)), pool.submit(samples(2, first=4))
        time.sleep(0.4)
        first.cancel()
        assert [score.failure for score in first.result()["c"]] == ["interrupted"] * 4
        assert values(second.result()["c"]) == [4 / 255, 5 / 255]
        assert pool.restarts == {"c": 0}
    with pytest.raises(RuntimeError, match="the reward pool is closed"):
        pool.submit(samples(2))


def test_no_sample_is_scored_twice() -> None:
    submission = Submission(samples(2), ["c"], FreeList(), abandon=lambda _: None)
    submission.fill("c", [1], [Score(1.0)])
    with pytest.raises(RuntimeError, match="reward 'c' scored sample 's1' twice"):
        submission.fill("c", [0, 1], [Score(0.5), Score(0.5)])


def test_a_fault_of_the_pool_itself_is_raised_and_not_waited_for() -> None:
    submission = Submission(samples(2), ["c"], FreeList(), abandon=lambda _: None)
    submission.set_exception(OSError("too many open files"))
    with pytest.raises(RuntimeError, match="the reward pool broke: too many open files"):
        submission.result()


def test_pictures_of_any_shape_cross_shared_memory_unchanged_and_read_only() -> None:
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (3, 70, 50, 3), dtype=np.uint8)
    pictures = [large[0], large[1, ::2, :, ::-1], rng.random((5, 4), np.float32), np.zeros((0, 4, 3), np.uint8)]
    memory = SharedMemory()
    arrays = [memory.put(picture) for picture in pictures]
    parts = (arrays, arrays[2:3], arrays[3:])
    mapped = [MappedMemory(memory.fd, part) for part in parts]
    taken = [one.array(array) for one, part in zip(mapped, parts, strict=True) for array in part]
    memory.close()
    memory.close()
    for picture, back in zip([*pictures, *pictures[2:]], taken, strict=True):
        assert (back.dtype, back.shape) == (picture.dtype, picture.shape)
        assert np.array_equal(picture, back)
        assert not back.flags.writeable
    assert [one.close() for one in mapped] == [False] * 3  # ``taken`` holds them
    del picture, back
    taken.clear()
    assert [one.close() for one in mapped] == [True] * 3


def test_arrays_in_the_metadata_are_shared_once_and_come_back_as_they_were() -> None:
    reference = np.random.default_rng(0).random((6, 4), np.float64)
    words = np.array(["a", "b"])  # no plain numbers: pickled as before
    shared = Prompt(
        "p", "x", {"reference": reference, "same": reference, "words": words, "n": 3, "flag": np.float32(2)}
    )
    given = [Sample(f"s{i}", "g", shared, np.full((2, 2, 3), i, np.uint8)) for i in range(2)]
    plain = Sample("s2", "h", Prompt("q", "x", {"n": 1}), given[0].picture)
    memory, written = SharedMemory(), dict[int, SharedArray]()
    shared_samples = [to_shared(sample, memory, written) for sample in (*given, plain)]
    assert list(written) == [id(reference)] and len(pickle.dumps(shared_samples)) < 2000
    assert shared_samples[2].prompt is plain.prompt
    taken, mapped = from_shared(pickle.loads(pickle.dumps(shared_samples)), memory.fd)
    first, second = taken[0].prompt.metadata, taken[1].prompt.metadata
    assert np.array_equal(first["reference"], reference) and first["reference"].dtype == np.float64
    assert first["reference"] is first["same"] is second["reference"] and not first["reference"].flags.writeable
    assert first["words"].tolist() == ["a", "b"] and (first["n"], first["flag"]) == (3, 2.0)
    assert [sample.picture[0, 0, 0] for sample in taken] == [0, 1, 0]
    assert (taken[2].prompt, shared.metadata["reference"]) == (plain.prompt, reference)
    del first, second
    taken.clear()
    assert mapped.close()


def test_the_pictures_of_prompts_are_shared_once_and_come_back_as_arrays(tmp_path: Path) -> None:
    cat, hat = (np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8) for seed in range(2))
    Image.fromarray(cat).save(tmp_path / "cat.png")
    edit = Prompt("p", "x", {"same": hat}, (Picture(tmp_path / "cat.png"), Picture(hat)), "p.jsonl:3")
    plain = Prompt("q", "x")
    given, unreadable = in_memory([Sample(f"s{i}", "g", p, hat[:2, :2]) for i, p in enumerate((edit, edit, plain))])
    assert not unreadable and given[0].prompt is given[1].prompt and given[2].prompt is plain
    memory, written = SharedMemory(), dict[int, SharedArray]()
    shared_samples = [to_shared(sample, memory, written) for sample in given]
    assert len(written) == 2 and shared_samples[2].prompt is plain and len(pickle.dumps(shared_samples)) < 2000
    taken, mapped = from_shared(pickle.loads(pickle.dumps(shared_samples)), memory.fd)
    back = taken[1].prompt
    assert [one.pixels.tolist() for one in back.pictures] == [cat.tolist(), hat.tolist()]
    assert [one.digest for one in back.pictures] == [one.digest for one in edit.pictures]
    assert back.pictures[1].source is back.metadata["same"] and not back.pictures[0].pixels.flags.writeable
    assert (back.id, back.source, taken[2].prompt) == ("p", "p.jsonl:3", plain)
    del back
    taken.clear()
    assert mapped.close()


def test_a_picture_that_has_gone_fails_its_samples_in_the_rewards_that_apply(tmp_path: Path) -> None:
    picture, gone = np.full((8, 8, 3), 9, np.uint8), Picture(tmp_path / "gone.png")
    given = [
        replace(s, picture=picture, prompt=replace(s.prompt, pictures=(Picture(picture),) if i < 2 else (gone,)))
        for i, s in enumerate(samples(4))
    ]
    given += [replace(s, picture=picture, prompt=replace(s.prompt, text="none")) for s in samples(2, first=4)]
    rewards = {
        "s": RewardComponent(use="similarity", options={"reference": "picture"}),
        "other": RewardComponent(use="similarity", tags=["other"]),
    }
    with RewardPool(rewards, RewardPoolConfig(cache=str(tmp_path / "cache"))) as pool:
        found = [pool.score(given) for _ in range(2)]
        assert pool.restarts["s"] == 0
    assert found[0] == found[1]
    assert values(found[0]["s"]) == [1.0, 1.0, None, None, None, None] and found[0]["other"] == [Score(None)] * 6
    reason = str(found[0]["s"][2].failure)
    assert reason.startswith(f"prompt 'p1': the picture '{tmp_path}/gone.png' can't be read: [Errno 2]")
    assert [score.failed for score in found[0]["s"]] == [False, False, True, True, False, False]


def test_rewards_get_arrays_in_the_metadata_through_the_pool() -> None:
    rng = np.random.default_rng(0)
    references = [rng.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(3)]
    given = [replace(s, prompt=replace(s.prompt, metadata={"reference": references[i // 2]}))
             for i, s in enumerate(samples(6))]  # fmt: skip
    with RewardPool({"s": RewardComponent(use="similarity", batch_size=3)}) as pool:
        found = [pool.score(given)["s"] for _ in range(2)]
    assert found[0] == found[1] == Similarity()(given)


def test_memory_is_used_again_unless_a_reward_holds_on_to_it() -> None:
    free = FreeList()
    one, two = free.take(), free.take()
    assert one.fd != two.fd
    free.give_back(one)
    assert free.take() is one
    rewards = {
        "k": RewardComponent(use=f"{PLUGINS}:keeps"),
        "c": RewardComponent(use=f"{PLUGINS}:first_is_slow", options={"seconds": 0.0}),
    }
    for name, again in (("k", False), ("c", True)):
        with RewardPool({name: rewards[name]}) as pool:
            first = pool.submit(samples(4))
            first.result()
            second = pool.submit(samples(4))
            second.result()
            assert (second.memory is first.memory) == again


def test_a_reward_may_keep_pictures_of_earlier_calls() -> None:
    with RewardPool({"k": RewardComponent(use=f"{PLUGINS}:keeps")}) as pool:
        assert values(pool.score(samples(4, first=10))["k"]) == [10.0, 11.0, 12.0, 13.0]
        assert values(pool.score(samples(4, first=90))["k"]) == [10.0, 11.0, 12.0, 13.0]


def test_whoever_waits_hears_how_many_scores_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rewards.pool.submission._WAKE_S", 0.01)
    first, second = (Submission(samples(2), ["a", "b"], FreeList(), abandon=lambda _: None) for _ in range(2))
    first.fill("a", [0, 1], [Score(0.5)] * 2)
    steps = iter([(first, "b"), (second, "a"), (second, "b")])
    told: list[tuple[int, int, str]] = []

    def progress(*far: object) -> None:
        told.append(far)  # type: ignore[arg-type]
        submission, name = next(steps)
        submission.fill(name, [0, 1], [Score(1.0)] * 2)

    assert gather([first, second], progress)["b"] == [Score(1.0)] * 4
    assert told == [(2, 8, "scores"), (4, 8, "scores"), (6, 8, "scores")]
