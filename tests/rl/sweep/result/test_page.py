"""The page of a sweep in a browser: it answers without a click, and what can be clicked or typed works."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rl.sweep.member import Member
from rl.sweep.plan import plan
from rl.sweep.result.page import find_result, write_page
from tests.chromium import PROGRAM, Browser
from tests.rl.synthetic_run import write_run

ROOT = Path(__file__).resolve().parents[4]
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium")


@pytest.fixture(scope="module")
def sweep_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    overrides = ["loss=grpo,dapo", "train.steps=20", "train.warmup_steps=2"]
    planned = plan(ROOT / "examples/geneval.yaml", overrides, folder, seeds=[0, 1, 2])
    members = [Member(run) for run in planned.runs]
    for one in members[:-1]:
        gain = 0.9 if "dapo" in one.run.arm else 0.1
        write_run(one.run.folder, seed=one.run.seed, steps=20, gain=gain)
        one.state = "done"
    members[-1].state, members[-1].reason = "failed", "exit code 3: <engine> broke"
    return write_page(folder, find_result(planned, members))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, sweep_page: Path) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


def test_it_answers_the_questions_first(browser: Browser, sweep_page: Path) -> None:
    browser.open(sweep_page)
    text = browser.text(".answers").replace("\n\n", "\n")
    assert "Which is better?\nloss=dapo is better than loss=grpo on held-out geneval." in text
    assert "significant, 2 seeds." in text  # the third of one arm has failed: compared on the seeds of both
    assert "What got worse?" in text and "loss=dapo against loss=grpo: nothing" in text
    assert "(1.00 x the time, 1.00 x the pictures)" in text
    warnings = browser.text("#warnings")
    assert "Fewer than 3 seeds: loss=dapo (2)." in warnings
    assert "loss=dapo, seed 2, is missing (failed: exit code 3: <engine> broke)." in warnings
    assert browser.errors == []
    assert sweep_page.stat().st_size < 5_000_000


def test_the_sheet_is_filtered_by_mouse_and_keys(browser: Browser, sweep_page: Path) -> None:
    browser.open(sweep_page)
    every = browser.seen("#sheet tr[data-verdict]")
    browser.click('[data-pick="verdict"] [data-value="sure"]')
    sure = browser.seen("#sheet tr[data-verdict]")
    assert 0 < sure < every
    assert sure == browser.seen('#sheet tr[data-verdict~="sure"]')
    browser.click('[data-pick="against"] [data-value="baseline"]')  # both choices hold at once
    both = browser.seen("#sheet tr[data-verdict]")
    assert both == browser.seen('#sheet tr[data-verdict~="sure"][data-against="baseline"]') < sure
    browser.press("ArrowRight")
    assert browser.value("document.activeElement.dataset.value") == "start"
    assert browser.seen('#sheet tr[data-against="baseline"]') == 0
    browser.click('[data-pick="against"] [data-value="all"]')
    browser.click('[data-pick="verdict"] [data-value="all"]')
    assert browser.seen("#sheet tr[data-verdict]") == every
    assert browser.errors == []


def test_curves_change_their_axis_read_values_and_switch_arms(browser: Browser, sweep_page: Path) -> None:
    browser.open(sweep_page)
    charts = browser.seen("svg.chart")
    assert browser.seen('[data-axis="step"] svg.chart') == charts > 3
    browser.click('[data-pick="axis"] [data-value="pictures"]')
    assert browser.seen('[data-axis="pictures"] svg.chart') == charts == browser.seen("svg.chart")
    browser.hover('[data-axis="pictures"] svg.chart')
    assert browser.text("#tip").startswith("pictures ")
    assert "loss=grpo" in browser.text("#tip") and "loss=dapo" in browser.text("#tip")
    browser.click('[data-axis="pictures"] [data-switch="loss=dapo"]')
    browser.hover('[data-axis="pictures"] svg.chart')
    assert "loss=dapo" not in browser.text("#tip")
    assert browser.seen('[data-axis="pictures"] [data-curve="loss=dapo"]') == charts - 1
    # by keys alone: the first point of the held-out score is the base, before any picture
    browser.value("document.querySelector('[data-axis=\"pictures\"] svg').focus()")
    browser.press("Escape")
    browser.press("ArrowRight")
    assert browser.text("#tip").startswith("pictures 0\n")
    browser.press("ArrowRight")
    assert browser.text("#tip").startswith("pictures 768\n")  # 6 steps of 128
    browser.press("Escape")
    assert browser.seen("#tip") == 0
    assert browser.errors == []


def test_tables_fit_a_small_screen(browser: Browser, sweep_page: Path) -> None:
    browser.resize(1200, 900)
    browser.open(sweep_page)
    for table in ("#arms", ".tasks", "#sheet"):
        card = f"document.querySelector({table!r}).parentElement"
        assert browser.value(f"{card}.scrollWidth - {card}.clientWidth") <= 0
    browser.resize(1280, 900)


def test_a_phone_needs_no_sideways_scrolling(browser: Browser, sweep_page: Path) -> None:
    browser.resize(360, 800)
    browser.open(sweep_page)
    assert browser.value("document.documentElement.scrollWidth") <= 360
    browser.click('[data-pick="axis"] [data-value="seconds"]')
    browser.resize(1280, 900)
