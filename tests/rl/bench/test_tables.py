from __future__ import annotations

from pathlib import Path

import pytest

from rl.bench.aims import aims
from rl.bench.contract import StageFloor, StepTaken
from rl.bench.results import read, write
from rl.bench.tables import report
from rl.types import UserError
from tests.rl.bench.fakes import figures

PLAIN = """\
examples/geneval.yaml: 2 prompts x 4 = 8 pictures a step, median of 3 steps in turn

variant               settings  pictures/s       s/step (range)  x TRL  peak memory  mean reward  first ratio off by
ours, equal settings      fp32           5  1.60 (1.50 .. 1.90)   1.25      1.07 GB        0.600               1e-07
TRL, own generate         fp32           4  2.00 (1.80 .. 2.20)   1.00      2.15 GB        0.500                   -
ours, best settings       fp32          16  0.50 (0.50 .. 0.60)   4.00      1.07 GB        0.600               1e-07

TRL, vLLM: not measured: it says no

ours, equal settings: fp32

stage  seconds  GFLOP  floor, s  x floor
paint    0.800   10.0     0.500     1.60
rest     0.800      -         -        -
step     1.600   10.0     0.500     3.20

one step of it by kind of work, profiled

kind of work        seconds  share  floor, s
attention             0.400    25%     0.100
copies and gathers    1.200    75%         -
rewards                   -      -     0.400

ours, equal settings, aims: 1.3 x TRL: 1.538 s = 3.08 x the floor, not reached, 0.062 s too many; near the floor: \
0.650 s = 1.30 x the floor, not reached, 0.950 s too many. The step of 1.600 s is 0.500 s of floor and 1.100 s \
beyond it: rest 0.800; paint 0.300. In the profiled step attention and products took 0.400 s for 0.100 s of floor. \
What is neither attention nor products took 1.200 of 1.600 s: copies and gathers 1.200. If nothing else changed, so \
much of it would have to go: 5% (1.3 x TRL), 79% (near the floor).

Some CPU, 2 cores, torch 2.13.0, trl 1.16.0; bf16 instructions: none
"""


def test_on_a_terminal() -> None:
    assert report(figures()) == PLAIN


def test_in_markdown_the_cells_are_the_same() -> None:
    text = report(figures(), markdown=True)
    assert "| stage | seconds | GFLOP | floor, s | x floor |\n| --- | ---: | ---: | ---: | ---: |\n" in text
    assert "| paint | 0.800 | 10.0 | 0.500 | 1.60 |" in text
    words = text.replace("|", " ").replace("---:", " ").replace("---", " ").split()
    assert words == PLAIN.split()


def test_what_is_reached_and_what_other_processes_did() -> None:
    found = figures()
    found.outcomes[1].steps = [StepTaken(2.6, {}, 0.5)]
    found.outcomes[0].floor.append(StageFloor("score", 0.0, 0.9))
    (told,) = aims(found)
    assert (
        "1.3 x TRL: 2.000 s = 1.43 x the floor, reached; near the floor: 1.820 s = 1.30 x the floor, reached." in told
    )
    assert "is 1.400 s of floor and 0.200 s beyond it: rest 0.800; paint 0.300; score -0.900." in told
    assert "Less than its floor: score, done by other processes while the step goes on" in told


def test_without_trl_there_is_no_ratio() -> None:
    alone = figures()
    del alone.outcomes[1:3]
    assert alone.ratio("ours") is None
    assert "1.60 (1.50 .. 1.90)      -" in report(alone)
    assert "ours, equal settings, aims: near the floor: 0.650 s = 1.30 x the floor, not reached" in report(alone)


def test_both_at_best_settings() -> None:
    found = figures()
    found.outcomes[1].name = "trl-best"
    assert "Both at best settings: ours x 4.00 of TRL." in report(found)


def test_figures_are_read_as_they_were_written(tmp_path: Path) -> None:
    write(figures(), tmp_path / "bench.json")
    assert read(tmp_path / "bench.json") == figures()


@pytest.mark.parametrize("content", ["{", "[]", '{"run": "x"}', '{"outcomes": [{"name": "ours"}]}'])
def test_another_file_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(UserError, match="holds no figures of this command; write them with --json"):
        read(path)


def test_a_file_that_cannot_be_written_or_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--json: .* cannot be written \(No such file or directory\)"):
        write(figures(), tmp_path / "no" / "folder.json")
    with pytest.raises(UserError, match=r"--from: .* cannot be read \(No such file or directory\)"):
        read(tmp_path / "no.json")
