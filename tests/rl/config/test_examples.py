"""Every configuration file in the repository loads."""

from __future__ import annotations

from pathlib import Path

import pytest

import rl
from rl.config.load import dump, load

ROOT = Path(rl.__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").rglob("*.yaml"))
PARTS = sorted((ROOT / "configs").rglob("*.yaml"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_they_were_found() -> None:
    assert {"examples/geneval.yaml", "examples/ocr.yaml"} <= set(map(named, EXAMPLES))
    assert {"configs/base.yaml", "configs/algo/dapo.yaml", "configs/hardware/gpu.yaml"} <= set(map(named, PARTS))


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_example_loads_and_survives_a_dump(path: Path, tmp_path: Path) -> None:
    config = load(path)
    assert config.run.folder == f"runs/{path.stem}"
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load(tmp_path / "config.yaml") == config
    assert path.read_text().startswith("#")
    assert f"python -m rl.launch {named(path)}" in path.read_text()


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
    ],
)
def test_algorithms_are_those_of_their_papers(name: str, parts: tuple[str | None, ...], tmp_path: Path) -> None:
    run = tmp_path / "run.yaml"
    run.write_text(f"extends: {ROOT / 'configs' / 'algo' / name}.yaml\nrewards: {{geneval: geneval}}\n")
    config = load(run)
    found = (config.advantage.use, config.loss.use, config.aggregation.use, config.kl.use if config.kl else None)
    assert found == parts
