"""Which configuration a run goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rl.config.load import dump, load
from rl.launch import main
from rl.run_folder.claim import CONFIG_FILE, write_configuration
from rl.run_folder.resume import Resumed, resumed
from rl.types import UserError

GENEVAL = Path(__file__).parents[3] / "examples" / "geneval.yaml"


def begun(folder: Path, *overrides: str) -> None:
    write_configuration(load(GENEVAL, [f"run.folder={folder}", *overrides]), folder)


def again(folder: Path, *overrides: str) -> Resumed:
    return resumed(folder, load(GENEVAL, [f"run.folder={folder}", *overrides]), overrides)


def test_overrides_of_the_first_start_need_not_be_repeated(tmp_path: Path) -> None:
    begun(tmp_path, "train.lr=3e-3", "loss=dapo", "kl=null")
    found = again(tmp_path)
    assert found.config == load(tmp_path / CONFIG_FILE)
    assert (found.config.train.lr, found.config.loss.use, found.config.kl) == (3e-3, "dapo", None)
    assert list(found.changed) == []
    assert [str(one) for one in found.ignored] == [
        "kl (was null, now k3)",
        "loss.use (was dapo, now grpo)",
        "train.lr (was 0.003, now 0.002)",
    ]


def test_repeated_overrides_are_as_good(tmp_path: Path) -> None:
    overrides = ("train.lr=1e-3", "loss=dapo", "loss.options.clip_high=0.3", "kl=null", "rewards.geneval.weight=2")
    begun(tmp_path, *overrides)
    found = again(tmp_path, *overrides)
    assert (list(found.changed), list(found.ignored)) == ([], [])
    part = again(tmp_path, "loss=dapo", "kl=null")  # the name alone says nothing of the option
    assert part.config.loss.options == {"clip_high": 0.3}


def test_auto_is_what_the_first_start_has_found(tmp_path: Path) -> None:
    begun(tmp_path, "train.micro_batch=24", "render.micro_batch=48")
    found = again(tmp_path, "train.micro_batch=auto", "render.micro_batch=auto")
    assert (list(found.changed), list(found.ignored)) == ([], [])
    assert (found.config.train.micro_batch, found.config.render.micro_batch) == (24, 48)
    less = again(tmp_path, "train.micro_batch=8")  # where the memory did not suffice
    assert [str(one) for one in less.changed] == ["train.micro_batch (was 24, now 8)"]
    assert (less.config.train.micro_batch, less.config.render.micro_batch) == (8, 48)


def test_what_may_change_is_changed(tmp_path: Path) -> None:
    begun(tmp_path, "train.steps=50", "train.lr=1e-3")
    found = again(tmp_path, "train.steps=80", "checkpoint.every=7")
    assert (found.config.train.steps, found.config.checkpoint.every, found.config.train.lr) == (80, 7, 1e-3)
    assert [str(one) for one in found.changed] == [
        "train.steps (was 50, now 80)",
        f"checkpoint.every (was {load(GENEVAL).checkpoint.every}, now 7)",
    ]


def test_what_would_make_another_run_is_named_without_artefacts(tmp_path: Path) -> None:
    begun(tmp_path)
    for override, said in [
        ("train.lr=3e-3", "differ: train.lr (was 0.002, now 0.003); leave them out to resume"),
        ("kl=null", "differ: kl (was k3, now null);"),
        ("loss=dapo", "differ: loss.use (was grpo, now dapo);"),
        ("rewards.geneval.options.grading=graded", "differ: rewards.geneval.options.grading (was "),
    ]:
        with pytest.raises(UserError) as caught:
            again(tmp_path, override)
        assert said in str(caught.value)
        assert "None" not in str(caught.value) and "{}" not in str(caught.value)


def test_all_of_them_are_counted(tmp_path: Path) -> None:
    begun(tmp_path)
    wrong = ["train.lr=1", "train.eps=1e-3", "train.grad_clip=9", "rollout.group_size=3", "rollout.temperature=0.5"]
    with pytest.raises(UserError) as caught:
        again(tmp_path, *wrong, "data.prompts_per_step=3", "run.seed=7", "train.steps=400")
    assert "rollout.temperature (was 1.0, now 0.5) and 2 more; leave them out" in str(caught.value)
    assert "train.steps (" not in str(caught.value)


def test_a_run_begun_before_a_key_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    config = load(GENEVAL, [f"run.folder={tmp_path}"])
    older = yaml.safe_load(dump(config))
    del older["terms"], older["render"]["sampler"]
    (tmp_path / CONFIG_FILE).write_text(yaml.safe_dump(older))
    assert again(tmp_path).config == config


def test_a_run_that_was_moved_goes_on_where_it_is_now(tmp_path: Path) -> None:
    begun(tmp_path)
    text = (tmp_path / CONFIG_FILE).read_text()
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / CONFIG_FILE).write_text(text)
    assert resumed(tmp_path / "moved", load(GENEVAL), []).config.run.folder == str(tmp_path / "moved")


JOINT = ("render.renders=2", "render.steps=4", "rewards.words={use: ocr, part: decoder}", "decoder.lr=1e-3")


@pytest.mark.parametrize(
    ("was", "now", "more"),
    [("[ar, decoder]", "[ar]", JOINT), ("[ar, decoder]", "[decoder]", JOINT), ("[ar]", "[ar, decoder]", ())],
)
def test_other_trainers_are_one_sentence(
    was: str, now: str, more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Although what is typed would break rules of its own: it is not run."""
    begun(tmp_path, f"trainers={was}", *more)
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    assert main([str(tmp_path / CONFIG_FILE), "--resume", f"trainers={now}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {tmp_path / CONFIG_FILE}: a resumed run must keep its configuration, but these keys differ: trainers "
        f"(was {was}, now {now}); leave them out to resume, or start a new run in another run.folder (only "
    )
    assert said.count("\n") == 1


def test_a_start_that_did_nothing_is_checked_as_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun(tmp_path)
    assert main([str(tmp_path / CONFIG_FILE), "--resume", "trainers=[ar, decoder]", "render.steps=4"]) == 2
    assert "render.renders: is 1, and a picture teaches the decoder by its difference" in capsys.readouterr().err
