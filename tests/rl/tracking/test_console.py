from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import ConsoleDimensions

from rl.run_folder.records import Alarm
from rl.run_folder.usage import UsageRow
from rl.tracking.clock import Activity, Clock, duration
from rl.tracking.console import make_console
from rl.tracking.contract import Console, worker_numbers
from rl.tracking.live import LiveConsole, sparkline
from rl.tracking.plain import PlainConsole
from rl.tracking.terminal import Terminal

ALARM = Alarm("guard/darkness", 1, 0.1, 0.5, "darkness rose from 0.1 to 0.5")
METRICS = {"score": 0.5, "reward/ocr": 0.25, "kl": 0.001, "entropy": 2.5, "mismatch": 3e-6, "images": 64.0}
METRICS |= {"failed/ocr": 5.0, "guard/darkness": 0.125}


class _Sized(Terminal):
    """A terminal of any size and encoding, in memory."""

    def __init__(self, width: int, height: int, encoding: str = "utf-8") -> None:
        self.dimensions = ConsoleDimensions(width, height)
        super().__init__(io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="backslashreplace"))

    @property
    def size(self) -> ConsoleDimensions:  # type: ignore[override]
        return self.dimensions


class _Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def drawn(console: LiveConsole, terminal: Terminal) -> str:
    with terminal.capture() as capture:
        terminal.print(console.view())
    return capture.get()


@pytest.fixture
def live() -> Iterator[Callable[[Terminal], LiveConsole]]:
    opened: list[LiveConsole] = []

    def open_on(terminal: Terminal) -> LiveConsole:
        opened.append(LiveConsole("my [run]", 10, terminal=terminal))
        return opened[-1]

    yield open_on
    for console in opened:
        console.close()


@pytest.fixture
def plain() -> Iterator[tuple[PlainConsole, io.StringIO, _Hand]]:
    hand, out = _Hand(), io.StringIO()
    console = PlainConsole(out, 10, now=hand)
    yield console, out, hand
    console.close()


def test_plain_line(plain: tuple[PlainConsole, io.StringIO, _Hand]) -> None:
    console, out, _ = plain
    metrics = {"score": 0.5, "reward/geneval": 0.5, "kl": 0.001, "zero_std_fraction": 0.25, "images": 128, "x": 1.0}
    console.step(0, metrics, {"sample": 1.0, "total": 4.0}, [ALARM])
    console.step(1, {"score": 0.5, "failed/ocr": 3.0, "failed_fraction": 0.1}, {"total": 4.0}, [])
    first, alarm, second = out.getvalue().splitlines()
    assert first.startswith("step 1/10  score 0.500  geneval 0.500  kl 0.001  zero-std 0.25  4.0 s  32.0 images/s  ETA")
    assert alarm == "ALARM  darkness rose from 0.1 to 0.5"
    assert second.startswith("step 2/10  score 0.500  ocr FAILED 3  failed 0.1  4.0 s")


def test_plain_line_of_a_run_that_learns_from_pictures(plain: tuple[PlainConsole, io.StringIO, _Hand]) -> None:
    console, out, _ = plain
    console.step(0, {"loss": 0.4719, "entropy": 0.5, "images": 32}, {"total": 1.0}, [])
    assert out.getvalue().startswith("step 1/10  loss 0.472  entropy 0.5  1.0 s")


WORKERS = worker_numbers(
    UsageRow(
        step=4,
        staleness=2,
        publish_lag=0.42,
        seconds=10.0,
        waited=4.8,
        busy={"sample": 3.1, "paint": 17.6},
        workers={"sample": 1, "paint": 2},
        queued={"sample": 0, "paint": 12, "score": 3},
        counts={"deaths": 1},
    )
)


def test_how_busy_a_cluster_is(
    plain: tuple[PlainConsole, io.StringIO, _Hand], live: Callable[[Terminal], LiveConsole]
) -> None:
    facts = ["samplers 31%, painters 88%, trainer 52% busy", "0 to sample, 12 to paint, 3 to score", "staleness 2"]
    console, out, _ = plain
    console.workers(WORKERS)
    console.step(0, {"score": 0.5}, {"total": 1.0}, [])
    console.step(1, {"score": 0.5}, {"total": 1.0}, [])
    first, second = out.getvalue().splitlines()
    assert "  ".join([*facts, "publish lag 0.4 s", "1 restarted", "ETA"]) in first
    assert "busy" not in second  # told once
    terminal = _Sized(180, 40)
    view = live(terminal)
    assert "busy" not in drawn(view, terminal)
    view.workers(WORKERS)
    assert " · ".join([*facts, "publish lag 0.4 s", "1 restarted"]) in drawn(view, terminal)


