"""A supervised run through the real command: it learns, it goes on bit for bit, two ranks do the same, mistakes are
told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy.base import Policy
from policy.shapes import pretrain
from rl.config.load import load
from rl.data.shapes.questions.prompts import question_prompts
from rl.types import UserError
from tests.policy.reading import reading_policy
from tests.rl.run_case import launch, metrics, write_config

OPTIONS: dict[str, Any] = {
    "supervised": {"rows_per_step": 6, "losses": {"text": 0.2}, "heads": {"place": 16}},
    "train": {
        "steps": 5,
        "ema": 0.9,
        "lr": 1e-3,
        "warmup_steps": 2,
        "micro_batch": 4,
        "schedule": "cosine",
        "lr_end": 0.1,
    },
    "data": {"eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 1}}},
    "eval": {"every": 0, "grid": 4, "policy": "ema"},
    "checkpoint": {"every": 2, "keep": 4},
}


@pytest.fixture(scope="module")
def whole(tiny_policy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("supervised")
    done = launch(write_config(folder, tiny_policy, **OPTIONS))
    assert done.returncode == 0, done.stderr
    return folder


def test_it_learns_and_measures_by_the_same_rewards(whole: Path) -> None:
    found = metrics(whole / "run")
    assert [step for step, _ in found] == list(range(5))
    last = found[-1][1]
    assert {"ce_image", "ce_text", "flow", "head/place", "eval/ink/overall", "sync_mismatch"} <= last.keys()
    assert last["loss"] == pytest.approx(
        last["ce_image"] + 0.2 * last["ce_text"] + last["flow"] + 0.3 * last["head/place"], rel=1e-5
    )
    assert last["loss"] < found[0][1]["loss"] and last["sync_mismatch"] < 1e-4
    assert {"policy", "report.html", "evaluation-0.json", "evaluation-5.json"} <= {
        p.name for p in (whole / "run").iterdir()
    }


def test_the_exported_policy_is_the_slow_copy_of_all_that_learnt(whole: Path, tiny_policy: Path) -> None:
    from safetensors.torch import load_file

    for part in ("ar", "connector", "transformer"):
        [before], [after] = (
            (list((folder / part).glob("*.safetensors"))) for folder in (tiny_policy, whole / "run/policy")
        )
        old, new = load_file(before), load_file(after)
        assert old.keys() == new.keys() and any(not old[name].equal(new[name]) for name in old), part
    copies = load_file(whole / "run/checkpoints/step-000005/trainer/copies.safetensors")
    [connector] = (whole / "run/policy/connector").glob("*.safetensors")
    assert load_file(connector)["0.weight"].equal(copies["ema/connector.0.weight"])


def test_a_resume_repeats_the_run_bit_for_bit(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole / "run", run)
    for later in ("step-000004", "step-000005"):
        shutil.rmtree(run / "checkpoints" / later)
    shutil.rmtree(run / "policy")
    done = launch(run / "config.yaml", "--resume")
    assert done.returncode == 0, done.stderr
    assert metrics(run) == metrics(whole / "run")


@pytest.mark.slow
def test_two_ranks_with_adapters_do_what_one_does(tiny_policy: Path, tmp_path: Path) -> None:
    changes = {**OPTIONS, "train": {**OPTIONS["train"], "eps": 1e-5, "lora": {"rank": 4}, "zero_stage": 1}}
    found = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        done = launch(write_config(folder, tiny_policy, **changes), f"train.ranks={ranks}")
        assert done.returncode == 0, done.stderr
        assert (folder / "run/adapter/adapter_model.safetensors").is_file()
        found.append([row for _, row in metrics(folder / "run")])
    for one, two in zip(*found, strict=True):
        for name in ("loss", "ce_image", "ce_text", "flow", "head/place"):
            assert two[name] == pytest.approx(one[name], rel=2e-4), name
    one, two = (rows[-1]["eval/ink/overall"] for rows in found)
    assert two == pytest.approx(one, rel=1e-4)  # the slow copy paints on every rank


@pytest.mark.slow
def test_an_understanding_branch_learns_by_redrawing(tmp_path: Path) -> None:
    """By the settings of its stage, in few steps; what comes out is a policy that reads with it."""
    policy = reading_policy(tmp_path)
    stage = yaml.safe_load((Path(pretrain.__file__).parent / "understanding.yaml").read_text())
    learns = {**stage["supervised"], "rows_per_step": 6, "trained": ["understanding"]}
    losses = {"image": 0.0, "flow": 0.0, "reading": 1.0, "reconstruction": 1.0, "quantiser": 0.5}
    train = {"steps": 6, "lr": 2e-3, "warmup_steps": 1, "micro_batch": 4}
    config = write_config(
        tmp_path,
        policy,
        supervised={**learns, "losses": losses},
        train=train,
        data={"eval": None},
        eval={"every": 0},
        rewards={},
    )
    done = launch(config)
    assert done.returncode == 0, done.stderr
    found = [row for _, row in metrics(tmp_path / "run")]
    first, last = found[0], found[-1]
    assert last["loss"] == pytest.approx(last["reading"] + last["reconstruction"] + 0.5 * last["quantiser"], rel=1e-5)
    assert last["reading"] < first["reading"] and last["reconstruction"] < first["reconstruction"]
    before, after = Policy.load(policy), Policy.load(tmp_path / "run" / "policy")
    pixels = question_prompts("ask_shade", ["rl"], 1)[0].pictures[0].pixels[None].copy()
    assert after.reads == {"answer": "features"}
    assert not after.understanding.features(pixels).equal(before.understanding.features(pixels))
    assert all(
        value.equal(after.ar.state_dict()[name]) for name, value in before.ar.state_dict().items()
    )  # the language model stays


def complaint(folder: Path, policy: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(write_config(folder, policy, **{**OPTIONS, **changes}))
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "changes", "said"),
    [
        (
            "loop",
            {"use": "ahead"},
            "loop.use: is ahead, and a supervised run samples nothing that it could be ahead of",
        ),
        ("supervised", {"losses": {"image": 0, "flow": 0}}, "supervised.losses: image, text and flow are 0"),
        ("supervised", {"losses": {"flow": 0}, "trained": ["connector"]}, "of these only the flow tells anything"),
        (
            "supervised",
            {"examples": {"use": "shapse"}},
            "there is no 'shapse' among the examples, did you mean 'shapes'?",
        ),
        ("supervised", {"heads": {"place": 16}, "losses": {"heads": 0}}, "supervised.losses.heads: is 0"),
        (
            "supervised",
            {"trained": ["ar", "understanding.encoder"]},
            "supervised.trained: holds 'understanding.encoder', which changes the codes that losses.image teaches to "
            "write; train understanding.continuous alone beside it, or set supervised.losses.image to 0",
        ),
        (
            "supervised",
            {"losses": {"reading": 1.0}},
            "supervised.losses: reconstruction, reading and quantiser are for an understanding branch that learns",
        ),
        ("train", {"ranks": 7}, "train.ranks: 7 ranks can't share the 6 rows of a step"),
        (
            "train",
            {"zero_stage": 3},
            "train.zero_stage: 3 cuts the weights up, and a slow copy of them (train.ema) needs the whole; use stage 2",
        ),
        (
            "supervised",
            {"features": 0.5, "_train": {"zero_stage": 3}},
            "train.zero_stage: 3 cuts the weights up, those of the understanding branch too, with which the first rank "
            "reads the rows' pictures alone; use stage 2",
        ),
        (
            "supervised",
            {"trained": ["ar", "connector"], "decoder_lora": {"rank": 4}},
            "supervised.decoder_lora: its adapters are the transformer's, and supervised.trained is ['ar', "
            "'connector']",
        ),
        ("train", {"updates_per_rollout": 2}, "train.updates_per_rollout: is 2, and a supervised step is one update"),
        (
            "supervised",
            {"trained": ["vae"], "_train": {"micro_batch": "auto"}},
            "train.micro_batch: auto goes by an estimate of the memory, and there is none where an autoencoder",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(
    section: str, changes: dict[str, Any], said: str, tiny_policy: Path, tmp_path: Path
) -> None:
    changes = dict(changes)
    train = {"train": {**OPTIONS["train"], **more}} if (more := changes.pop("_train", None)) else {}
    assert said in complaint(tmp_path, tiny_policy, **{section: {**OPTIONS.get(section, {}), **changes}}, **train)


def test_what_speaks_of_rewards_alone_is_told_to_have_no_effect(tiny_policy: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "a red circle", "image": "a.png"}) + "\n")
    config = write_config(tmp_path, tiny_policy, **OPTIONS, rollout={"group_size": 4})
    done = launch(config, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "rollout.group_size" in done.stderr and "without effect, for a run with supervised:" in done.stderr
