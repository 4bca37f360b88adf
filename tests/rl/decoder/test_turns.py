"""Networks that take turns, told apart at the evaluations, and gone on with after a kill."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from rl.evaluation.parts import PartView, load_last_parts, load_parts
from tests.rl.decoder.decoder_case import DECODER
from tests.rl.run_case import ROOT, launch, metrics, write_config

KILLED = (str(ROOT / "tests" / "rl" / "run_folder" / "killed_launch.py"),)
TURNS: dict[str, Any] = {
    **DECODER,
    "trainers": ["ar", "decoder"],
    "data": {**DECODER["data"], "eval": {"use": "shapes", "options": {"split": "heldout", "per_task": 2}}},
    "schedule": {"order": "alternate", "ar": {"steps": 2, "group_size": 3}, "decoder": {"group_size": 1, "renders": 4}},
    "decoder": {**DECODER["decoder"], "ema": 0.5},
    "eval": {"every": 2, "parts": 4, "grid": 0},
}


@pytest.mark.slow
def test_turns_and_views_are_the_same_after_a_kill(tiny_policy: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    done = launch(write_config(whole, tiny_policy, **TURNS))
    assert done.returncode == 0, done.stderr
    rows = [row for _, row in metrics(whole / "run")]
    assert [row["images"] for row in rows] == [18, 18, 12, 18, 18]  # 3 prompts x 3 x 2, or x 1 x 4
    learnt = [("grad_norm" in row, "decoder/grad_norm" in row) for row in rows]
    assert learnt == [(True, False), (True, False), (False, True), (True, False), (True, False)]
    assert [(row["learns/ar"], row["learns/decoder"]) for row in rows] == [(float(a), float(b)) for a, b in learnt]
    assert "step 2/5  ar learnt" in done.stdout and "step 3/5  decoder learnt" in done.stdout
    assert ["zero_std_fraction" in row for row in rows] == [True, True, False, True, True]
    assert ["var/unlike_renders" in row for row in rows] == [True] * 5

    first = load_parts(whole / "run" / "parts-0.json").views
    assert list(first) == [PartView("base", "base", 4), PartView("base", "base", 8)]
    last = load_last_parts(whole / "run")
    assert last is not None and last.step == 5
    assert set(last.views) == {
        *first,
        PartView("now", "now", 4),
        PartView("now", "now", 8),
        PartView("now", "ema", 4),
        PartView("base", "now", 4),
        PartView("now", "base", 4),
    }
    values = {view: [one.value for one in found.outcomes] for view, found in last.views.items()}
    assert all(len(found) == 4 for found in values.values())
    assert len({tuple(found) for found in values.values()}) == 7  # no two cells are the same
    assert "parts/ink/ar_now-decoder_base-steps_4" in rows[-1]
    assert "ink, parts at step 5" in done.stdout
    page = (whole / "run" / "report.html").read_text()
    assert "What each network has brought, at step 5" in page
    assert "the 1 of 5 steps in which the decoder learnt" in page

    config = write_config(broken, tiny_policy, **TURNS)
    assert launch("step", config, program=KILLED).returncode == -signal.SIGKILL
    resumed = launch(config, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert metrics(broken / "run") == metrics(whole / "run")
    assert json.loads((broken / "run" / "parts-5.json").read_text()) == json.loads(
        (whole / "run" / "parts-5.json").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"zero_stage": 3, "ema": None}], ids=["whole weights", "cut weights"])
def test_two_ranks_see_the_cells_that_one_sees(changes: dict[str, Any], tiny_policy: Path, tmp_path: Path) -> None:
    seen = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        folder.mkdir()
        sections = {**TURNS, "decoder": {**TURNS["decoder"], **changes}}
        done = launch(write_config(folder, tiny_policy, **sections), f"train.ranks={ranks}", "train.steps=4")
        assert done.returncode == 0, done.stderr
        row = metrics(folder / "run")[-1][1]
        seen.append({name: value for name, value in row.items() if name.startswith("parts/")})
    one, two = seen
    assert len(one) == (6 if changes else 7) and len(set(one.values())) == len(one)
    apart = {name: abs(value - one["parts/ink/ar_now-decoder_now-steps_4"]) for name, value in one.items()}
    assert apart["parts/ink/ar_now-decoder_base-steps_4"] > 1e-3  # or the comparison would show nothing
    assert two == pytest.approx(one, abs=1e-5)
