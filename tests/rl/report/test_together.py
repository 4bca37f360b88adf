from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.report.__main__ import main
from rl.report.chart import line_chart
from rl.report.page import write_report
from rl.report.template import template_environment
from rl.report.together import write_together
from rl.types import UserError
from tests.chromium import PROGRAM, Browser
from tests.rl.synthetic_run import write_run

with_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    slow = write_run(folder / "slow" / "run", steps=20, gain=0.2)
    return slow, write_run(folder / "fast" / "run", steps=20, gain=0.9)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_several_runs_stand_side_by_side(runs: tuple[Path, Path], tmp_path: Path) -> None:
    text = write_together(runs, tmp_path / "both.html").read_text()
    assert "<b>slow/run</b>" in text and "<b>fast/run</b>" in text  # as much as tells them apart
    assert "against slow/run" in text
    assert text.count('data-switch="fast/run"') == text.count('data-switch="slow/run"') >= 5
    assert "slow/run: darkness rose" not in text and "All guards stayed quiet in every run." in text
    assert text.count('class="card pair"') == 12
    assert text.count("<img") == 24
    assert '<td>update</td><td class="num">1.500</td><td class="num">1.500</td>' in text


def test_mistakes(runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs[0]), "--together", str(tmp_path / "x.html")]) == 2
    assert "--together: a page of runs side by side needs two at least" in capsys.readouterr().err
    with pytest.raises(UserError, match="one run is named twice"):
        write_together([runs[0], runs[0]], tmp_path / "x.html")
    assert main([*map(str, runs), "--together", str(tmp_path / "x.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'x.html'}\n"


@with_browser
def test_a_report_in_a_browser(browser: Browser, runs: tuple[Path, Path]) -> None:
    page = write_report(runs[1])
    assert page.stat().st_size < 5_000_000
    browser.open(page)
    assert browser.seen(".group") == 2  # those of the first step
    browser.click('[data-pick="step"] button:nth-child(2)')
    assert browser.seen(".group") == 2
    assert browser.text(".group:not(.off-step) .note").startswith("step 7, colors")
    browser.press("ArrowRight")
    assert browser.text(".group:not(.off-step) .note").startswith("step 13, colors")
    browser.value("document.querySelector('svg.chart').focus()")
    browser.press("ArrowRight")
    assert browser.text("#tip").startswith("step 1\n")
    assert browser.errors == []
    # no word of a verdict or a reason is cut in two
    assert browser.value("[...document.querySelectorAll('.badge')].every(e => e.getClientRects().length <= 1)")
    browser.resize(360, 800)
    browser.open(page)
    assert browser.value("document.documentElement.scrollWidth") <= 360
    browser.resize(1280, 900)


@with_browser
def test_runs_side_by_side_in_a_browser(browser: Browser, runs: tuple[Path, Path], tmp_path: Path) -> None:
    page = write_together(runs, tmp_path / "both.html")
    assert page.stat().st_size < 5_000_000
    browser.open(page)
    browser.click('[data-switch="slow/run"]')
    assert browser.value("document.querySelector('[data-curve=\"slow/run\"]').style.display") == "none"
    browser.click('[data-switch="slow/run"]')
    assert browser.value("document.querySelector('[data-curve=\"slow/run\"]').style.display") == ""
    assert browser.errors == []
    browser.resize(360, 800)
    browser.open(page)
    assert browser.value("document.documentElement.scrollWidth") <= 360


def test_a_run_keeps_its_colour_where_others_have_no_points() -> None:
    several = {"no KL": [], "KL": [(0.0, 0.1), (1.0, 0.2)]} | {f"run {place}": [(0.0, 1.0)] for place in range(8)}
    chart = line_chart("kl", several)
    assert [curve.place for curve in chart.curves] == list(range(1, 10))
    drawn = template_environment().from_string('{% import "parts.html" as p %}{{ p.line_chart(chart) }}')
    text = drawn.render(chart=chart)
    assert 'class="swatch " style="--own:var(--c1)"' in text  # of the second, not of the first that is drawn
    assert text.count('class="swatch dashed"') == 2  # the ninth and the tenth
