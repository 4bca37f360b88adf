from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rl.evaluation.parts import PartsEvaluation, PartView, save_parts
from rl.evaluation.results import Evaluation, Outcome, Tile, grid_path, load_all, save
from rl.report.__main__ import main
from rl.report.chart import line_chart, number, running_mean, thin, ticks
from rl.report.curves import charts
from rl.report.decoder import decoder_figures
from rl.report.page import page, read_run, write_report
from rl.run_folder.records import Row
from rl.types import UserError
from tests.rl.synthetic_run import disc, write_run


class Elements(HTMLParser):
    """All tags with their attributes, and whether every opened tag is closed again in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parse(text: str) -> Elements:
    elements = Elements()
    elements.feed(text)
    assert elements.open == []
    return elements


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("report") / "geneval")


@pytest.fixture(scope="module")
def text(run_folder: Path) -> str:
    return write_report(run_folder).read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_asks_for_nothing_outside(text: str) -> None:
    for tag, attributes in parse(text).found:
        assert tag not in ("link", "iframe", "object")
        assert (attributes.get("src") or "data:").startswith("data:")
        assert "href" not in attributes
    assert "url(" not in text
    assert "@import" not in text


def test_headline_numbers_are_those_of_the_evaluations(run_folder: Path, text: str) -> None:
    first, *_, last = load_all(run_folder)
    before, after = first.results["geneval"]["overall"].estimate, last.results["geneval"]["overall"].estimate
    assert before is not None
    assert after is not None
    assert f"<small>{before.mean:.3f} →</small> {after.mean:.3f}" in text
    assert "Held-out geneval: step 0 → 60" in text
    assert re.search(r'<td class="num">3</td>\s*</tr>\s*</table>', text)  # three failed rewards, beside the scores


def test_pictures_are_the_ones_of_the_same_prompts(run_folder: Path, text: str) -> None:
    images = [
        attributes for tag, attributes in parse(text).found if tag == "img" and ", step " in str(attributes["alt"])
    ]
    first, *_, last = load_all(run_folder)
    assert len(images) == 2 * len(first.tiles) == 24
    for place, tiles in ((0, first.tiles), (1, last.tiles)):
        for image, tile in zip(images[place::2], tiles, strict=True):
            data = base64.b64decode((image["src"] or "").removeprefix("data:image/png;base64,"))
            picture = np.asarray(Image.open(io.BytesIO(data)).resize((64, 64), Image.Resampling.NEAREST))
            passed = tile.marks["geneval"] == 1.0
            assert (picture == disc("green" if passed else "purple", tile.seed)).all()
            assert image["alt"] == f"{tile.text}, step {(0, 60)[place]}"
    gained = sum(
        old.marks["geneval"] != 1.0 and new.marks["geneval"] == 1.0
        for old, new in zip(first.tiles, last.tiles, strict=True)
    )
    assert text.count('class="card pair gained"') == gained > 0


def test_what_a_reward_said_stands_beside_its_picture(run_folder: Path, text: str) -> None:
    first, *_, last = load_all(run_folder)
    shown = [one for evaluation in (first, last) for tile in evaluation.tiles for one in evaluation.of(tile)]
    assert len(shown) == 24
    failed = sum(one.value == 0 for one in shown)
    assert text.count(">reason: expected &lt;disc&gt;=1, found 0</div>") == failed > 0
    assert text.count(">failed: timed out after 60 s</div>") == sum(one.failure is not None for one in shown)
    assert text.count('title="geneval: strict 0, graded 0.5"') == failed


def test_pills_name_their_reward_where_there_are_several_and_show_what_is_finer(tmp_path: Path) -> None:
    picture = Image.fromarray(disc("green", 0)).resize((128, 128))
    for step, value in ((0, 0.0), (6, 1.0)):
        said = {"counts": 3}
        outcomes = (
            Outcome("geneval", "colors", "p", 1, value, details=said, graded=0.5 if value == 0 else 1.0),
            Outcome("pick", "colors", "p", 1, 0.25),
            Outcome("pick", "words", "q", 1, 0.75),  # the only one that applies
        )
        tile = Tile("p", "two discs", "colors", 1, (0, 0, 128, 128), {"geneval": value, "pick": 0.25})
        other = Tile("q", "a word", "words", 1, (0, 0, 128, 128), {"pick": 0.75})
        save(Evaluation(step, outcomes, (tile, other)), tmp_path)
        picture.save(grid_path(tmp_path, step))
    text = page(read_run(tmp_path))
    assert '<span class="badge fail">geneval fail 0.50</span>' in text
    assert '<span class="badge pass">geneval pass</span>' in text
    assert text.count('<span class="badge other">pick 0.25</span>') == 2
    assert text.count('<span class="badge other">pick 0.75</span>') == 2
    assert ">counts 3</div>" in text  # numbers are all the reward said of why it failed


def test_a_small_change_is_told_with_its_digits(tmp_path: Path) -> None:
    for step, value in ((0, 0.500), (6, 0.502)):
        save(Evaluation(step, tuple(Outcome("pick", "look", f"p{n}", 1, value) for n in range(4))), tmp_path)
    text = page(read_run(tmp_path))
    assert "95 % interval +0.002 to +0.002" in text
    assert re.search(r"[+]0\.002 <span|[+]0\.002\s", text)


def test_whole_groups_stand_with_scores_and_advantages(run_folder: Path, text: str) -> None:
    assert text.count('class="card group"') == 2 * 3  # two groups at the steps 0, 20 and 40
    assert "step 1, colors: scores 0.000 to 0.750, 1 left out" in text
    assert "all score 1.000: nothing to learn from" in text
    assert "second &lt;prompt&gt;" in text
    assert '<span class="badge pass">+0.25</span>' in text and '<span class="badge fail">-0.50</span>' in text
    assert '<span class="badge other">left out</span>' in text
    assert "geneval failed: timed out" in text and "geneval 0.750, fail; reason: disc 20" in text
    (run_folder / "pictures" / "groups-000020.jsonl").rename(run_folder / "moved")
    with pytest.raises(UserError, match=r"groups-000020.jsonl cannot be read .*: remove it and groups-000020.png"):
        page(read_run(run_folder))
    (run_folder / "moved").rename(run_folder / "pictures" / "groups-000020.jsonl")


def test_user_text_is_escaped(text: str) -> None:
    assert "no. 0 &lt;b&gt;&amp;" in text
    assert "<b>&" not in text
    assert "# &lt;not html&gt;" in text


def test_curves_alarms_times_and_provenance_are_there(text: str) -> None:
    for title in ("Training reward", "Held-out geneval", "KL to the reference", "Entropy", "Guard: darkness"):
        assert f"<h3>{title}" in text
    assert "Gradient norm" not in text  # never logged: no empty chart
    assert text.count('<g class="alarm">') == 1
    assert "<li>darkness rose from 0.08 to 0.35 by step 50</li>" in text
    assert re.search(r'update</td><td class="num">1\.500 s</td><td class="num">34\.9%</td>', text)
    assert "python -m rl.launch examples/geneval.yaml" in text


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    whole = write_run(tmp_path / "whole", steps=2, per_task=2)
    young = tmp_path / "young"
    young.mkdir()
    (young / "metrics.jsonl").write_text((whole / "metrics.jsonl").read_text().splitlines(keepends=True)[0])
    shown = page(read_run(young))
    parse(shown)
    assert "No evaluation yet." in shown
    assert '<p class="sub">1 step · 128 training pictures' in shown
    assert "All guards stayed quiet." in shown
    for name in ("evaluation-0.json", "evaluation-0.png"):
        (young / name).write_bytes((whole / name).read_bytes())
    shown = page(read_run(young))
    parse(shown)
    assert "Held-out evaluation at step 0" in shown


def test_command_line(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_folder)]) == 0
    assert capsys.readouterr().out == f"{run_folder / 'report.html'}\n"
    assert main([str(tmp_path)]) == 2
    assert "holds no metrics.jsonl and no evaluation: it is no run folder" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"nothing is not a folder: give the folder of a run, such as runs/geneval"):
        read_run(tmp_path / "nothing")


def test_ticks_are_round_and_cover_the_data() -> None:
    assert ticks(0, 1) == [0, 0.25, 0.5, 0.75, 1.0]
    assert ticks(3e-6, 6e-6)[0] <= 3e-6 < 6e-6 <= ticks(3e-6, 6e-6)[-1] + 1e-12
    assert [number(value) for value in (0.30000000000000004, 1e-5, 12000, 1e-18)] == ["0.3", "1e-05", "12000", "0"]


def test_ratios_near_1_are_told_apart_on_their_axis() -> None:
    chart = line_chart("Ratio", {"ratio": [(1, 0.9992), (2, 1.0004)]})
    assert [text for _, text in chart.y_ticks] == ["0.999", "0.9995", "1", "1.0005"]
    assert [text for _, text in line_chart("", {"a": [(0, 0.0), (1, 1.0)]}).y_ticks] == [
        "0",
        "0.25",
        "0.5",
        "0.75",
        "1",
    ]


def test_steps_on_the_axis_are_whole_and_counted_from_one() -> None:
    assert [text for _, text in line_chart("", {"a": [(1, 0.0), (2, 1.0), (3, 0.5)]}).x_ticks] == ["1", "2", "3"]
    rows = [Row(step, {"score": 0.1 * step}) for step in range(3)]
    [chart] = charts(rows, [])
    assert [point[2] for point in json.loads(chart.hover)["score"]] == [1, 2, 3]


def test_thinning_keeps_the_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(960)]
    thinned = thin(points)
    assert len(thinned) == 240
    assert np.mean([y for _, y in thinned]) == pytest.approx(np.mean([y for _, y in points]))
    assert running_mean([(float(i), 5.0) for i in range(50)]) == [(float(i), 5.0) for i in range(50)]


def test_lines_go_where_the_data_goes() -> None:
    chart = line_chart("Score", {"score": [(0, 0.0), (10, 1.0)]})
    # left, bottom to right, top of the frame
    assert chart.curves[0].line == "54.0,214.0 408.0,10.0"
    assert [curve.name for curve in line_chart("Two", {"a": [(0, 1)], "b": [(0, 2)]}).curves] == ["a", "b"]
    assert line_chart("None", {"a": []}).curves == ()


def test_several_curves_have_a_legend_and_nothing_scored_is_said(run_folder: Path, text: str, tmp_path: Path) -> None:
    assert text.count('class="legend"') == 1  # the held-out tasks; every other chart has one curve
    assert "nothing logged" not in text
    found = json.loads((run_folder / "evaluation-0.json").read_text())
    found["outcomes"] = [{**one, "value": None, "failure": "timed out"} for one in found["outcomes"]]
    (tmp_path / "evaluation-0.json").write_text(json.dumps(found))
    assert "nothing logged" in page(read_run(tmp_path))


def test_a_decoders_figures_stand_apart_for_each_sigma() -> None:
    metrics = {f"decoder/sigma/{sigma}/ratio_mean": float(sigma) for sigma in ("0.250", "1.000", "0.500")}
    rows = [Row(step, {**metrics, "policy_version": 1.0, "decoder/policy_version": 2.0 * step}) for step in range(3)]
    found = {chart.title: [curve.name for curve in chart.curves] for chart in charts(rows, [])}
    assert found == {
        "Updates of the weights": ["language model", "decoder"],
        "Decoder: ratio at each sigma, mean": ["σ 1.000", "σ 0.500", "σ 0.250"],
    }
    assert decoder_figures(["score", "policy_version"]) == []
    [(title, lines)] = decoder_figures([f"decoder/sigma/{place / 30:.3f}/kl_old" for place in range(1, 31)])
    assert title == "Decoder: KL to the policy that painted, at each sigma (8 of 30)"
    told = list(lines.values())
    assert (len(told), told[0], told[-1]) == (8, "σ 1.000", "σ 0.033")


def test_the_decoders_turns_are_shaded_and_counted(tmp_path: Path) -> None:
    turn = [float(step % 4 == 3) for step in range(8)]
    rows = [{"score": 0.5, "learns/ar": 1 - decoder, "learns/decoder": decoder} for decoder in turn]
    lines = [{"step": step, "metrics": row, "seconds": {}, "alarms": []} for step, row in enumerate(rows)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = page(read_run(tmp_path))
    assert "the 2 of 8 steps in which the decoder learnt" in text
    shaded = [attributes for tag, attributes in parse(text).found if attributes.get("class") == "turn"]
    step = (408 - 54) / 7
    assert [float(str(one["x"])) for one in shaded] == pytest.approx([54 + 2.5 * step, 54 + 6.5 * step], abs=0.1)
    assert [float(str(one["width"])) for one in shaded] == pytest.approx([step, step / 2], abs=0.1)  # not beyond it


def test_a_graded_reward_stands_beside_its_passes_and_the_networks_apart_get_curves(tmp_path: Path) -> None:
    def outcomes(passed: float, graded: float) -> tuple[Outcome, ...]:
        return tuple(Outcome("details", "look", f"p{place}", 1, passed, graded=graded) for place in range(4))

    for step, graded in ((0, 0.25), (6, 0.5)):
        save(Evaluation(step, outcomes(0.0, graded)), tmp_path)
        views = {PartView("base", "now", 2): Evaluation(step, outcomes(0.0, graded))}
        save_parts(PartsEvaluation(step, views), tmp_path)
    text = page(read_run(tmp_path))
    assert "Held-out details: step 0 → 6" in text and "Held-out details, graded: step 0 → 6" in text
    assert "<small>0.000 →</small> 0.000" in text and "<small>0.250 →</small> 0.500" in text
    assert '<span class="up">0</span> <small>/ 0</small>' in text  # better / worse: of the passes alone
    assert "<h3>Held-out details, graded</h3>" in text
    assert "<h3>details, graded, the networks apart</h3>" in text
    assert ">0.500 [0.50, 0.50]</td>" in text