def test_a_step_in_which_one_of_two_networks_rests_says_who_learnt(
    plain: tuple[PlainConsole, io.StringIO, _Hand], live: Callable[[Terminal], LiveConsole]
) -> None:
    console, out, _ = plain
    for step, (ar, decoder) in enumerate([(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]):
        console.step(step, {"score": 0.5, "learns/ar": ar, "learns/decoder": decoder}, {"total": 1.0}, [])
    starts = [line.split("  score")[0] for line in out.getvalue().splitlines()]
    assert starts == ["step 1/10  ar learnt", "step 2/10  decoder learnt", "step 3/10"]
    terminal = _Sized(120, 40)
    view = live(terminal)
    view.step(0, {"score": 0.5, "learns/ar": 0.0, "learns/decoder": 1.0}, {"total": 1.0}, [])
    assert "decoder learnt" in drawn(view, terminal)


def test_a_plain_console_is_never_silent_for_more_than_half_a_minute(
    plain: tuple[PlainConsole, io.StringIO, _Hand],
) -> None:
    console, out, hand = plain

    def told(at: float) -> list[str]:
        before = len(out.getvalue())
        hand.time = at
        console.tell_if_quiet()
        return out.getvalue()[before:].splitlines()

    console.starting("sampling engine")
    assert told(29) == []
    assert told(31) == ["... starting: sampling engine, 31 s"]
    assert told(32) == []
    console.progress("evaluating the base", 0, 600, "pictures")
    hand.time = 42
    console.progress("evaluating the base", 100, 600, "pictures")
    assert told(72) == ["... evaluating the base, 100/600 pictures, 2.5/s, 3 min 20 s left"]
    console.progress("evaluating the base", 600, 600, "pictures")
    console.stage("painting")
    assert told(110) == ["... step 1/10: painting for 38 s"]  # nothing is known yet about how long a step takes
    for step, at in enumerate((120, 180)):
        hand.time = at
        console.step(step, {}, {}, [])
    console.stage("scoring")
    assert told(220) == ["... step 3/10: scoring for 40 s, about 20 s of the step left"]


def test_a_long_stage_tells_how_far_it_is_and_a_short_one_nothing(
    plain: tuple[PlainConsole, io.StringIO, _Hand],
) -> None:
    console, out, hand = plain

    def beat_until(end: float, rate: float, total: int, unit: str) -> list[str]:
        """One look a second, as the console's thread has it, while the stage moves on."""
        began, before = hand.time, len(out.getvalue())
        while hand.time < end:
            hand.time += 1
            console.advance(min(total, int(rate * (hand.time - began))), total, unit)
            console.tell_if_quiet()
        return out.getvalue()[before:].splitlines()

    console.stage("sampling")
    assert beat_until(29, 5, 145, "tokens") == []
    console.step(0, {}, {"sample": 29.0}, [])  # a line of its own
    console.stage("painting")
    assert beat_until(100, 2, 400, "pictures") == [
        "... step 2/10: painting for 30 s, 60/400 pictures, 2.0/s, 2 min 50 s left",
        "... step 2/10: painting for 1 min 00 s, 120/400 pictures, 2.0/s, 2 min 20 s left",
    ]
    console.stage("updating")  # two updates, one after the other: each counts from its own begin
    console.advance(8, 8, "micro-batches")
    hand.time = 120
    console.advance(2, 8, "micro-batches")
    console.tell_if_quiet()
    assert out.getvalue().splitlines()[-1] == (
        "... step 2/10: updating for 20 s, 2/8 micro-batches, 6.0/min, 1 min 00 s left"
    )


def test_what_stands_still_is_named(plain: tuple[PlainConsole, io.StringIO, _Hand]) -> None:
    console, out, hand = plain
    console.stage("scoring")
    hand.time = 10
    console.advance(3, 32, "scores")
    hand.time = 600
    console.advance(3, 32, "scores")  # told again, but nothing new
    console.tell_if_quiet()
    assert out.getvalue().splitlines()[-1] == (
        "... step 1/10: scoring for 10 min 00 s, 3/32 scores, 0.3/min, 1 h 36 min left"
    )
    hand.time = 910
    console.tell_if_quiet()
    assert out.getvalue().endswith(", nothing new for 15 min 00 s\n")
    console.advance(4, 32, "scores")
    hand.time = 950
    console.tell_if_quiet()
    assert "nothing new" not in out.getvalue().splitlines()[-1]


def test_words_of_users_do_not_move_the_cursor(plain: tuple[PlainConsole, io.StringIO, _Hand]) -> None:
    console, out, _ = plain
    console.message("evaluation: \x1b[31mred\x1b[0m [bold]x[/bold] :smile: ü")
    assert out.getvalue() == "evaluation: \\x1b[31mred\\x1b[0m [bold]x[/bold] :smile: ü\n"
    terminal = _Sized(120, 40)
    console_live = LiveConsole("r\x1b[2J", 10, terminal=terminal)
    console_live.message("tag [bold]x[/bold] :smile: \x1b[2J")
    console_live.close()
    terminal.file.flush()
    written = terminal.file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "tag [bold]x[/bold] :smile: \\x1b[2J" in written
    assert "\x1b[2J" not in written


def test_live_view_shows_everything_asked_for(live: Callable[[Terminal], LiveConsole]) -> None:
    terminal = _Sized(120, 40)
    console = live(terminal)
    console.stage("painting")
    assert "step 0/10" in drawn(console, terminal)
    assert "painting · 0 s" in drawn(console, terminal)
    console.advance(1_500, 3_000, "pictures")
    line = next(line for line in drawn(console, terminal).splitlines() if "painting" in line)
    assert "1,500/3,000 pictures" in line and line.count("━") == 15  # half of 30 columns
    console.step(0, METRICS, {"sample": 3.0, "update": 1.0}, [ALARM])
    console.progress("evaluating after 1 step", 128, 600, "pictures")
    view = drawn(console, terminal)
    wanted = "my [run]|step 1/10|ocr|0.250|ocr failed|entropy|mismatch|3e-06|16.0 images/s|3.00 s|! darkness rose"
    for text in [*wanted.split("|"), "evaluating after 1 step", "128/600 pictures"]:
        assert text in view
    bars = {name: line.count("█") for line in view.splitlines() for name in ("sample", "update") if name in line}
    assert bars["sample"] == 3 * bars["update"] > 0


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 20), (40, 10)])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_the_view_fits_into_the_terminal(
    live: Callable[[Terminal], LiveConsole], size: tuple[int, int], encoding: str
) -> None:
    terminal = _Sized(*size, encoding)
    console = live(terminal)
    for step in range(5):
        console.step(step, METRICS | {"lr": step / 7}, {"sample": 3.0, "a long stage": 1.0}, [])
    console.workers(WORKERS)
    console.stage("sending weights to the sampler")
    console.advance(93_312, 186_624, "tokens")
    assert all(len(line) <= size[0] for line in drawn(console, terminal).splitlines())
    console.progress("evaluating after 5 steps", 128, 600, "pictures")
    view = drawn(console, terminal)
    assert max(len(line) for line in view.splitlines()) <= size[0]
    assert len(view.splitlines()) < size[1]
    if encoding != "utf-8":
        view.encode("ascii")  # latin-1 has none of the blocks either


