from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from rl.bench import __main__ as command
from rl.bench.results import FIGURES, Figures, bf16_instructions, read, write
from rl.bench.tables import report
from tests.rl.bench.fakes import FakeWorker, figures

ROOT = Path(__file__).parents[3]
BEGIN, END = "<!-- bench -->\n", "<!-- /bench -->"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--variants", "ours,tlr"], "--variants: there is no variant 'tlr', did you mean 'trl'?"),
        (["--steps", "0"], "argument --steps: '0' is not a whole number from 1"),
        (["--steps", "500"], "--steps is 500: a worker takes at most 500, 2 to warm up among them"),
        (["--record", "--variants", "ours"], "--record keeps the figures of all variants: leave --variants out"),
        (["--from", "nowhere.json"], "--from: nowhere.json cannot be read (No such file or directory)"),
        (["no-such.yaml"], "no-such.yaml"),
        (["train.steeps=3"], "train.steeps"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = command.main(arguments)
    except SystemExit as left:
        code = left.code
    assert code == 2
    assert sentence in capsys.readouterr().err


def test_without_trl_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([]) == 2
    assert capsys.readouterr().err == (
        "error: --variants: trl needs TRL, which is not installed: type `pip install 'trl==1.16.*'`, or measure "
        "without it: --variants ours,ours-best\n"
    )


def test_figures_of_a_file_are_printed_and_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(figures(), tmp_path / "bench.json")
    assert command.main(["--from", str(tmp_path / "bench.json"), "--markdown"]) == 0
    assert capsys.readouterr().out == report(figures(), markdown=True)


def test_a_whole_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[str] = []
    seconds = iter([(1.0,), (2.0,)])
    monkeypatch.setattr(command, "BenchProcess", lambda told: FakeWorker(told.side, heard, next(seconds)))
    path = tmp_path / "bench.json"
    given = ["data.prompts_per_step=4", "--variants", "ours,trl", "--steps", "2", "--json", str(path)]
    assert command.main(given) == 0
    assert "round 4 of 4: ours 1.00 s, trl 2.00 s" in (said := capsys.readouterr()).err
    assert said.out == report(read(path))
    found = read(path)
    assert (found.pictures, found.ratio("ours")) == (32, 2.0)
    assert found.run == (
        "examples/geneval.yaml data.prompts_per_step=4: 4 prompts x 8 = 32 pictures a step, median of 2 steps in turn"
    )


def test_the_exit_code_says_that_ours_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "BenchProcess", lambda told: FakeWorker(told.side, [], fails_at="ready"))
    assert command.main(["--variants", "ours,trl", "--steps", "1"]) == 1


def test_bf16_instructions() -> None:
    assert bf16_instructions("fpu avx512f avx512_bf16 amx_bf16") == ["amx_bf16", "avx512_bf16"]
    assert bf16_instructions("fpu avx2") == []


def recorded() -> Figures:
    return read(FIGURES)


def test_recorded_figures_are_complete() -> None:
    found = recorded()
    assert all(found.ratio(name) is not None for name in ("ours", "ours-best", "trl-best"))
    assert all(one.floor for one in found.outcomes if one.name.startswith("ours"))


def test_the_readme_shows_the_recorded_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = text.partition(BEGIN)[2].partition(END)[0]
    assert shown == report(recorded(), markdown=True)
