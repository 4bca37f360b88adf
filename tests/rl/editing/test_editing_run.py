"""A run on drawings and edits at once: one sampler, one trainer, one painter, each reward for its own prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.base import Policy
from policy.edit.__main__ import edit
from rl.config.load import load
from rl.preflight.prompts import check_data
from rl.types import UserError
from tests.policy.editing import editing_policy
from tests.rl.run_case import launch, metrics, write_config

_TAGS = ["two_object", "edit_move", "edit_add"]
_SHOWN = {"guard/copied", "guard/redrawn", "reward/geneval", "reward/edit", "detail/edit/executed", "detail/edit/kept"}
_DATA = {
    "train": {"use": "shapes", "options": {"split": "rl", "per_task": 4, "tags": _TAGS}},
    "eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 2, "tags": _TAGS}},
    "prompts_per_step": 6,
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return editing_policy(tmp_path_factory.mktemp("edits") / "policy", sees=True)


def test_drawings_and_edits_are_learnt_together(policy: Path, tmp_path: Path) -> None:
    rewards = {
        "ink": {"use": "tests.rl.run_case:ink"},
        "edit": {"use": "edit", "role": "monitor"},
        "geneval": {"use": "geneval", "role": "monitor"},
    }
    train = {"steps": 2, "lr": 1e-3, "warmup_steps": 0, "micro_batch": 5}
    done = launch(write_config(tmp_path, policy, data=_DATA, rewards=rewards, train=train))
    assert done.returncode == 0, done.stderr
    rows = [row for _, row in metrics(tmp_path / "run")]
    assert all(row["mismatch"] < 1e-5 and row["sync_mismatch"] < 1e-4 for row in rows)
    assert all(row.keys() >= _SHOWN for row in rows)
    assert all(row["failed_fraction"] == 0 and row["guard/copied"] == 0 for row in rows)
    trained = Policy.load(tmp_path / "run" / "policy")
    assert trained.decoder.reference is not None and trained.task_templates == {
        "edit": Policy.load(policy).task_templates["edit"]
    }
    prompt = next(one for one in check_data(load(tmp_path / "run" / "config.yaml"))[0] if one.pictures)
    assert edit(trained, prompt.pictures[0], prompt.text, count=2, seed=0, steps=1, guidance=1.5).shape == (
        2,
        64,
        64,
        3,
    )


def _checked(policy: Path, folder: Path, **changes: object) -> str:
    """What is wrong with the run, found before anything is loaded."""
    with pytest.raises(UserError) as caught:
        check_data(load(write_config(folder, policy, **changes)))
    return str(caught.value)


def test_what_cannot_be_edited_is_told_before_anything_is_loaded(
    policy: Path, tiny_policy: Path, tmp_path: Path
) -> None:
    told = _checked(tiny_policy, tmp_path, data=_DATA)
    assert "edit_move-0000'" in told and f"the policy '{tiny_policy}' reads text alone" in told
    sees = write_config(tmp_path, policy, data=_DATA, trainers=["decoder"], render={"renders": 2, "steps": 4})
    assert check_data(load(sees))  # its decoder is shown what is to be changed when it learns too
    lines = tmp_path / "edits.jsonl"
    lines.write_text(
        '{"prompt": "draw it"}\n' * 1 + '{"prompt": "make it red", "task": "edit"}\n{"prompt": "a"}\n{"prompt": "b"}'
    )
    data = {"train": {"use": "jsonl", "options": {"path": str(lines)}}, "prompts_per_step": 2}
    told = _checked(policy, tmp_path, data=data)
    assert f"'make it red', {lines}:2) is an instruction to edit" in told and "holds no picture" in told
    (tmp_path / "cat.png").write_text("none")
    lines.write_text('{"prompt": "a"}\n{"prompt": "make it red", "image": "cat.png"}\n{"prompt": "b"}')
    told = _checked(policy, tmp_path, data=data)
    assert f"{lines}:2: the picture '{tmp_path}/cat.png' can't be read" in told