def test_console_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    assert type(make_console("off", out, "t", 1)) is Console
    for mode in ("plain", "auto"):  # a StringIO is no terminal
        console = make_console(mode, out, "t", 1)  # type: ignore[arg-type]
        assert isinstance(console, PlainConsole)
        console.close()
    monkeypatch.setattr("rl.tracking.console.can_draw", lambda stream: True)
    console = make_console("auto", out, "t", 1)
    assert isinstance(console, LiveConsole)
    console.close()


def test_eta_counts_only_this_session() -> None:
    times = iter([2.0, 4.0])
    clock = Clock(10, first_step=5, now=lambda: next(times))
    assert (clock.eta(), clock.done) == ("--", 5)
    clock.tick(5)
    assert (clock.eta(), clock.done) == ("--", 6)  # the start-up before it would count as a step's time
    clock.tick(6, took=1.5)
    assert clock.seconds_per_step() == 2.0
    assert clock.eta() == "6 s"


def test_the_first_step_alone_says_how_long_the_run_takes() -> None:
    clock = Clock(10, first_step=0, now=lambda: 100.0)
    clock.tick(0, took=2400.0)
    assert clock.eta() == "6 h 00 min"


def test_a_task_names_the_stage_it_is_in() -> None:
    hand = _Hand()
    activity = Activity(hand)
    activity.progress("evaluating", 0, 10, "pictures")
    assert activity.words() == ("evaluating", "0/10 pictures")
    hand.time = 2.0
    activity.stage("painting")
    activity.progress("evaluating", 4, 10, "pictures")
    assert activity.words() == ("evaluating", "4/10 pictures, 2.0/s, 3 s left, painting")
    activity.advance(3, 6, "pictures")
    assert activity.words()[1].endswith("3 s left, painting 3/6 pictures")
    activity.progress("evaluating", 10, 10, "pictures")
    activity.stage("painting")
    assert activity.words() == ("painting", "0 s")


def test_small_formats(tmp_path: Path) -> None:
    assert [duration(s) for s in (5.2, 185, 7620)] == ["5 s", "3 min 05 s", "2 h 07 min"]
    assert sparkline([0, 1, 0.5]) == "▁█▄"
    assert sparkline([2, 2]) == "▄▄"
    assert sparkline([]) == sparkline([1.0, 2.0], width=0) == ""
    assert sparkline([0, 1], marks="_.:-=+*#") == "_#"
