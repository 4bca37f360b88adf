"""What each network has brought: kept, read again, and laid out as a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.evaluation.parts import (
    PartsEvaluation,
    PartView,
    load_last_parts,
    load_parts,
    only,
    save_parts,
    tables,
)
from rl.evaluation.results import Evaluation, Outcome
from rl.types import UserError


def found(*values: float) -> Evaluation:
    outcomes = [Outcome("ink", "t", f"p{place}", 7, value, None, {"n": 1}) for place, value in enumerate(values)]
    return Evaluation(4, tuple(outcomes))


JOINT = PartsEvaluation(
    4,
    {
        PartView("base", "base", 4): found(0, 0, 0, 1),
        PartView("base", "base", 8): found(0, 0, 0, 0),
        PartView("now", "now", 4): found(1, 1, 1, 1),
        PartView("now", "ema", 4): found(1, 1, 1, 0),
        PartView("base", "now", 4): found(0, 0, 1, 1),
    },
)


def test_a_line_per_decoder_and_a_column_per_language_model() -> None:
    [table] = tables(JOINT)
    assert (table.reward, table.columns) == ("ink", ["language model base", "language model now"])
    means = [(name, [cell and cell.mean for cell in cells]) for name, cells in table.lines]
    assert means == [
        ("decoder base, 4 steps", [0.25, None]),
        ("decoder now, 4 steps", [0.5, 1.0]),
        ("decoder ema, 4 steps", [None, 0.75]),
        ("decoder base, 8 steps", [0.0, None]),
    ]


def test_a_decoder_alone_has_one_column_and_names_no_steps_where_all_are_the_same() -> None:
    alone = {PartView("base", "base", 4): found(0, 1), PartView("base", "now", 4): found(1, 1)}
    [table] = tables(PartsEvaluation(4, alone))
    assert table.columns == ["language model base"]
    assert [name for name, _ in table.lines] == ["decoder base", "decoder now"]


def test_for_the_log() -> None:
    assert JOINT.flat()["parts/ink/ar_base-decoder_now-steps_4"] == 0.5
    assert len(JOINT.flat()) == 5
    finer = Evaluation(4, (Outcome("details", "t", "p", 7, 0.0, graded=0.75),))
    assert PartsEvaluation(4, {PartView("now", "now", 4): finer}).flat() == {
        "parts/details/ar_now-decoder_now-steps_4": 0.0,
        "parts_graded/details/ar_now-decoder_now-steps_4": 0.75,
    }
    dead = Evaluation(4, (Outcome("ink", "t", "p", 7, None, "died"),))
    assert PartsEvaluation(4, {PartView("now", "now", 4): dead}).flat() == {}


def test_what_is_saved_is_read_and_the_last_is_by_its_number(tmp_path: Path) -> None:
    assert load_last_parts(tmp_path) is None
    for step in (4, 25, 100):
        save_parts(PartsEvaluation(step, JOINT.views), tmp_path)
    last = load_last_parts(tmp_path)
    assert last is not None and last.step == 100
    assert last.flat() == JOINT.flat()
    (tmp_path / "parts-101.json").write_text("{}")
    with pytest.raises(UserError) as caught:
        load_last_parts(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/parts-101.json tells nothing of a run's parts ('step'); run the evaluation again"
    )
    assert load_parts(tmp_path / "parts-25.json").views.keys() == JOINT.views.keys()


def test_only_some_prompts_without_details() -> None:
    some = only(found(0, 1, 1), {"p0", "p2"})
    assert [(one.prompt_id, one.value, one.details) for one in some.outcomes] == [("p0", 0, {}), ("p2", 1, {})]
