"""The experience log: what comes back is what was learnt from, and what can't come back is said."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rl.run_folder.experience import ExperienceLog
from rl.run_folder.random_state import rng_state
from rl.types import Experience, Prompt, Rollout, Scores, Span, UserError
from tests.rl.test_learn import an_experience

PROMPTS = an_experience().rollout.prompts


def a_log(folder: Path, *steps: int) -> ExperienceLog:
    log = ExperienceLog(folder, PROMPTS)
    for step in steps:
        log.write(replace(an_experience(), step=step), rng_state())
    return log


def test_what_a_learner_looks_at_comes_back_bit_for_bit(tmp_path: Path) -> None:
    given = an_experience()
    rollout = replace(
        given.rollout,
        seeds=tuple(2**63 - 1 - seed for seed in range(6)),
        span=Span(28, 60, max_length=8, end=31),
        mask_BT=given.rollout.tokens_BT % 2 == 0,
        temperature=0.7,
        version=12,
    )
    metrics = {"score": 0.1 + 0.2, "nothing": float("nan"), "images": np.float32(6)}
    given = replace(given, step=41, rollout=rollout, version=12, metrics=metrics)  # type: ignore[arg-type]
    log, state = ExperienceLog(tmp_path, PROMPTS), rng_state()
    log.write(given, state)
    logged = log.read(41)
    found = logged.experience
    for one in dataclasses.fields(Rollout):
        before, after = getattr(rollout, one.name), getattr(found.rollout, one.name)
        if isinstance(before, np.ndarray):
            assert np.array_equal(before, after) and before.dtype == after.dtype, one.name
        else:
            assert before == after, one.name
    for name in ("total_B", "valid_B", "score_B"):
        before, after = getattr(given.scores, name), getattr(found.scores, name)
        assert np.array_equal(before, after) and before.dtype == after.dtype
    assert (found.step, found.version, found.metrics["score"]) == (41, 12, 0.1 + 0.2)
    assert np.isnan(found.metrics["nothing"]) and found.metrics["images"] == 6.0
    assert not len(found.renders.pictures) and found.forward is None and found.reference is None
    assert np.array_equal(logged.rng["numpy"][1], state["numpy"][1]) and logged.rng["torch"] == state["torch"]


def test_nothing_that_a_learner_looks_at_is_forgotten() -> None:
    """A new field of these is to be written, or named here as what a language model learns without."""
    left_out = {"hidden_BSD", "by_reward", "renders", "forward", "reference", "seconds"}
    stored = {"prompts", "group_size", "prompt_ids", "tokens_BT", "logprobs_BT", "seeds", "temperature", "version"}
    stored |= {"features", "mask_BT", "span", "total_B", "valid_B", "score_B", "step", "rollout", "scores", "metrics"}
    stored |= {"answers"}
    assert {one.name for kind in (Rollout, Scores, Experience) for one in dataclasses.fields(kind)} == left_out | stored


def test_a_picture_of_many_tokens_takes_two_bytes_a_token_and_four_a_log_prob(tmp_path: Path) -> None:
    given = an_experience(2, 128)
    tokens_BT = np.random.default_rng(0).integers(151_674, 217_210, (256, 729))
    rollout = replace(given.rollout, tokens_BT=tokens_BT, logprobs_BT=np.zeros(tokens_BT.shape, np.float32))
    log = ExperienceLog(tmp_path, PROMPTS)
    scores = Scores({}, *(np.zeros(256, kind) for kind in (np.float32, bool, np.float32)))
    log.write(replace(given, rollout=rollout, scores=scores), rng_state())
    size = (log.folder / "step-000000.npz").stat().st_size
    assert size < 256 * (729 * 6 + 64) + 40_000
    assert np.array_equal(log.read(0).experience.rollout.tokens_BT, tokens_BT)


def test_rows_without_a_gap_and_what_is_pruned(tmp_path: Path) -> None:
    log = a_log(tmp_path, 3, 4, 5, 7)
    assert (log.upto(3), log.upto(5), log.upto(6), log.upto(7)) == (6, 6, 6, 8)
    log.prune(5)
    assert sorted(path.name for path in log.folder.iterdir()) == ["step-000005.npz", "step-000007.npz"]
    log.discard()
    assert (list(log.folder.iterdir()), log.upto(5)) == ([], 5)
    ExperienceLog(tmp_path / "none", PROMPTS).discard()


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "swap"])
def test_a_damaged_file_is_named(harm: str, tmp_path: Path) -> None:
    log = a_log(tmp_path, 2, 3)
    path = log.folder / "step-000003.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    new = {"cut": content[:-200], "flip": content, "empty": b"", "swap": (log.folder / "step-000002.npz").read_bytes()}
    path.write_bytes(new[harm])
    with pytest.raises(
        UserError, match=r"experience/step-000003.npz: the experience of step 3 is damaged \(.+\); remo"
    ):
        log.read(3)
    log.read(2)


def test_prompts_that_are_gone_are_named(tmp_path: Path) -> None:
    a_log(tmp_path, 0)
    other = ExperienceLog(tmp_path, [PROMPTS[0], Prompt("q", "y")])
    with pytest.raises(UserError, match="data.train has no prompt 'p1', which step 0 has learnt from; put"):
        other.read(0)


def test_a_full_disk_is_a_sentence_and_leaves_the_steps_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = a_log(tmp_path, 0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(UserError) as caught:
        a_log(tmp_path, 1)
    assert str(caught.value) == (
        f"the disk is full: cannot write {log.folder / 'step-000001.npz'} (logging the experience of step 1); free "
        "some space and resume the run"
    )
    assert [path.name for path in log.folder.iterdir()] == ["step-000000.npz"]
