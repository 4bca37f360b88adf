"""``examples/blip3o_next/measure.py`` in small: every stage of the recipe is measured, on a CPU."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl.config.load import load

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_measures_every_stage_and_prints_both_tables(tmp_path: Path) -> None:
    command = [sys.executable, "examples/blip3o_next/measure.py", "--small", "--out", str(tmp_path / "measured.json")]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "measured.json").read_text())
    assert [one["trained"] for one in found["variants"]] == ["full", "lora"]
    measured = [one for one in found["variants"] if "left_out" not in one]
    assert len(measured) == (2 if importlib.util.find_spec("peft") else 1)
    for one in measured:
        assert len(one["steps"]) == 2 and one["pictures"] == 4
        stages = one["steps"][-1]["stages"]
        assert {"sample", "paint", "forward", "score", "update", "sync", "rest"} <= stages.keys()
        assert abs(sum(stages.values()) - one["steps"][-1]["seconds"]) < 0.1
        assert min(one["update_flop"], one["paint_flop"]) > 1e6 and one["peak_bytes"] > 1e6
    (decoding,) = found["decoding"]
    assert decoding["difference"] < 1e-2 and decoding["tokens_per_s"] > 0
    assert "| small, 64 px, full | 4 |" in done.stdout and "| small, 64 px, LoRA |" in done.stdout
    assert "| small | 4 |" in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("| small | 4 |")]
    assert float(row.split("|")[-3]) > 0  # milliseconds of the attention with a mask
    assert [path.name for path in tmp_path.iterdir()] == ["measured.json"]


def test_every_variant_is_a_sound_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "blip3o_next"))
    measure = importlib.import_module("measure")
    common = [*measure._WITHOUT_COST, "policy.path=shapes", "train.steps=2"]
    for small in ((), measure._SMALL):
        found = {
            name: load(measure.RECIPE, [*common, "data.prompts_per_step=4", *given, *small])
            for name, given in measure._TRAINED.items()
        }
        for loss in ("nft", "flow_grpo"):
            decoder = found[loss].trained_decoder
            assert decoder is not None and decoder.loss.use == loss and decoder.lora is not None
            assert found[loss].rollout.group_size * found[loss].render.renders == 16
        assert found["full"].trained_decoder is found["lora"].trained_decoder is None
