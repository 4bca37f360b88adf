"""The estimate beside the peak of real runs: within 15 % at three sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.memory.__main__ import main
from rl.memory.cases import CASES
from rl.memory.figures import read, record
from rl.memory.measure import MeasuredMemory, measure, table


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "name",
    [
        "embedded",
        pytest.param("100M", marks=pytest.mark.slow),
        pytest.param("100M-bf16", marks=pytest.mark.slow),
        pytest.param("300M", marks=pytest.mark.slow),
        pytest.param("100M-supervised", marks=pytest.mark.slow),
        pytest.param("100M-supervised-LoRA", marks=pytest.mark.slow),
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


def test_figures_cannot_be_kept_of_other_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["100M", "train.lora={}", "--record"]) == 2
    assert "--record keeps the figures of the cases as they are: leave train.lora={} out" in capsys.readouterr().err


def test_what_is_measured_anew_takes_the_place_of_what_was_kept(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("[]")
    old, new = (MeasuredMemory("100M", 4, "step", found) for found in (5, 6))
    embedded = MeasuredMemory("embedded", 1, "update", 1)
    record([old], path)
    record([new, embedded], path)
    assert read(path) == [embedded, new]


def test_the_readme_shows_the_recorded_figures_of_each_case() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    shown = readme.split("<!-- memory -->\n")[1].split("\n<!-- /memory -->")[0]
    assert shown == table(read())
    assert [one.case for one in read()] == list(CASES)
    assert all(abs(one.off) < 0.15 for one in read())
