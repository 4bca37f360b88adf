"""The card says what the run was and what was measured, in anybody's words as they are, and nothing private."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import metadata_load

from policy.base import Policy
from rl.card.card import cell, write_card
from rl.card.front_matter import hub_name
from rl.card.public import public
from rl.config.load import dump, load
from rl.run_folder.records import Alarm
from rl.types import UserError
from tests.rl.synthetic_run import write_run

ROOT = Path(__file__).parents[3]
GENEVAL = ROOT / "examples" / "geneval.yaml"


def a_run(folder: Path, *overrides: str) -> Path:
    write_run(folder, steps=3, per_task=4)
    (folder / "config.yaml").write_text(dump(load(GENEVAL, overrides)))
    (folder / "policy").mkdir()
    return folder


def test_it_is_made_from_the_run(tmp_path: Path) -> None:
    run = a_run(tmp_path / "drawing", "rewards.geneval.weight=0.5", "run.seed=7")
    text = write_card(run).read_text()
    head = metadata_load(run / "policy" / "README.md")
    assert head is not None
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == ("apache-2.0", "easel-rl", "text-to-image")
    assert head["model-index"][0]["results"][0]["metrics"][0]["type"] == "geneval"
    assert "base_model" not in head
    assert "# drawing\n" in text and "starting from the embedded model `shapes`" in text
    rows = [line for line in text.splitlines() if line.startswith("| geneval | ")]
    assert len(rows) == 8  # six tasks, overall, and the reward itself
    assert rows[-1] == "| geneval | `geneval` | train | 0.5 | {detector: shapes, grading: strict} |"
    assert {path.name for path in (run / "policy").iterdir()} == {"README.md", "before.png", "after-3-steps.png"}
    assert (run / "policy" / "before.png").read_bytes() == (run / "evaluation-0.png").read_bytes()
    assert "![before](before.png)" in text and "(`run.seed` 7)" in text


def test_its_configuration_runs_again(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "kl=null", "run.folder=some/where")
    text = write_card(run).read_text()
    (tmp_path / "again.yaml").write_text(text.partition("```yaml\n")[2].partition("\n```")[0])
    assert load(tmp_path / "again.yaml") == load(run / "config.yaml")


def test_its_decoder_is_loaded_by_diffusers_as_it_says_and_paints_the_same(tiny_policy: Path, tmp_path: Path) -> None:
    text = write_card(a_run(tmp_path / "run")).read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {"FOLDER": str(tiny_policy)}
    exec(code, names)
    pipeline = names["decoder"]
    pipeline.set_progress_bar_config(disable=True)
    ours = Policy.load(tiny_policy).decoder
    hidden_BSD = torch.randn(2, 17, ours.connector[0].in_features, generator=torch.Generator().manual_seed(0))
    painted = pipeline(
        negative_prompt=None,
        prompt_embeds=ours.connector(hidden_BSD),
        prompt_attention_mask=torch.ones(2, 17),
        latents=ours.noise([1, 2]),
        sigmas=[1.0, 0.5],
        guidance_scale=1.0,
        height=64,
        width=64,
        use_resolution_binning=False,
        output_type="np",
    ).images
    expected = ours.paint(hidden_BSD, [1, 2], steps=2)
    assert np.abs((painted * 255).round() - expected).max() <= 1


def test_alarms_failures_and_a_missing_licence_are_its_limits(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", "policy.path=/some/body/base")
    rows = (run / "metrics.jsonl").read_text().splitlines()
    alarm = Alarm("a", 1, 0.0, 1.0, "darkness | rose")
    changed = rows[1].replace('"alarms": []', f'"alarms": [{yaml.safe_dump(vars(alarm), default_flow_style=True)}]')
    changed = yaml.safe_load(changed)
    changed["metrics"]["failed/geneval"] = 3.0
    (run / "metrics.jsonl").write_text("\n".join([rows[0], json.dumps(changed), rows[2]]) + "\n")
    text = write_card(run).read_text()
    assert "- Alarm while training: darkness \\| rose\n" in text
    assert "left out of every mean: geneval 3.\n" in text
    assert "- No licence is known" in text
    assert "/some/body" not in text and "the policy `base`" in text


def test_without_evaluations_it_says_so(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run")
    for file in run.glob("evaluation-*"):
        file.unlink()
    text = write_card(run).read_text()
    assert "It was not evaluated." in text and "model-index" not in text
    (run / "policy").rename(run / "elsewhere")
    with pytest.raises(UserError, match="has no policy/ yet: the run has not come to its end"):
        write_card(run)


def test_words_stay_as_they_are_in_a_table() -> None:
    assert cell("a|b\n<i>`x`") == "a\\|b &lt;i>\\`x\\`"


def test_nothing_private_is_shown() -> None:
    tree = {
        "path": "/home/me/prompts.jsonl",
        "near": "data/prompts.jsonl",
        "cache": "~/scores",
        "url": "http://me:pass@host:80/v1",
        "api_key": "k",
        "tokens": "many",
        "use": "token_mean",
        "list": ["/a/b", 3, None],
    }
    assert public(tree) == {
        "path": ".../prompts.jsonl",
        "near": "data/prompts.jsonl",
        "cache": ".../scores",
        "url": "http://host:80/v1",
        "api_key": "(left out)",
        "tokens": "many",
        "use": "token_mean",
        "list": [".../b", 3, None],
    }


def test_a_base_from_the_hubs_cache_is_named() -> None:
    assert hub_name(Path("/c/hub/models--me--tiny-model/snapshots/0a1b")) == "me/tiny-model"
    assert hub_name(Path("/c/hub/mine")) is None
