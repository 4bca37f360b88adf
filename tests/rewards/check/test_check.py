"""``python -m rewards.check``: every rule passes for a good plug-in and names the fault of a bad one."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rewards.check.__main__ import main
from rewards.check.rules import Finding, findings
from rewards.check.samples import trial_samples
from rewards.golden import Golden
from rl.data.prompts import jsonl
from rl.types import Prompt, Sample


def bright(samples: Sequence[Sample], *, target: float = 0.8) -> list[float]:
    return [1.0 - abs(float(sample.picture.mean()) / 255 - target) for sample in samples]


def constant(samples: Sequence[Sample]) -> list[float]:
    return [0.5 for _ in samples]


def never(samples: Sequence[Sample]) -> list[None]:
    return [None for _ in samples]


def proven(samples: Sequence[Sample]) -> list[float]:
    """All trial pictures are of one size; its own are not."""
    return [float(sample.picture.shape[0] >= 64) for sample in samples]


def tiny_and_large() -> list[Golden]:
    prompt = Prompt("golden", "x")
    small, big = (Sample(str(side), "g", prompt, np.zeros((side, side, 3), np.uint8)) for side in (8, 64))
    return [Golden(small, at_most=0.0), Golden(big, at_least=1.0)]


proven.golden = tiny_and_large  # type: ignore[attr-defined]


def bracketed(samples: Sequence[Sample]) -> list[float]:
    raise ValueError("[/red] [bold]x[/bold]")


def short(samples: Sequence[Sample]) -> list[float]:
    return [0.5] * (len(samples) - 1)


def rank(samples: Sequence[Sample]) -> list[float]:
    return [float(place) for place, _ in enumerate(samples)]


def relative(samples: Sequence[Sample]) -> list[float]:
    means = [float(sample.picture.mean()) for sample in samples]
    return [mean - float(np.mean(means)) for mean in means]


def paints(samples: Sequence[Sample]) -> list[float]:
    for sample in samples:
        sample.picture[0] = 0
    return bright(samples)


def forgets(samples: Sequence[Sample]) -> list[float]:
    for sample in samples:
        sample.prompt.metadata.pop("text", None)  # type: ignore[attr-defined]
    return bright(samples)


def rolls(samples: Sequence[Sample]) -> list[float]:
    return [random.random() for _ in samples]


def first_only(samples: Sequence[Sample]) -> list[float]:
    return [bright([samples[0]])[0], *bright(samples[1:])]


def one_more(samples: Sequence[Sample]) -> list[float]:
    return bright(samples) if samples else [0.0]


def square_only(samples: Sequence[Sample]) -> list[float]:
    for sample in samples:
        if sample.picture.shape[0] != sample.picture.shape[1]:
            raise ValueError("wants square pictures")
    return bright(samples)


class Shared:
    """Keeps its batch in itself, so a second thread overwrites it."""

    def __init__(self) -> None:
        self.samples: Sequence[Sample] = []

    def __call__(self, samples: Sequence[Sample]) -> list[float]:
        self.samples = samples if threading.current_thread() is threading.main_thread() else samples[::-1]
        time.sleep(0.005)
        return bright(self.samples)


def found(name: str, *, processes: bool = False, **options: object) -> dict[str, Finding]:
    use = name if name == "geneval" else f"{__name__}:{name}"
    return {one.subject: one for one in findings(use, options, processes=processes)}


def test_a_good_plug_in_keeps_every_rule() -> None:
    result = found("bright", processes=True, target=0.9)
    assert {one.level for one in result.values()} == {"ok"}
    assert set(result) == {
        "loading", "answers", "mutation", "determinism", "values", "empty batch", "sizes", "speed", "order",
        "batching", "threads", "process",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "subject", "level", "sentence"),
    [
        ("short", "answers", "error", "16 of 16 samples fail: returned 15 values for 16 samples"),
        ("paints", "mutation", "error", "it changes the pictures it judges; copy them first (picture.copy())"),
        ("forgets", "mutation", "error", "it changes the metadata, which other rewards read; copy it first"),
        ("constant", "values", "error", "it applies to 16 of 16 samples and gives 0.5 to each: a constant teaches"),
        ("never", "values", "error", "it applies to 0 of 16 samples, so nothing is known of it; give prompts it is"),
        ("proven", "values", "warning", "it applies to 16 of 16 samples and gives 1 to each: a constant teaches no"),
        ("rank", "order", "error", "a batch in reverse order gets other scores: trial-0-0 got 0, then 15"),
        ("relative", "batching", "error", "a sample alone gets another score than in a batch: trial-0-0 got "),
        ("rolls", "determinism", "warning", "the same samples get other scores the second time: trial-0-0 got "),
        ("first_only", "empty batch", "warning", "raises IndexError: list index out of range (test_check.py:"),
        ("one_more", "empty batch", "error", "returns 1 values for no samples"),
        ("square_only", "sizes", "warning", "96 x 48 pictures fail: ValueError: wants square pictures (test_check.py:"),
        ("Shared", "threads", "warning", "two threads at once change scores: trial-0-"),
    ],
)
def test_each_fault_is_named(name: str, subject: str, level: str, sentence: str) -> None:
    finding = found(name)[subject]
    assert finding.level == level
    assert finding.sentence.startswith(sentence)


def test_random_scores_are_not_compared() -> None:
    assert not {"order", "batching", "threads"} & set(found("rolls"))


def test_a_worker_process_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.25)  # here, not in the worker
    assert found("rolls", processes=True)["process"].sentence.startswith("a worker process gives other scores: trial-")


def test_geneval_applies_to_the_trial_prompts() -> None:
    assert found("geneval")["values"].sentence == "it applies to 16 of 16 samples, with values from 0 to 1"


@pytest.mark.parametrize("classes", [("bicycle", "person"), ("circle", "star", "heart", "ring", "cross")])
def test_geneval_is_tried_with_classes_that_its_detector_knows(
    classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.rewards.library.geneval.test_reward.Fixed.classes", classes, raising=False)
    result = found("geneval", detector="tests.rewards.library.geneval.test_reward:Fixed")
    assert result["answers"].level == "ok"
    count = 4 * min(4, len(classes))
    assert result["values"].sentence.startswith(f"it applies to {count} of {count} samples")


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"{__name__}:bright", "--option", "target=0.9", "--no-processes"]) == 0
    assert "fit for a run" in capsys.readouterr().out
    assert main([f"{__name__}:rank", "--no-processes"]) == 1
    assert capsys.readouterr().out.endswith(f"{__name__}:rank: not fit for a run, 2 errors\n")
    assert main([f"{__name__}:nope"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "has no 'nope'" in error
    assert main([f"{__name__}:constant", "--no-processes"]) == 1
    assert capsys.readouterr().out.endswith(f"{__name__}:constant: not fit for a run, 1 error\n")
    assert main([f"{__name__}:bracketed", "--no-processes"]) == 1
    assert "16 of 16 samples fail: ValueError: [/red] [bold]x[/bold] (test_check.py:" in capsys.readouterr().out
    assert main([f"{__name__}:bright", "--option", "target"]) == 2
    assert capsys.readouterr().err == (
        "error: --option 'target' is not of the form key=value, for example --option batch_size=16\n"
    )
    assert main([f"{__name__}:bright", "--option", "target=1", "--option", "target=2"]) == 2
    assert capsys.readouterr().err == "error: --option target is given twice\n"
    assert main([f"{__name__}:bright", "--option", "target=[1"]) == 2
    assert capsys.readouterr().err.startswith("error: --option target=[1: not valid YAML: ")
    assert main([f"{__name__}:bright", "--prompts", str(tmp_path / "none.jsonl")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no prompt file ")


def test_own_prompts(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"id": "a", "prompt": "x", "text": "CAT"}\n\n{"id": "b", "prompt": "y"}\n')
    samples = trial_samples(jsonl(path=str(file)))
    assert [sample.prompt.id for sample in samples] == ["a"] * 4 + ["b"] * 4
    assert samples[0].prompt.metadata["text"] == "CAT"
    assert main([f"{__name__}:bright", "--prompts", str(file), "--no-processes"]) == 0
