"""What a page says of a cluster's workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rl.report.gantt import gantt
from rl.report.page import page, read_run
from rl.report.workers import shown_workers
from rl.run_folder.records import METRICS_FILE
from rl.run_folder.usage import CallSpan, UsageRow, append_usage
from tests.rl.report.test_report import parse


def write_usage(
    folder: Path, step: int, *, deaths: int = 0, leases: int | None = None, lag: float | None = 0.5
) -> None:
    """A step of 4 s that one sampler, two painters and the trainer have worked on one after the other."""
    calls = [
        CallSpan("sampler-0", step, 4.0 * step, 4.0 * step + 1),
        CallSpan("painter-10", step, 4.0 * step + 1, 4.0 * step + 3),
        CallSpan("painter-2", step, 4.0 * step + 1, 4.0 * step + 3),
        CallSpan("trainer", step, 4.0 * step + 8, 4.0 * step + 9),
    ]
    counts = {"leases": 3 * step + 3 if leases is None else leases, "deaths": deaths}
    row = UsageRow(
        step,
        min(step, 2),
        lag,
        4.0,
        3.0,
        {"sample": 1.0, "paint": 4.0},
        {"sample": 1, "paint": 2},
        {"sample": 8, "paint": 4, "score": 2},
        counts,
        calls,
    )
    append_usage(folder, row)


def test_a_lane_a_worker_and_a_colour_a_step() -> None:
    calls = [
        CallSpan("painter-10", 7, 102.0, 106.0),
        CallSpan("trainer", 6, 100.0, 102.0),
        CallSpan("painter-2", 6, 101.0, 102.0),
        CallSpan("score-0", 6, 0.0, 900.0),  # beside them
        CallSpan("sampler-0", 7, 105.0, 110.0),
    ]
    found = gantt(calls, first_step=1)
    assert [name for _, name in found.lanes] == ["sampler-0", "painter-2", "painter-10", "trainer"]
    by_text = {block.text: block for block in found.blocks}
    painted, learnt = by_text["painter-10: step 8, 4 s"], by_text["trainer: step 7, 2 s"]
    assert (painted.shade, learnt.shade) == (1, 0)
    assert (learnt.left, learnt.width) == (54.0, 70.8)  # 2 of 10 s of 354 pixels
    assert painted.left == pytest.approx(54 + 70.8) and painted.top < learnt.top
    assert [label for _, label in found.ticks] == ["0", "2.5", "5", "7.5", "10"]
    assert gantt([]).blocks == ()


def test_what_falls_into_the_same_time_is_pale() -> None:
    around = [
        CallSpan("painter-0", 8, 14.0, 99.0),
        CallSpan("painter-0", 2, 0.0, 9.0),
        CallSpan("painter-7", 8, 10, 12),
    ]
    found = gantt([CallSpan("painter-0", 5, 10.0, 12.0), CallSpan("trainer", 5, 13.0, 20.0)], around=around)
    assert [(block.shade, block.text) for block in found.blocks] == [
        (0, "painter-0: step 5, 2 s"),
        (0, "trainer: step 5, 7 s"),
        (None, "painter-0: step 8, 6 s"),
    ]


def test_of_many_workers_the_last_lanes_are_drawn() -> None:
    found = gantt([CallSpan(f"painter-{number}", 0, 0.0, 1.0) for number in range(20)])
    assert (len(found.lanes), found.left_out) == (16, 4)


def test_means_facts_and_three_steps_of_the_middle(tmp_path: Path) -> None:
    for step in range(8):
        write_usage(tmp_path, step, deaths=step // 4, lag=None if step < 2 else 0.25 * step)
    found = shown_workers(tmp_path)
    assert found is not None
    assert found.shares == [("samplers", 1, 0.25), ("painters", 2, 0.5), ("trainer", 1, 0.25)]
    assert found.facts == "staleness 0 to 2, publish lag 1.1 s on average, 1.8 s at most, 1 worker restarted"
    assert found.steps == [3, 4, 5]
    assert {block.shade for block in found.gantt.blocks} == {0, 1, 2, None}
    titles = [chart.title for chart in found.charts]
    assert titles[:2] == ["Share of the time in which workers were busy", "Groups that wait or are at work"]
    assert [curve.name for curve in found.charts[1].curves] == ["to sample", "to paint", "to score"]


def test_three_steps_of_one_session(tmp_path: Path) -> None:
    """Workers that were started again have begun with other names, some time later."""
    for step in range(3):
        write_usage(tmp_path, step, deaths=2)
    for step in range(3, 8):
        write_usage(tmp_path, step, leases=3 * (step - 2), deaths=1)
    found = shown_workers(tmp_path)
    assert found is not None and found.steps == [4, 5, 6]
    assert "3 workers restarted" in found.facts
    (tmp_path / "one").mkdir()
    write_usage(tmp_path / "one", 0)
    alone = shown_workers(tmp_path / "one")
    assert alone is not None and alone.steps == [1]


def test_the_page_of_a_run_on_a_cluster(tmp_path: Path) -> None:
    line = '{"step": %d, "metrics": {"score": 0.5}, "seconds": {"collect": 3.0}, "alarms": []}\n'
    (tmp_path / METRICS_FILE).write_text("".join(line % step for step in range(4)))
    assert "<h2>Workers</h2>" not in page(read_run(tmp_path))
    for step in range(4):
        write_usage(tmp_path, step)
    text = page(read_run(tmp_path))
    calls = [attributes for tag, attributes in parse(text).found if attributes.get("class") == "call"]
    assert len(calls) == 12 + 3  # the fourth step is sampled and painted meanwhile, and learnt later
    assert sum(one["fill"] == "var(--edge)" for one in calls) == 3
    assert "<title>painter-10: step 3, 2 s</title>" in text
    assert '<td>painters</td><td class="num">2</td><td class="num">50%</td>' in text
    assert "Who did what in step 1, 2, 3; seconds" in text and "</i>step 3</span>" in text
