"""The table, the sheet and the report of failures; the store that an evaluation goes on from."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from rl.config.schema import RewardComponent
from rl.config.sections.milestones import EvalConfig
from rl.evaluate.sheet import write_sheet
from rl.evaluate.store import PictureStore
from rl.evaluate.summary import console_table, failed_fraction, failures, markdown_table, summarise_all
from rl.evaluation.evaluate import Pipeline, evaluate
from rl.evaluation.progress import picture_progress
from rl.evaluation.results import Evaluation, Outcome
from rl.types import Prompt, Score, UserError

REWARDS = {"ink": RewardComponent(use="m:ink"), "words": RewardComponent(use="ocr", options={"grading": "exact"})}
VERSIONS = {"ink": "1", "words": None}


def outcomes(values: Sequence[float | None]) -> Evaluation:
    found = [
        Outcome("ink", "a|b", f"p{index}", 1, value, None if value is not None else "timed out")
        for index, value in enumerate(values)
    ]
    return Evaluation(0, tuple(found))


def test_differences_are_those_of_pairs() -> None:
    found = {"base": outcomes([0, 0, 0, 0, 1, None]), "new": outcomes([1, 1, 1, 1, 1, 1]), "lost": outcomes([None] * 6)}
    task, overall = summarise_all(found)
    assert (task.task, overall.task) == ("a|b", "overall")
    assert (task.results["base"].n, task.results["base"].failed, task.results["new"].n) == (5, 1, 6)
    change = task.changes["new"]
    assert (change.n, change.gained, change.difference.mean) == (5, 4, pytest.approx(0.8))
    assert change.p == pytest.approx(2 / 16, abs=0.03)  # both ends of four fair coins
    assert "lost" not in task.changes
    markdown = markdown_table([task, overall], list(found))
    assert markdown.splitlines()[0] == "| task | n | base | new | lost | new - base | p | lost - base | p | failed |"
    assert markdown.splitlines()[2].startswith(
        "| a\\|b | 0 / 5 / 6 | 0.200 [0.04, 0.62] | 1.000 [0.61, 1.00] | – | +0.800"
    )
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(console_table([task, overall], list(found)))
    assert "+0.800" in console.export_text()


def test_failures_are_told_with_their_reasons() -> None:
    found = {"base": outcomes([1, None, None, 0]), "new": outcomes([1, 1, 1, 1])}
    assert failures(found) == ["base: ink failed on 2 of 4 pictures: 2 x timed out"]
    assert failed_fraction(found) == 0.5


class Painter:
    """Counts what it is asked for."""

    def __init__(self, break_at: int | None = None) -> None:
        self.asked: list[str] = []
        self.break_at = break_at

    def __call__(
        self, prompts: Sequence[Prompt], count: int, seeds: Sequence[int]
    ) -> tuple[NDArray[np.uint8], Mapping[str, Sequence[Score]]]:
        if self.break_at == len(self.asked):
            raise KeyboardInterrupt
        self.asked += [prompt.id for prompt in prompts]
        pictures = np.stack([np.full((8, 8, 3), seed % 256, np.uint8) for seed in seeds])
        ink = [Score(float(seed % 7), details={"seed": seed, "pair": (1, 2)}) for seed in seeds]
        words = [Score(None, failure="no text") if seed % 2 else Score(0.5, passed=0.0) for seed in seeds]
        return pictures, {"ink": ink, "words": words}


def prompts() -> list[Prompt]:
    return [Prompt(f"p{i}", f"{i} rings", {"tag": f"t{i % 2}", "include": [{"class": "ring"}]}) for i in range(4)]


def run(folder: Path, pipeline: Pipeline) -> Evaluation:
    with PictureStore(folder, prompts(), 2, REWARDS) as store:
        options = EvalConfig(samples_per_prompt=2, grid=4)
        return evaluate(0, prompts(), store.around(pipeline, VERSIONS), folder, options, 1)


def test_an_evaluation_goes_on_where_it_stopped(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", Painter())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", Painter(break_at=2))
    with (tmp_path / "broken" / "scores-words.jsonl").open("rb+") as file:  # killed between two rewards
        file.truncate(file.seek(0, 2) - 9)
    with PictureStore(tmp_path / "broken", prompts(), 2, REWARDS) as store:
        assert store.done() == 3
    painter = Painter()
    again = run(tmp_path / "broken", painter)
    assert painter.asked == ["p1", "p2", "p3"]
    assert again == whole
    once_more = Painter(break_at=0)
    assert run(tmp_path / "broken", once_more) == whole
    assert once_more.asked == []


def test_pictures_lie_in_the_official_layout(tmp_path: Path) -> None:
    run(tmp_path, Painter())
    files = sorted(str(path.relative_to(tmp_path / "pictures")) for path in (tmp_path / "pictures").rglob("*.*"))
    assert files[:3] == ["00000/metadata.jsonl", "00000/samples/0000.png", "00000/samples/0001.png"]
    assert len(files) == 12
    metadata = json.loads((tmp_path / "pictures" / "00003" / "metadata.jsonl").read_text())
    assert metadata == {"tag": "t1", "include": [{"class": "ring"}], "prompt": "3 rings"}


def test_a_picture_that_was_changed_is_not_taken_for_the_one_that_was_scored(tmp_path: Path) -> None:
    run(tmp_path, Painter())
    Image.new("RGB", (8, 8), "red").save(tmp_path / "pictures" / "00001" / "samples" / "0000.png")
    with PictureStore(tmp_path, prompts(), 2, REWARDS) as store, pytest.raises(UserError, match="has changed since"):
        store.done()
    with pytest.raises(UserError, match="holds scores of the reward 'm:ink' with options"):
        PictureStore(tmp_path, prompts(), 2, {**REWARDS, "ink": RewardComponent(use="m:other")})
    with PictureStore(tmp_path, prompts(), 2, REWARDS):
        refused = pytest.raises(UserError, match="is being written by another run")
        with refused:
            PictureStore(tmp_path, prompts(), 2, REWARDS)


def test_the_sheet_shows_every_policy_beside_the_others(tmp_path: Path) -> None:
    found = {name: run(tmp_path / name, Painter()) for name in ("base", "new")}
    assert write_sheet(tmp_path / "grid.png", tmp_path, found, prompts(), 4)
    with Image.open(tmp_path / "grid.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
        first = [found[name].outcomes[0].seed % 256 for name in found]
        assert [int(pixels[8 + 64, 8 + 64 + 136 * column, 0]) for column in (0, 1)] == first
    assert not write_sheet(tmp_path / "none.png", tmp_path, found, prompts(), 0)


def test_progress_is_a_line_each_half_minute_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 10.0, 31.0, 40.0])
    with picture_progress("base", 40, Console(force_terminal=False), lambda: next(clock)) as advance:
        for _ in range(3):
            advance(10)
        assert capsys.readouterr().err == "base: 20 of 40 pictures, 0.6 pictures/s, 31 s left\n"
