"""Which configuration a run goes on with."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rl.config.load import dump, load
from rl.run_folder.claim import CONFIG_FILE, claim_folder
from rl.types import UserError

GENEVAL = Path(__file__).parents[3] / "examples" / "geneval.yaml"


def test_a_run_begun_before_a_key_existed_goes_on_with_its_default(tmp_path: Path) -> None:
    config = load(GENEVAL, [f"run.folder={tmp_path}"])
    older = yaml.safe_load(dump(config))
    del older["terms"], older["render"]["sampler"]
    (tmp_path / CONFIG_FILE).write_text(yaml.safe_dump(older))
    claim_folder(config, tmp_path, resume=True)
    assert (tmp_path / CONFIG_FILE).read_text() == dump(config)


def test_a_key_that_makes_another_run_is_named(tmp_path: Path) -> None:
    claim_folder(load(GENEVAL, [f"run.folder={tmp_path}"]), tmp_path, resume=False)
    for override, said in [
        ("train.lr=1e-3", "train.lr (was 0.0005, now 0.001)"),
        ("kl=null", "kl.options.beta (was 0.005, now None), kl.use (was k3, now None)"),
    ]:
        with pytest.raises(UserError) as caught:
            claim_folder(load(GENEVAL, [f"run.folder={tmp_path}", override]), tmp_path, resume=True)
        assert said in str(caught.value)
    claim_folder(load(GENEVAL, [f"run.folder={tmp_path}", "train.steps=300"]), tmp_path, resume=True)
