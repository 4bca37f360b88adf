"""The estimate beside the peak of real runs: within 15 % at three sizes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rl.memory.__main__ import main
from rl.memory.cases import CASES
from rl.memory.measure import MeasuredMemory, measure, table


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        "embedded",
        pytest.param("100M", marks=pytest.mark.slow),
        pytest.param("100M-bf16", marks=pytest.mark.slow),
        pytest.param("300M", marks=pytest.mark.slow),
    ],
)
def test_the_estimate_is_near_the_peak(name: str) -> None:
    found = measure(CASES[name], [])
    assert abs(found.off) < 0.15, found


def test_the_table() -> None:
    row = table([MeasuredMemory("a", 4_000_000_000, "step", 3_200_000_000)]).splitlines()[-1]
    assert row == "| a | 4.00 GB | step | 3.20 GB | +25% |"


def test_a_case_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["300m"]) == 2
    assert "there is no case '300m'" in capsys.readouterr().err


def test_the_readme_has_a_row_for_each_case_within_15_percent() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    table_there = readme.split("<!-- memory -->\n")[1].split("<!-- /memory -->")[0]
    rows = re.findall(r"^\| ([\w-]+) \| [\d.]+ GB \| \w+ \| [\d.]+ GB \| ([+-]\d+)% \|$", table_there, re.MULTILINE)
    assert [name for name, _ in rows] == list(CASES)
    assert all(abs(int(off)) <= 15 for _, off in rows)
