"""cluster.jsonl, as it is found after kills and resumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.run_folder.usage import USAGE_FILE, CallSpan, UsageRow, append_usage, read_usage
from rl.types import UserError


def a_row(step: int, seconds: float = 2.0) -> UsageRow:
    calls = [CallSpan("sampler-0", step, 1.0, 2.0)]
    return UsageRow(step, 2, None, seconds, 0.5, {"sample": 1.0}, {"sample": 1}, {"sample": 4}, {"deaths": 0}, calls)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert read_usage(tmp_path) == []
    for step in range(3):
        append_usage(tmp_path, a_row(step))
    assert read_usage(tmp_path) == [a_row(step) for step in range(3)]
    assert a_row(0).shares == {"sample": 0.5, "trainer": 0.75}


def test_steps_that_a_resume_repeats_count_once(tmp_path: Path) -> None:
    for step, seconds in [(0, 1.0), (1, 1.0), (2, 1.0), (1, 9.0)]:
        append_usage(tmp_path, a_row(step, seconds))
    with (tmp_path / USAGE_FILE).open("a") as file:
        file.write('{"step": 2, "stal')  # killed in the middle of a write
    assert read_usage(tmp_path) == [a_row(0, 1.0), a_row(1, 9.0)]


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    append_usage(tmp_path, a_row(0))
    with (tmp_path / USAGE_FILE).open("a") as file:
        file.write('{"step": 1}\n')
    with pytest.raises(UserError) as caught:
        read_usage(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / USAGE_FILE}:2 is not a line about a step's workers ('calls'); remove the line"
    )
