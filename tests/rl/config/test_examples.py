"""Every configuration file in the repository loads."""

from __future__ import annotations

from pathlib import Path

import pytest

import rl
from rl.config.load import dump, load
from rl.config.schema import Config
from rl.config.values import AUTO
from rl.launch import main
from rl.sweep.plan import plan

ROOT = Path(rl.__file__).parent.parent
ABLATIONS = sorted((ROOT / "examples" / "ablations").glob("*.yaml"))
EXAMPLES = sorted(set((ROOT / "examples").rglob("*.yaml")) - set(ABLATIONS))
PARTS = sorted((ROOT / "configs").rglob("*.yaml"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_they_were_found() -> None:
    assert {"examples/geneval.yaml", "examples/ocr.yaml"} <= set(map(named, EXAMPLES))
    assert {"configs/base.yaml", "configs/algo/dapo.yaml", "configs/hardware/gpu.yaml"} <= set(map(named, PARTS))


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_example_loads_and_survives_a_dump(path: Path, tmp_path: Path) -> None:
    config = load(path)
    assert str(config.run.folder).startswith("runs/")
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load(tmp_path / "config.yaml") == config
    assert path.read_text().startswith("#")
    assert f"python -m rl.launch {named(path)}" in path.read_text()


@pytest.mark.parametrize("path", ABLATIONS, ids=named)
def test_ablation_can_be_planned(path: Path, tmp_path: Path) -> None:
    found = plan(path, [], tmp_path)
    assert len(found.arms) > 1 and len(found.seeds) == 3
    assert path.read_text().startswith("#")
    assert f"python -m rl.sweep {named(path)}" in path.read_text()


def test_no_two_examples_write_into_one_folder() -> None:
    folders = [load(path).run.folder for path in EXAMPLES]
    assert len(set(folders)) == len(EXAMPLES)


@pytest.mark.parametrize(
    ("name", "batch", "rate", "steps", "rewards"),
    [("geneval", (16, 16), 5e-6, 400, ["geneval"]), ("ocr", (32, 16), 1e-6, 900, ["ocr"])],
)
def test_recipes_of_blip3o_next_are_the_published_ones(
    name: str, batch: tuple[int, int], rate: float, steps: int, rewards: list[str]
) -> None:
    config = load(ROOT / "examples" / "blip3o_next" / f"{name}.yaml")
    assert (config.data.prompts_per_step, config.rollout.group_size) == batch
    assert (config.train.lr, config.train.steps, config.train.zero_stage) == (rate, steps, 1)
    assert config.kl is not None and (config.kl.use, config.kl.options) == ("k3", {"beta": 0.001})
    assert config.loss.options == {"clip_low": 0.2, "clip_high": 0.2} and config.train.updates_per_rollout == 1
    assert (config.rollout.temperature, config.rollout.top_p, config.rollout.top_k) == (1.0, 1.0, 0)
    assert (config.render.steps, config.render.guidance, config.train.weight_decay) == (30, 2.0, 0.0)
    assert list(config.rewards) == rewards


def test_adapters_on_one_gpu_take_the_published_recipe_but_for_their_rate() -> None:
    recipe, config = (load(ROOT / "examples/blip3o_next" / f"{name}.yaml") for name in ("geneval", "lora"))
    assert config.train.lora is not None and (config.train.ranks, config.rollout.sleep) == (1, 1)
    assert config.train.gradient_checkpointing and config.train.micro_batch == AUTO
    for one in ("data", "kl", "loss", "rewards", "advantage", "eval"):
        assert getattr(config, one) == getattr(recipe, one)


def test_without_the_model_a_recipe_says_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(ROOT / "examples/blip3o_next/geneval.yaml"), "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: policy.path: 'BLIP3o/BLIP3o-NEXT-SFT-3B' is no folder here, and the Hugging Face hub can't be asked "
        "for it now (HF_HUB_OFFLINE is set); with a network type `hf download BLIP3o/BLIP3o-NEXT-SFT-3B`, or give a "
        "folder. (policy.path: "
    )


@pytest.mark.parametrize("path", PARTS, ids=named)
def test_part_composes(path: Path, tmp_path: Path) -> None:
    reward = ROOT / "configs" / "rewards" / "geneval.yaml"
    run = tmp_path / "run.yaml"
    run.write_text(f"extends:\n  - {ROOT / 'configs' / 'base.yaml'}\n  - {reward}\n  - {path}\n")
    load(run)
    assert path.read_text().startswith("#")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("grpo", ("grpo", "grpo", "token_mean", "k3")),
        ("dapo", ("grpo", "dapo", "token_mean", None)),
        ("dr_grpo", ("dr_grpo", "grpo", "constant", None)),
        ("rloo", ("rloo", "reinforce", "sequence_mean", "k3")),
        ("gdpo", ("batch_norm", "grpo", "token_mean", "k3")),
        ("gspo", ("grpo", "gspo", "sequence_mean", None)),
        ("cispo", ("grpo", "cispo", "token_mean", None)),
        ("sapo", ("grpo", "sapo", "sequence_mean", None)),
        ("max_rl", ("max_rl", "grpo", "token_mean", None)),
        ("icepop", ("grpo", "grpo", "sequence_mean", "k3")),
        ("prorl", ("grpo", "dapo", "token_mean", "k3")),
        ("skywork_or1", ("grpo", "grpo", "token_mean", None)),
    ],
)
def test_algorithms_are_those_of_their_papers(name: str, parts: tuple[str | None, ...], tmp_path: Path) -> None:
    config = with_algorithm(name, tmp_path)
    found = (config.advantage.use, config.loss.use, config.aggregation.use, config.kl.use if config.kl else None)
    assert found == parts


def test_what_three_of_them_have_beside_these(tmp_path: Path) -> None:
    correction = with_algorithm("icepop", tmp_path).correction
    assert correction is not None and correction.use == "token_mis"
    assert with_algorithm("prorl", tmp_path).kl_reference.use == "refreshed"
    entropy = with_algorithm("skywork_or1", tmp_path).entropy
    assert entropy is not None and entropy.options["goal"] == 0.2
    assert with_algorithm("grpo", tmp_path).kl_reference.use == "fixed"
    assert with_algorithm("grpo", tmp_path).entropy is None


def test_every_algorithm_is_compared_with_its_paper() -> None:
    """A new file in configs/algo needs a line above."""
    (listed,) = [mark for mark in test_algorithms_are_those_of_their_papers.pytestmark if mark.name == "parametrize"]
    assert {name for name, _ in listed.args[1]} == {path.stem for path in (ROOT / "configs" / "algo").glob("*.yaml")}


def with_algorithm(name: str, folder: Path) -> Config:
    run = folder / "run.yaml"
    run.write_text(f"extends: {ROOT / 'configs' / 'algo' / name}.yaml\nrewards: {{geneval: geneval}}\n")
    return load(run)
